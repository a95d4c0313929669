from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import adapters, fingerprint, toy_config

from fedse.federation.layout import RunLayout
from fedse.federation.runtimes.in_process import run
from fedse.settings import dump_config

HERE = Path(__file__).parent


@pytest.mark.usefixtures("toy")
def test_a_run_killed_at_random_moments_is_the_uninterrupted_run(toy_distribution: Path, tmp_path: Path) -> None:
    config = toy_config()
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    # Also in a process of its own with one thread: sums on several threads may differ in the last bit.
    (tmp_path / "config.yaml").write_text(dump_config(config))
    environment = os.environ | {"PYTHONPATH": f"{HERE}{os.pathsep}{toy_distribution}", "OMP_NUM_THREADS": "1"}
    script = [sys.executable, str(HERE / "killed.py"), str(killed), str(tmp_path / "config.yaml"), "0"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    run(config, whole)
    assert adapters(killed, config) == adapters(whole, config)
    assert fingerprint(killed) == fingerprint(whole)
    assert not RunLayout(killed).root.joinpath("run.lock").read_bytes()
