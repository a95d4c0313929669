from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedse.settings import dump_config
from helpers.subprocesses import HELPERS, environment
from helpers.toy_runs import adapters, fingerprint, toy_config


@pytest.mark.long
@pytest.mark.usefixtures("toy")
def test_a_run_killed_at_random_moments_is_the_uninterrupted_run(toy_distribution: Path, tmp_path: Path) -> None:
    config = toy_config()
    file, whole, killed = tmp_path / "config.yaml", tmp_path / "whole", tmp_path / "killed"
    file.write_text(dump_config(config))
    script = [sys.executable, HELPERS / "killed_run.py", file, whole, killed, "0"]
    variables = environment(toy_distribution, OMP_NUM_THREADS="1")
    done = subprocess.run(script, env=variables, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3
    assert adapters(killed, config) == adapters(whole, config)
    assert fingerprint(killed) == fingerprint(whole)
