"""Sites that learn alone: nothing is averaged, and in the end each adapter visits the other sites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedse.adapters.files import load_adapter
from fedse.config import RunConfig
from fedse.errors import RunError
from fedse.experience.trajectory_files import read_trajectories
from fedse.federation.run import run
from fedse.runs.layout import RunFolder
from fedse.runs.records import read_records
from helpers.toy_runs import toy_client, toy_config, update

pytestmark = pytest.mark.usefixtures("toy")

SITES = (toy_client("alpha"), toy_client("beta", options={"secret": "b"}))
SAMPLED = {"decoding": "sampled", "samples": 8}


def isolated(*sites: dict[str, Any], **changes: Any) -> RunConfig:
    return toy_config(*(sites or SITES), method={"strategy": "isolated"}, **changes)


def test_a_site_is_what_it_would_be_alone(tmp_path: Path) -> None:
    run(isolated(), tmp_path / "together")
    for site in SITES:
        run(isolated(site), tmp_path / site["name"])
        for number in (1, 2):
            ours, theirs = (
                update(folder, number, site["name"]) for folder in (tmp_path / "together", tmp_path / site["name"])
            )
            assert ours.digest == theirs.digest


def test_no_adapter_is_global_after_the_start(tmp_path: Path) -> None:
    result = run(isolated(), tmp_path)
    assert [path.parent.name for path in tmp_path.glob("server/rounds/*/global")] == ["000"]
    assert result.adapters == {name: tmp_path / "server/rounds/002/adapters" / name for name in ("alpha", "beta")}
    with pytest.raises(RunError, match=r"every site of .* has its own adapter: there is no global one"):
        _ = result.adapter
    for record in result.records[1:]:
        folder = tmp_path / f"server/rounds/{record.round:03d}/adapters"
        assert record.adapter == ""
        assert record.adapters == {name: load_adapter(folder / name).digest for name in ("alpha", "beta")}
        assert {metrics["outcome"] for metrics in record.clients.values()} == {"ok"}


def test_each_site_is_evaluated_with_its_own_adapter(tmp_path: Path) -> None:
    run(isolated(evaluation=SAMPLED), tmp_path / "together")
    [record] = read_records(RunFolder(tmp_path / "together").server)[2:]
    assert set(record.evaluation) == {"toy@alpha", "toy@beta"}
    for site in SITES:
        alone = run(isolated(site, evaluation=SAMPLED), tmp_path / site["name"])
        assert record.evaluation[f"toy@{site['name']}"] == alone.after["toy"]


def test_in_the_end_each_adapter_visits_all_other_sites(tmp_path: Path) -> None:
    result = run(isolated(toy_client("gamma", options={"secret": "c"}), *SITES), tmp_path)
    assert all(record.transfer == {} for record in result.records[:-1])
    last = result.records[-1]
    names = ["alpha", "beta", "gamma"]
    assert {owner: list(rates) for owner, rates in last.transfer.items()} == {
        name: [f"toy@{host}" for host in names] for name in names
    }
    for owner in names:
        for host in names:
            rate = last.transfer[owner][f"toy@{host}"]
            own = owner == host
            episodes = read_trajectories(episodes_of(tmp_path, host, 2, "" if own else owner))
            assert (rate.episodes, rate.successes) == (4, sum(bool(episode.success) for episode in episodes))
            assert not own or rate == last.evaluation[f"toy@{host}"]
    assert read_records(RunFolder(tmp_path).server) == result.records


def test_another_sites_adapter_is_really_the_one_that_plays(tmp_path: Path) -> None:
    """Both sites have the same tasks, so a visitor does as at home."""
    sites = [toy_client("alpha"), toy_client("beta")]
    last = run(isolated(*sites, rounds=1, training={"learning_rate": 0.5}), tmp_path).records[-1]
    alpha, beta, beta_at_alpha, alpha_at_beta = (
        [
            [turn.response for turn in episode.turns]
            for episode in read_trajectories(episodes_of(tmp_path, host, 1, owner))
        ]
        for host, owner in (("alpha", ""), ("beta", ""), ("alpha", "beta"), ("beta", "alpha"))
    )
    assert alpha != beta
    assert (alpha_at_beta, beta_at_alpha) == (alpha, beta)
    assert last.seconds["evaluate"] > 0


def episodes_of(folder: Path, host: str, number: int, owner: str) -> Path:
    return RunFolder(folder).site(host).environment(host).evaluation(number, owner)
