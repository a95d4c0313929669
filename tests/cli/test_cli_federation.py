from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path

import pytest

from fedse.deployment import keys
from fedse.deployment.files import load_server_file, load_site_file
from helpers.cli_calls import Cli


@pytest.fixture
def federation(cli: Cli, tmp_path: Path) -> Path:
    folder = tmp_path / "federation"
    result = cli("federation", "init", "--preset", "tiny", "--server", "fl.example.org:7443", "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


def registered(folder: Path) -> dict[str, bytes]:
    found, problems = keys.registered_keys(folder / "server" / "sites")
    assert problems == []
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_init_makes_a_folder_for_each_side_that_works_by_itself(federation: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    for name in ("server", "site-maze", "site-wordle"):
        shutil.move(federation / name, moved / name)
    server = load_server_file(moved / "server" / "server.yaml")
    assert server.listen == "0.0.0.0:7443"
    assert keys.check_server(server.certificate, server.private_key, server.authority) > 360
    assert keys.certificate_hosts(server.certificate) == ("fl.example.org",)
    found, _ = keys.registered_keys(server.keys)
    for name in server.run.sites:
        site = load_site_file(moved / f"site-{name}" / "site.yaml")
        assert (site.site, site.server) == (name, "fl.example.org:7443")
        keys.read_site_key(site.private_key)
        assert keys.public_half(site.private_key) == found[name]
        assert site.authority.read_bytes() == server.authority.read_bytes()
    # The authority's key is in no folder that is moved.
    secret = (federation / "authority" / "ca.key").read_bytes()
    assert secret not in content(moved).values()


def test_init_says_what_goes_where_and_what_is_next(cli: Cli, tmp_path: Path) -> None:
    result = cli("federation", "init", "--sites", "maze,lab2", "--server", "fl.example.org", "--out", tmp_path / "f")
    assert result.exit_code == 0
    for part in ("site-maze", "site-lab2", "fedse server start --config", "fedse site start --config site-maze/"):
        assert part in result.output
    run = load_server_file(tmp_path / "f" / "server" / "server.yaml").run
    assert [(client.name, client.environment) for client in run.clients] == [("maze", "maze"), ("lab2", "babyai")]


def test_init_takes_the_run_as_fedse_run_does(cli: Cli, tmp_path: Path, config_file: Path) -> None:
    words = ("--config", config_file, "--set", "rounds=9", "--method", "fedit", "--out", tmp_path / "f")
    assert cli("federation", "init", "--server", "localhost", *words).exit_code == 0
    server = load_server_file(tmp_path / "f" / "server" / "server.yaml")
    assert (server.run.rounds, server.run.method.strategy) == (9, "weighted_mean")
    # A server that is meant for this machine alone is open to this machine alone.
    assert server.listen == "localhost:9443"


def test_a_second_init_refuses_and_changes_nothing(cli: Cli, federation: Path) -> None:
    before = content(federation)
    result = cli("federation", "init", "--preset", "tiny", "--server", "fl.example.org", "--out", federation)
    assert result.exit_code == 2
    assert "nothing in it is overwritten" in result.output
    assert content(federation) == before


def test_init_fills_an_empty_folder(cli: Cli, tmp_path: Path) -> None:
    result = cli("federation", "init", "--preset", "tiny", "--server", "::1", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert load_server_file(tmp_path / "server" / "server.yaml").listen == "[::1]:9443"
    assert load_site_file(tmp_path / "site-maze" / "site.yaml").server == "[::1]:9443"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--server", "fl.example.org:x"), "host or host:port"),
        (("--server", "not_a_host!"), "neither a host name nor an IP address"),
        (("--server", "a.org:1", "--server", "b.org:2"), "one port"),
        (("--server", "a.org", "--sites", "a,a"), "names a twice"),
        (("--server", "a.org", "--sites", "a,../b"), "letters, digits"),
        (("--server", "a.org", "--sites", "a,A"), "names that differ"),
        (("--server", "a.org", "--preset", "tinny"), "did you mean tiny"),
    ],
)
def test_a_wrong_init_leaves_nothing(cli: Cli, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    result = cli("federation", "init", *words, "--out", tmp_path / "f")
    assert result.exit_code in (1, 2)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert told in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_site_that_makes_its_key_itself_keeps_it(cli: Cli, tmp_path: Path) -> None:
    folder, there = tmp_path / "f", tmp_path / "there"
    words = ("--preset", "tiny", "--server", "fl.example.org", "--out", folder, "--sites-make-keys")
    assert cli("federation", "init", *words).exit_code == 0
    assert registered(folder) == {}
    shutil.move(folder / "site-maze", there)

    made = cli("federation", "key", "--config", there / "site.yaml")
    assert made.exit_code == 0
    [shown] = re.findall(r"fingerprint: (.*)", made.output)
    assert stat.S_IMODE((there / "site.key").stat().st_mode) == 0o600
    again = cli("federation", "key", "--config", there / "site.yaml")
    assert again.exit_code == 1
    assert "no key is overwritten" in again.output

    added = cli("federation", "add-site", "maze", "--key", there / "maze.pub", "--folder", folder)
    assert added.exit_code == 0
    assert shown in added.output
    assert registered(folder)["maze"] == keys.public_half(there / "site.key")
    assert not list((folder / "site-maze").glob("*.key"))


def test_add_site_makes_a_folder_like_those_of_init(cli: Cli, federation: Path) -> None:
    unknown = cli("federation", "add-site", "lab2", "--folder", federation)
    assert unknown.exit_code == 2
    assert "--environment" in unknown.output
    result = cli("federation", "add-site", "lab2", "--environment", "wordle", "--folder", federation)
    assert result.exit_code == 0
    assert "- name: lab2" in result.output  # it is for the operator to put into the run
    site = load_site_file(federation / "site-lab2" / "site.yaml")
    assert (site.server, site.environments[0].environment) == ("fl.example.org:7443", "wordle")
    assert registered(federation)["lab2"] == keys.public_half(site.private_key)
    assert stat.S_IMODE(site.private_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(site.private_key.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["maze", "Maze"])
def test_a_site_cannot_be_added_twice(cli: Cli, federation: Path, name: str) -> None:
    before = content(federation)
    result = cli("federation", "add-site", name, "--folder", federation)
    assert result.exit_code == 2
    assert "takes part already" in result.output
    assert content(federation) == before


def test_revoking_takes_the_key_away_and_no_other(cli: Cli, federation: Path) -> None:
    before = registered(federation)
    assert cli("federation", "revoke", "maze", "--folder", federation).exit_code == 0
    assert registered(federation) == {"wordle": before["wordle"]}
    [kept] = (federation / "server" / "revoked").iterdir()
    assert kept.read_bytes() == before["maze"]
    again = cli("federation", "revoke", "maze", "--folder", federation)
    assert again.exit_code == 2
    assert "no site maze takes part" in again.output


def test_a_revoked_key_does_not_come_back_but_its_site_may(cli: Cli, federation: Path, tmp_path: Path) -> None:
    old = tmp_path / "old.pub"
    old.write_bytes(registered(federation)["maze"])
    cli("federation", "revoke", "maze", "--folder", federation)
    result = cli("federation", "add-site", "maze", "--key", old, "--folder", federation)
    assert result.exit_code == 1
    assert "a key that was revoked" in result.output
    assert cli("federation", "add-site", "maze", "--folder", federation).exit_code == 0
    assert registered(federation)["maze"] == keys.public_half(federation / "site-maze" / "site.key")
    assert registered(federation)["maze"] != old.read_bytes()


def test_a_key_that_another_site_has_is_refused(cli: Cli, federation: Path) -> None:
    key = federation / "server" / "sites" / "wordle.pub"
    words = ("add-site", "lab2", "--environment", "maze", "--key", key)
    result = cli("federation", *words, "--folder", federation)
    assert result.exit_code == 1
    assert "the key of the site wordle" in result.output
    assert "lab2" not in registered(federation)
    assert not (federation / "site-lab2").exists(), "what is refused leaves nothing"


def test_a_private_key_in_place_of_a_public_one_is_refused(cli: Cli, federation: Path) -> None:
    result = cli("federation", "rotate", "maze", "--key", federation / "site-maze" / "site.key", "-f", federation)
    assert result.exit_code == 1
    assert "holds no public key" in result.output


def test_rotate_gives_a_site_another_key_and_revokes_the_old_one(cli: Cli, federation: Path) -> None:
    before = registered(federation)
    assert cli("federation", "rotate", "maze", "--folder", federation).exit_code == 0
    after = registered(federation)
    assert after["maze"] != before["maze"]
    assert after["wordle"] == before["wordle"]
    assert after["maze"] == keys.public_half(federation / "site-maze" / "site.key")
    assert [path.read_bytes() for path in (federation / "server" / "revoked").iterdir()] == [before["maze"]]
    assert stat.S_IMODE((federation / "site-maze" / "site.key").stat().st_mode) == 0o600


def test_rotate_gives_the_server_another_certificate_that_sites_take(cli: Cli, federation: Path) -> None:
    server = load_server_file(federation / "server" / "server.yaml")
    before = (server.certificate.read_bytes(), server.private_key.read_bytes())
    words = ("--days", "20", "--server", "new.example.org", "--server", "192.0.2.9")
    result = cli("federation", "rotate", *words, "--folder", federation)
    assert result.exit_code == 0
    assert server.certificate.read_bytes() != before[0]
    assert server.private_key.read_bytes() != before[1]
    assert keys.certificate_hosts(server.certificate) == ("new.example.org", "192.0.2.9")
    site = load_site_file(federation / "site-maze" / "site.yaml")
    assert 19 < keys.check_server(server.certificate, server.private_key, site.authority) <= 20
    listed = cli("federation", "ls", "--folder", federation)
    assert "in 20 days" in listed.output
    assert "fedse federation rotate" in listed.output
    assert cli("federation", "rotate", "--folder", federation).exit_code == 0
    assert keys.certificate_hosts(server.certificate) == ("new.example.org", "192.0.2.9")


def test_the_server_is_rotated_only_where_the_authority_is(cli: Cli, federation: Path) -> None:
    shutil.rmtree(federation / "authority")
    result = cli("federation", "rotate", "--folder", federation)
    assert result.exit_code == 1
    assert "the authority is not here" in result.output
    # All else goes without.
    assert cli("federation", "revoke", "maze", "--folder", federation).exit_code == 0
    assert cli("federation", "add-site", "maze", "--folder", federation).exit_code == 0


def test_ls_lists_everything_with_fingerprints(cli: Cli, federation: Path) -> None:
    before = registered(federation)
    cli("federation", "revoke", "maze", "--folder", federation)
    (federation / "server" / "sites" / "odd.pub").write_text("no key")
    result = cli("federation", "ls", "--folder", federation)
    assert result.exit_code == 0
    rows = {tuple(line.split()[:2]): line for line in result.output.splitlines()}
    assert "in 365 days" in rows["server", "fl.example.org"]
    assert "no key" in rows["site", "maze"]
    assert keys.fingerprint(before["wordle"]) in rows["site", "wordle"]
    assert ("revoked", "maze") in rows
    assert "odd.pub holds no public key" in result.output


@pytest.mark.parametrize("words", [("ls",), ("revoke", "a"), ("rotate",), ("add-site", "a")])
def test_a_folder_without_a_federation_is_told(cli: Cli, tmp_path: Path, words: tuple[str, ...]) -> None:
    result = cli("federation", *words, "--folder", tmp_path)
    assert result.exit_code == 2
    assert "holds no federation" in result.output


@pytest.mark.parametrize("words", [("rotate", "--key", "maze.pub"), ("rotate", "maze", "--server", "x.org")])
def test_options_without_effect_are_refused(cli: Cli, federation: Path, words: tuple[str, ...]) -> None:
    result = cli("federation", *words, "--folder", federation)
    assert result.exit_code == 2
    assert "has no effect" in result.output
