from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedse.cli import doctor
from fedse.cli.doctor import Finding, Level
from fedse.cli.main import app


def test_the_machine_that_runs_the_tests_is_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    for topic in ("python", "libraries", "device", "dtype", "threads", "memory", "model", "environments"):
        assert topic in result.output


def test_a_missing_base_model_is_a_warning_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDSE_CACHE", str(tmp_path))
    own, finding = doctor.models()
    assert own.level is Level.OK, "the nano model is part of the package"
    assert finding.level is Level.WARN
    assert finding.mend == "fedse model pull smollm2-135m"


def test_a_library_in_an_unaccepted_version_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.requires", lambda _: ["torch>=99", "nowhere-to-be-found", "numpy"])
    (finding,) = doctor.requirements()
    assert finding.level is Level.FAIL
    assert "needs >=99" in finding.found
    assert "nowhere-to-be-found is missing" in finding.found
    assert "numpy" not in finding.found


def test_few_threads_on_many_cores_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (finding,) = doctor.threads()
    assert finding.level is Level.WARN
    assert "OMP_NUM_THREADS is 1" in finding.mend


def test_a_failure_is_shown_with_its_mend_and_sets_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding(Level.FAIL, "disk", "full", "free some space")

    monkeypatch.setattr(doctor, "CHECKS", (broken,))
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL" in result.output
    assert "→ free some space" in result.output


@pytest.mark.parametrize("home", ["a file", "nothing"])
def test_a_home_that_cannot_be_written_is_a_failure_that_names_the_cache(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for name in ("FEDSE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    if home == "nothing":
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda _: "~/.cache/fedse")
    monkeypatch.setattr(doctor, "CHECKS", (doctor.disk, doctor.models, doctor.environments))
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "set FEDSE_CACHE to a folder that" in result.output
    assert " 0 B free" not in result.output
    assert "wordle" in result.output, "the checks after it are made"
