"""A server needs its own folder and the bytes of replies, and nothing else of the sites."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedse.config import RunConfig
from fedse.federation.runtimes.process import ProcessRuntime
from fedse.federation.server import Server
from fedse.progress import silent
from fedse.runs.folder import open_server
from fedse.runs.layout import RunFolder, ServerFolder
from fedse.settings import dump_config
from fedse.sites.host import SiteHost
from helpers.runtimes import Recorded
from helpers.subprocesses import HELPERS, environment
from helpers.toy_runs import fingerprint, toy_client, toy_config

pytestmark = pytest.mark.usefixtures("toy")

CONFIG = toy_config(toy_client("alpha"), toy_client("beta", options={"secret": "b"}))


def recorded(config: RunConfig, sites: Path, server: Path) -> Recorded:
    """A run whose sites and whose server have roots of their own, and all that passed between them."""
    runtime = Recorded(ProcessRuntime(SiteHost(config, RunFolder(sites), listener=silent)))
    with open_server(config, ServerFolder(server), resume=False, software=lambda: {"source": "alone"}):
        Server(config, ServerFolder(server), runtime, listener=silent).run()
    return runtime


@pytest.mark.parametrize("strategy", ["mean", "isolated", "fedavgm", "fedsa"])
def test_a_server_comes_to_the_same_end_from_replies_alone(
    strategy: str, tmp_path: Path, toy_distribution: Path
) -> None:
    config = toy_config(*CONFIG.model_dump()["clients"], method={"strategy": strategy})
    runtime = recorded(config, tmp_path / "sites-root", tmp_path / "server")
    assert not (tmp_path / "sites-root/server").exists()
    assert not (tmp_path / "server/sites").exists()
    assert not list(tmp_path.glob("server/**/*.sqlite"))
    shutil.rmtree(tmp_path / "sites-root")

    found = served_alone(config, tmp_path, tmp_path / "alone", runtime, toy_distribution)
    assert fingerprint(tmp_path / "alone") == fingerprint(tmp_path / "server")
    for room in ("torch", "transformers", "peft", "fedse.sites", "fedse.environments", "fedse.models", "fedse.rollout"):
        assert not [name for name in found["modules"] if name == room or name.startswith(f"{room}.")]
    data = [path for path in found["opened"] if path.startswith(str(tmp_path))]
    assert data
    assert all(path.startswith(str(tmp_path / "alone")) for path in data)

    # It goes on with what lies there, too.
    half = tmp_path / "half"
    shutil.copytree(tmp_path / "server", half, ignore=lambda folder, names: [name for name in names if name == "002"])
    lines = (half / "metrics.jsonl").read_text().splitlines(keepends=True)
    (half / "metrics.jsonl").write_text("".join(lines[:2]))
    served_alone(config, tmp_path, half, runtime, toy_distribution)
    assert fingerprint(half) == fingerprint(tmp_path / "server")


def served_alone(
    config: RunConfig, scratch: Path, server: Path, runtime: Recorded, distribution: Path
) -> dict[str, Any]:
    """What a process imported and opened that served with replies from a record."""
    file, record = scratch / "config.yaml", scratch / "record.json"
    file.write_text(dump_config(config))
    sent = [[site, *(base64.b64encode(data).decode() for data in both)] for site, *both in runtime.sent]
    record.write_text(json.dumps(sent))
    script = [sys.executable, HELPERS / "replayed_server.py", file, server, record]
    done = subprocess.run(
        script, env=environment(distribution), capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_on_one_machine_both_folders_are_the_run_folder(tmp_path: Path) -> None:
    apart = recorded(CONFIG, tmp_path / "sites-root", tmp_path / "server-root")
    together = tmp_path / "run"
    folder = RunFolder(together)
    runtime = Recorded(ProcessRuntime(SiteHost(CONFIG, folder, listener=silent)))
    with open_server(CONFIG, folder.server, resume=False, software=lambda: {"source": "alone"}):
        Server(CONFIG, folder.server, runtime, listener=silent).run()
    assert [(site, asked) for site, asked, _ in runtime.sent] == [(site, asked) for site, asked, _ in apart.sent]
    assert fingerprint(folder.server.root) == fingerprint(tmp_path / "server-root")
    assert fingerprint(folder.sites) == fingerprint(tmp_path / "sites-root/sites")


def test_an_instruction_holds_all_that_a_site_needs(tmp_path: Path) -> None:
    """Sites that never saw the server's folder give the same replies to the same instructions."""
    runtime = recorded(CONFIG, tmp_path / "first", tmp_path / "server")
    host = SiteHost(CONFIG, RunFolder(tmp_path / "second"), listener=silent)
    for site, asked, _ in runtime.sent:
        host.answer(site, asked)
    assert fingerprint(tmp_path / "second") == fingerprint(tmp_path / "first")


def test_a_site_does_a_round_once_however_often_it_is_asked(tmp_path: Path) -> None:
    runtime = recorded(CONFIG, tmp_path / "sites", tmp_path / "server")
    host = SiteHost(CONFIG, RunFolder(tmp_path / "sites"), listener=silent)
    last = [entry for entry in runtime.sent if b'"round":2' in entry[1]]
    assert last
    for site, asked, reply in last:
        assert host.answer(site, asked) == reply


def test_the_order_of_sites_changes_no_byte(tmp_path: Path) -> None:
    recorded(CONFIG, tmp_path / "sites", tmp_path / "server")
    backwards = CONFIG.model_copy(update={"clients": tuple(reversed(CONFIG.clients))})
    with open_server(backwards, ServerFolder(tmp_path / "back"), resume=False, software=dict):
        host = ProcessRuntime(SiteHost(backwards, RunFolder(tmp_path / "other"), listener=silent))
        Server(backwards, ServerFolder(tmp_path / "back"), host, listener=silent).run()
    ours, theirs = fingerprint(tmp_path / "back"), fingerprint(tmp_path / "server")
    for name in ("config.yaml", "versions.json"):
        ours.pop(name)
        theirs.pop(name)
    assert ours == theirs
