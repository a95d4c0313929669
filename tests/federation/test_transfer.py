"""The transfer matrix of a run whose adapters differ in what they win."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedse.diagnostics.transfer import AFTER, BEFORE, transfer_matrix
from fedse.federation.run import run
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from helpers.toy_runs import toy_client, toy_config


@pytest.mark.usefixtures("toy")
def test_each_adapter_plays_for_itself_and_the_global_ones_as_in_the_run(tmp_path: Path) -> None:
    config = toy_config(
        toy_client("alpha"),
        toy_client("beta", demonstrations=1),
        evaluation={"decoding": "sampled", "samples": 30},
        training={"steps": 6, "learning_rate": 0.3},
    )
    run(config, tmp_path / "run")
    found = transfer_matrix(tmp_path / "run")
    records = read_records(RunFolder(tmp_path / "run").server)
    assert found.rates[BEFORE] == records[1].evaluation
    assert found.rates[AFTER] == records[2].evaluation
    wins = {adapter: rates["toy"].successes for adapter, rates in found.rates.items()}
    assert list(wins) == [BEFORE, "client alpha", "client beta", AFTER]
    assert len(set(wins.values())) > 2, f"adapters that differ win differently: {wins}"
    assert wins[BEFORE] != wins[AFTER]
