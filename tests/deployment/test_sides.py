"""Server and site as processes of their own, as their operators see them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peft import PeftModel

from fedse.deployment.files import load_site_file
from fedse.deployment.local import SERVER, LocalFederation
from fedse.deployment.server import server_status
from fedse.deployment.site import ask_site
from fedse.errors import RunError
from fedse.models.tiny import tiny_model
from fedse.runs.records import read_records
from helpers.deployed import SECONDS, small_run

pytestmark = pytest.mark.long


def fedse(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fedse", *arguments], capture_output=True, text=True, check=False)


def until(true: Callable[[], bool]) -> None:
    ends = time.monotonic() + SECONDS
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalFederation]:
    """A federation whose server has done its round; the sites still run."""
    with LocalFederation(small_run(), home=tmp_path_factory.mktemp("federation") / "sides") as federation:
        federation.start_all()
        federation.wait(SECONDS)
        yield federation


def test_the_server_tells_what_it_did_and_where_it_is(done: LocalFederation) -> None:
    log = done.sides[SERVER].log.read_text()
    assert "2/2 updates" in log
    assert "Success on held-out tasks, round 0 and round 1" in log
    assert str(done.sides[SERVER].data) in log
    assert "node_id" not in log, "Flower's own log is closed"


def test_a_servers_status_says_who_answered(done: LocalFederation) -> None:
    told = fedse("server", "status", "--config", str(done.sides[SERVER].config))
    assert told.returncode == 0
    lines = told.stdout.splitlines()
    assert lines[0] == "no process is at work; round 1 of 1 is complete"
    assert [line.split() for line in lines if line.startswith("1 ")] == [["1", "2", "of", "2"]]
    assert {line.split()[0]: line.split()[-1] for line in lines if "not heard of" in line} == {
        "maze": "ok",
        "wordle": "ok",
    }


def test_a_sites_status_says_what_it_does(done: LocalFederation) -> None:
    told = fedse("site", "status", "--config", str(done.sides["maze"].config))
    assert told.returncode == 0, told.stderr
    process = done.sides["maze"].process
    assert process is not None
    assert told.stdout.startswith(f"site maze: process {process.pid}, up for ")
    assert "waits for the server" in told.stdout
    assert "refused 0" in told.stdout


def test_a_report_is_made_of_the_servers_folder_alone(done: LocalFederation, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    told = fedse("report", str(done.sides[SERVER].data), "--out", str(page))
    assert told.returncode == 0, told.stderr
    assert "wordle" in page.read_text()


def test_peft_loads_the_adapter_of_a_round(done: LocalFederation) -> None:
    model = PeftModel.from_pretrained(tiny_model(), str(done.server_folder.global_adapter(1)))
    assert model.peft_config["default"].r == 2


def test_nothing_of_a_site_is_at_the_server(done: LocalFederation) -> None:
    kinds = {path.name for path in done.sides[SERVER].data.rglob("*")}
    assert "metrics.jsonl" in kinds
    assert not kinds & {"trajectories", "experience.sqlite", "evaluation", "sites"}
    for site in ("maze", "wordle"):
        assert (done.sides[site].data / "site.lock").exists()
        assert [*done.sides[site].data.rglob("experience.sqlite")]


def test_folders_are_closed_to_others(done: LocalFederation) -> None:
    for side in done.sides.values():
        assert side.folder.stat().st_mode & 0o077 == 0


def test_another_process_of_the_site_is_refused(done: LocalFederation) -> None:
    told = fedse("site", "start", "--config", str(done.sides["maze"].config))
    assert told.returncode == 1
    assert "another process works in" in told.stderr


def test_a_site_outlives_a_server_that_begins_anew(done: LocalFederation) -> None:
    """The run is done; a server that is started again finds it so, and its sites are as they were."""
    before = read_records(done.server_folder)
    done.start(SERVER)
    done.wait(SECONDS)
    assert read_records(done.server_folder) == before
    assert ask_site(load_site_file(done.sides["wordle"].config), "status")["refused"] == 0


def test_a_stopped_site_leaves_nothing_running(done: LocalFederation) -> None:
    side = done.sides["wordle"]
    told = fedse("site", "stop", "--config", str(side.config))
    assert told.returncode == 0, told.stderr
    assert side.process is not None
    assert side.process.wait(10) == 0
    gone = fedse("site", "status", "--config", str(side.config))
    assert gone.returncode == 1
    assert "no process listens" in gone.stderr


def test_a_finished_run_waits_for_no_site(done: LocalFederation) -> None:
    for site in ("maze", "wordle"):
        done.stop(site)
    done.start(SERVER)
    done.wait(SECONDS)


def test_a_server_goes_on_without_a_site_that_was_revoked(tmp_path: Path) -> None:
    with LocalFederation(small_run(rounds=3), home=tmp_path / "sides") as federation:
        federation.start_all()
        until(lambda: bool(read_records(federation.server_folder)))
        federation.kill(SERVER)
        (federation.sides[SERVER].folder / "sites" / "maze.pub").unlink()
        federation.start(SERVER)
        federation.wait(SECONDS)
        assert "no key for site maze" in federation.sides[SERVER].log.read_text()
        last = read_records(federation.server_folder)[-1]
        assert {site: last.clients[site]["outcome"] for site in ("maze", "wordle")} == {
            "maze": "absent",
            "wordle": "ok",
        }


@pytest.mark.parametrize("side", [SERVER, "maze"])
def test_a_folder_that_cannot_be_made_is_told(done: LocalFederation, side: str) -> None:
    config = done.sides[side].config
    name, command = ("run", "server") if side == SERVER else ("data", "site")
    wrong = config.with_name("wrong.yaml")
    wrong.write_text(config.read_text().replace(f"\nfolder: {name}\n", "\nfolder: ca.pem/below\n"))
    told = fedse(command, "start", "--config", str(wrong))
    assert told.returncode == 1
    assert "Error: cannot make" in told.stderr
    assert "Traceback" not in told.stderr


def test_sites_without_a_key_are_named(tmp_path: Path) -> None:
    with LocalFederation(small_run(), home=tmp_path / "sides") as federation:
        (federation.sides[SERVER].folder / "sites" / "wordle.pub").unlink()
        federation.start(SERVER)
        with pytest.raises(RunError, match="no key for site wordle"):
            federation.wait(SECONDS)


def test_a_site_refuses_what_goes_beyond_its_limits_and_the_server_says_so(tmp_path: Path) -> None:
    with LocalFederation(small_run(), home=tmp_path / "sides") as federation:
        config = federation.sides["maze"].config
        config.write_text(config.read_text().replace("  rounds: 200", "  rounds: 0"))
        assert load_site_file(config).limits.rounds == 0
        federation.start_all()
        with pytest.raises(RunError, match="maze refused: ConfigError"):
            federation.wait(SECONDS)
        assert server_status(federation.server_file).records == ()
        errors = (federation.sides["maze"].data / "errors.log").read_text()
        assert "rounds: asks for 1; at most 0" in errors
        assert "asks for 1" not in federation.sides["maze"].log.read_text(), "words stay out of the log"
