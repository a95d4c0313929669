"""What a terminal gets to see: characters that it has, and no commands out of the texts of others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedse.cli.console import log, made_table, note, print_table, say
from fedse.experience.trajectory_files import write_trajectories
from fedse.types import Turn
from helpers.cli_calls import Cli
from helpers.made_episodes import episode
from helpers.subprocesses import environment

_HOSTILE = "\x1b]0;owned\x07\x1b[31mred\x9b2J\x00\x7f"


def _fedse(
    *words: str | Path, encoding: str, stdin: bytes = b"", columns: str = "200"
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "fedse", *map(str, words)],
        env=environment(PYTHONIOENCODING=encoding, COLUMNS=columns),
        input=stdin,
        capture_output=True,
        check=False,
    )


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_run_and_its_listings_end_well_on_a_terminal_without_unicode(
    encoding: str, config_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "Läufe"
    commands = (
        ("run", "--config", config_file, "--out", folder),
        ("ls", tmp_path),
        ("diagnose", folder),
        ("view", folder),
        ("env", "ls"),
        ("methods",),
        ("--help",),
        ("run", "--config", tmp_path / "missing–file.yaml"),
    )
    for words in commands:
        told = _fedse(*words, encoding=encoding)
        text = (told.stdout + told.stderr).decode(encoding)
        assert told.returncode == (2 if words[-1] != folder and "missing" in str(words[-1]) else 0), (words, text)
        assert "Traceback" not in text, (words, text)
        assert "\\u" not in text, (words, text)
    assert "-> check the path" in text
    assert "missing-file.yaml" in text


@pytest.mark.parametrize(
    ("encoding", "shown"), [("utf-8", "– → é ▁█ 迷 ?"), ("latin-1", "- -> é 18 ? ?"), ("ascii", "- -> e 18 ? ?")]
)
def test_what_a_terminal_lacks_is_spelled_with_what_it_has(encoding: str, shown: str) -> None:
    script = "from fedse.cli import console; console.fit_terminal(); console.say('– → é ▁█ 迷 \\udcff')"
    told = subprocess.run(
        [sys.executable, "-c", script], env=environment(PYTHONIOENCODING=encoding), capture_output=True, check=True
    )
    assert told.stdout.decode(encoding) == f"{shown}\n"


def test_what_a_player_types_in_another_encoding_is_no_crash() -> None:
    told = _fedse("play", "wordle", encoding="utf-8", stdin=b"\xff\xfe\n")
    assert told.returncode == 0, told.stderr.decode()
    assert "\ufffd" in told.stdout.decode() or "Left before the end" in told.stdout.decode()


def test_recorded_episodes_cannot_command_the_terminal(cli: Cli, tmp_path: Path) -> None:
    played = episode(1)
    turn = Turn(f"see {_HOSTILE}", f"Thought: {_HOSTILE}\nAction: {_HOSTILE}", _HOSTILE, 1.0)
    hostile = replace(played, instruction=_HOSTILE, turns=(turn,), final_observation=_HOSTILE, error=_HOSTILE)
    write_trajectories(tmp_path / "episodes.jsonl.gz", [hostile])
    shown = cli("view", tmp_path / "episodes.jsonl.gz").output
    assert "see ␛]0;owned" in shown
    assert "␛[31mred" in shown
    assert not [character for character in shown if ord(character) < 32 and character not in "\n"]
    assert not set(shown) & {"\x7f", "\x9b"}


@pytest.mark.parametrize("write", [say, note, log])
def test_no_way_to_print_lets_control_characters_through(
    write: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"told {_HOSTILE}")
    print_table(made_table(["name", _HOSTILE], [[_HOSTILE, "1"]], title=_HOSTILE))
    captured = capsys.readouterr()
    for shown in (captured.out, captured.err):
        assert "␛[31mred" in shown or not shown
        assert not set(shown) & {"\x1b", "\x7f", "\x9b", "\x00", "\x07"}


def test_an_error_that_quotes_others_cannot_command_the_terminal(cli: Cli, tmp_path: Path) -> None:
    shown = cli("view", tmp_path / f"no{_HOSTILE.replace(chr(0), '')}").output
    assert "␛[31mred" in shown
    assert "\x1b" not in shown
