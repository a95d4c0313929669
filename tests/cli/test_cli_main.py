from __future__ import annotations

import resource
import subprocess
import sys
import warnings
from collections.abc import Iterator
from importlib.metadata import version

import click
import pytest
import typer

from fedse.cli import console, doctor
from fedse.cli.main import app
from fedse.errors import RunError, UnknownNameError, VersionWarning
from helpers.cli_calls import Cli


def all_commands() -> list[list[str]]:
    def walk(command: click.Command, path: list[str]) -> Iterator[list[str]]:
        yield path
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*path, name])

    return list(walk(typer.main.get_command(app), []))


@pytest.mark.parametrize("path", all_commands(), ids=" ".join)
def test_every_command_explains_itself_with_examples(cli: Cli, path: list[str]) -> None:
    result = cli(*path, "--help")
    assert result.exit_code == 0
    if path not in (["env"], ["federation"], ["model"], ["server"], ["site"], ["suite"]):
        assert f"fedse {' '.join(path)}".rstrip() in result.output.split("Examples")[1]


def test_a_warning_for_the_user_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with console.warnings_shown():
        warnings.warn(VersionWarning("runs/x goes on with other versions from round 3"), stacklevel=1)
    assert capsys.readouterr().err == "Note: runs/x goes on with other versions from round 3\n"
    with pytest.warns(UserWarning, match="^of a library$"), console.warnings_shown():
        warnings.warn("of a library", stacklevel=1)


def test_help_costs_less_than_a_second() -> None:
    """Of processor time, which a busy machine does not stretch; the first call may still compile bytecode."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    seconds = []
    for _ in range(3):
        before = used()
        subprocess.run([sys.executable, "-m", "fedse", "--help"], check=True, capture_output=True)
        seconds.append(used() - before)
    assert min(seconds) < 1.0


def test_version(cli: Cli) -> None:
    assert cli("--version").output.strip() == f"fedse {version('fedse')}"


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def findings(_: object) -> Iterator[doctor.Finding]:
        raise error
        yield

    monkeypatch.setattr(doctor, "_findings", findings)


def test_our_errors_are_shown_with_their_mend_and_no_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, RunError("the run is broken: found [nothing]", "begin again"))
    result = cli("doctor")
    assert result.exit_code == 1
    assert result.stderr == "Error: the run is broken: found [nothing]\n  → begin again\n"
    assert result.stdout == ""


def test_usage_errors_exit_with_2(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, UnknownNameError("no such thing", "did you mean that?"))
    assert cli("doctor").exit_code == 2


@pytest.mark.parametrize("way", ["option", "variable"])
def test_developers_can_ask_for_the_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    error = RunError("broken")
    fail_with(monkeypatch, error)
    if way == "variable":
        monkeypatch.setenv("FEDSE_TRACEBACK", "1")
    result = cli(*(["--traceback"] if way == "option" else []), "doctor")
    assert result.exception is error


def test_a_programming_error_keeps_its_traceback(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    error = AttributeError("a bug")
    fail_with(monkeypatch, error)
    assert cli("doctor").exception is error


def test_an_interruption_exits_as_shells_expect(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_with(monkeypatch, KeyboardInterrupt())
    result = cli("doctor")
    assert result.exit_code == 130
    assert "Interrupted" in result.stderr
