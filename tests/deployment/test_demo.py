"""The demonstration shows every side, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

from fedse.deployment.demo import demonstrate
from fedse.deployment.local import LocalFederation, has_networks, own_network
from fedse.errors import RunError
from helpers.deployed import small_run

pytestmark = pytest.mark.long


def networks() -> list[str]:
    if shutil.which("ip") is None:
        return []
    listed = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=False).stdout
    return [line for line in listed.splitlines() if line.startswith(f"fedse-{os.getpid()}-")]


def test_it_shows_every_side_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    lines: list[tuple[str, str]] = []
    before = set(psutil.Process().children(recursive=True))  # such as the process that other tests' workers fork from
    shown = demonstrate(small_run(), line=lambda side, line: lines.append((side, line)))
    assert [record.round for record in shown.records] == [0, 1]
    server, *sites = shown.views
    assert [site.name for site in sites] == ["maze", "wordle"]
    assert set(server.files) == {"adapters", "records of rounds", "what sites sent"}
    for site in sites:
        assert {"experience", "explored and demonstrated episodes"} <= set(site.files)
        assert site.sent > 0
    assert server.received == sum(site.sent for site in sites)
    assert server.sent == sum(site.received for site in sites)
    assert shown.networks == has_networks()
    assert {side for side, _ in lines} == {"server", "maze", "wordle"}
    assert not [*tmp_path.iterdir()], "folders are gone"
    assert set(psutil.Process().children(recursive=True)) <= before, "processes are gone"
    assert not networks()


def test_sides_have_no_parent_in_common_that_either_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with LocalFederation(small_run()) as federation:
        folders = [side.folder for side in federation.sides.values()]
        assert {folder.parent for folder in folders} == {tmp_path}, "the system's folder for temporary files alone"
        assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)


@pytest.mark.skipif(not has_networks(), reason="needs Linux, root and iproute2")
def test_from_a_network_of_its_own_a_site_reaches_this_machine_alone() -> None:
    with own_network(7) as network:
        routes = subprocess.run([*network.within, "ip", "-4", "route"], capture_output=True, text=True, check=True)
        [route] = [line.split()[0] for line in routes.stdout.splitlines()]
        assert route == network.server.removesuffix("1") + "0/30"
    assert not networks()


def test_a_side_that_fails_is_told_with_its_log(tmp_path: Path) -> None:
    with LocalFederation(small_run(), home=tmp_path / "sides") as federation:
        (federation.sides["maze"].folder / "site.key").unlink()
        federation.start("maze")
        process = federation.sides["maze"].process
        assert process is not None
        process.wait(60)
        with pytest.raises(RunError, match=r"(?s)maze ended with code 1:.*site\.key"):
            federation.check_running()
