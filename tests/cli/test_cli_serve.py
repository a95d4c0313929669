"""``fedse env serve`` and what plays on it."""

from __future__ import annotations

import gzip
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cli_calls import Cli


@pytest.mark.parametrize("protocol", ["agentgym", "openenv"])
def test_a_served_environment_is_played_by_its_printed_name_until_an_interrupt(cli: Cli, protocol: str) -> None:
    command = [sys.executable, "-m", "fedse", "env", "serve", "wordle", "--port", "0", "-o", "size=20"]
    command += ["--protocol", protocol]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        name = process.stdout.readline().strip()
        assert name.startswith(f"{protocol}:http://127.0.0.1:")
        assert name.endswith("/wordle") == (protocol == "agentgym")
        shown = cli("env", "show", name)
        played = cli("play", name, "--who", "expert", "--task", "3")
        process.send_signal(signal.SIGINT)
        # Where the tests themselves run in the background of a script, the interrupt is ignored by inheritance: the
        # server then ends by its own handler, and nothing is raised after it.
        ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert process.wait(timeout=20) == (0 if ignored else 130)
        assert "Traceback" not in process.stderr.read()
    assert shown.exit_code == 0, shown.stderr
    assert name in shown.stdout
    assert played.exit_code == 0, played.stderr
    assert "success" in played.stdout


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--option", "size"], "key=value"),
        (["--option", "size=41"], "41"),
        (["--option", "size=[1"], "not YAML"),
        (["--option", "sizes=20"], "did you mean size"),
        (["--host", "host.invalid"], "cannot listen"),
        (["--protocol", "openenv", "--idle", "60"], "--idle has no effect"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_served(cli: Cli, words: list[str], complaint: str) -> None:
    result = cli("env", "serve", "wordle", "--port", "0", *words)
    assert result.exit_code == 2
    assert complaint in result.stderr


def test_a_port_that_is_taken_is_named(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = cli("env", "serve", "maze", "--port", str(port))
    assert result.exit_code == 2
    assert f"port {port}" in result.stderr


def test_replies_recorded_from_the_original_clients_are_replayed(cli: Cli, tmp_path: Path) -> None:
    posted = {"text": "Action: move up</s>", "posted": [{"path": "step", "action": "move u"}], "local": None}
    twice = "Error: Only one 'Action' is allowed per response. Please adjust your response."
    local = {"state": twice, "reward": 0, "done": False}
    cases = [
        {"env": "maze", **posted},
        {"env": "textcraft", "text": "Action: a\nAction: b", "posted": [], "local": local},
    ]
    path = tmp_path / "replies.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, cases)).encode()))
    result = cli("env", "replay", path)
    assert result.exit_code == 0, result.stderr
    assert "maze, textcraft, 2 episodes, 2 steps, 0 differences" in result.stdout
    cases[0]["posted"] = [{"path": "step", "action": "move up"}]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, cases)).encode()))
    result = cli("env", "replay", path)
    assert result.exit_code == 1
    assert "line 1, step 0, posted" in result.stdout
