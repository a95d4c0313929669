from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fedse.config import ClientConfig, EndpointConfig, RunConfig
from fedse.deployment.files import (
    OWN_FIELDS,
    Limits,
    ServerFile,
    SiteFile,
    join_address,
    load_server_file,
    load_site_file,
    split_address,
)
from fedse.deployment.folders import FederationFolder, create, dealt
from fedse.deployment.terms import agreed
from fedse.errors import ConfigError, UnknownNameError
from fedse.settings import load_config, preset_names

SERVER = """
run:
  preset: tiny
  rounds: 5
  training: {steps: 3}
"""
SITE = """
site: maze
server: fl.example.org:9443
environments:
  - {name: maze, environment: maze, demonstrations_file: demos/maze.jsonl, episodes_per_round: 7}
"""


def server(folder: Path, text: str = SERVER) -> ServerFile:
    (folder / "server.yaml").write_text(text)
    return load_server_file(folder / "server.yaml")


def site(folder: Path, text: str = SITE) -> SiteFile:
    (folder / "site.yaml").write_text(text)
    return load_site_file(folder / "site.yaml")


def test_a_run_begins_from_its_preset_as_on_the_command_line(tmp_path: Path) -> None:
    assert server(tmp_path).run == load_config("tiny", None, ["rounds=5", "training.steps=3"])


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "site.yaml").write_text(SITE + "private_key: /etc/fedse/site.key\n")
    monkeypatch.chdir(tmp_path)
    found = load_site_file(Path("there/site.yaml"))
    assert found.authority == tmp_path / "there" / "ca.pem"
    assert found.private_key == Path("/etc/fedse/site.key")
    assert found.environments[0].demonstrations_file == str(tmp_path / "there" / "demos" / "maze.jsonl")
    assert server(tmp_path).keys == tmp_path / "sites"


def test_every_problem_of_a_servers_file_is_told_at_once(tmp_path: Path) -> None:
    text = """
listen: "9443"
reply_limit_mb: 0
keyz: sites
run:
  rounds: many
  learning_rate: 1
  rollout: {endpoint: {url: "http://10.0.0.1:8000"}}
  clients:
    - {name: maze, environment: "agentgym:http://10.0.0.1:36001", disclose: [episodes]}
    - {name: w, environment: wordle, options: {vocab: words.txt}, demonstrations_file: demos.jsonl}
"""
    with pytest.raises(ConfigError) as caught:
        server(tmp_path, text)
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'server.yaml'} has 10 problems:")
    for part in (
        'listen: found "9443"; allowed: host:port, with a port from 1 to 65535',
        "reply_limit_mb: found 0; allowed: integer ≥ 1",
        'keyz: unknown key, found "sites"; did you mean keys?',
        'run.rounds: found "many"; allowed: integer ≥ 0',
        "run.learning_rate: unknown key, found 1; did you mean run.training.learning_rate?",
        "run.rollout.endpoint: is the site's own; it belongs into its file",
        "run.clients.maze.environment: names a file or a server; it belongs into the site's own file",
        "run.clients.maze.disclose: is what a site decides",
        "run.clients.w.options: names a file or a server",
        "run.clients.w.demonstrations_file: names a file or a server",
    ):
        assert part in told
    assert "→ docs/deployment.md" in told


def test_every_problem_of_a_sites_file_is_told_at_once(tmp_path: Path) -> None:
    text = """
site: a/b
server: "fl.example.org:99999"
environments:
  - {name: maze, environment: maze, rank: 4}
  - {name: Maze, environment: maze}
disclose: [episode]
limits: {rounds: -1, epochs: 3}
private_key: 7
"""
    with pytest.raises(ConfigError) as caught:
        site(tmp_path, text)
    told = str(caught.value)
    for part in (
        'site: found "a/b"; allowed: letters, digits',
        "server: found",
        "names that differ, but found twice: maze",
        "errors_in_words",
        "but found episode; did you mean episodes?",
        "limits.rounds: found -1; allowed: integer ≥ 0",
        "limits.epochs: unknown key, found 3",
        "private_key: found 7; allowed: path",
    ):
        assert part in told
    with pytest.raises(ConfigError, match="but found disclose, rank"):
        site(tmp_path, SITE.replace("episodes_per_round: 7", "rank: 4, disclose: [episodes]"))


@pytest.mark.parametrize("text", ["", "run: {preset: 3}", "run: []", "- a list", "run: {clients: none}"])
def test_odd_files_are_configuration_errors(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        server(tmp_path, text)


def test_missing_files_and_presets_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_site_file(tmp_path / "site.yaml")
    with pytest.raises(UnknownNameError, match="did you mean tiny"):
        server(tmp_path, "run: {preset: tinny}")


@pytest.mark.parametrize(
    ("text", "parts"),
    [("fl.example.org:9443", ("fl.example.org", 9443)), ("[::1]:80", ("::1", 80)), ("10.0.0.1:1", ("10.0.0.1", 1))],
)
def test_addresses_are_taken_apart_and_put_together(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts
    assert join_address(*parts) == text


@pytest.mark.parametrize("text", ["host", "host:", ":80", "host:0", "::1:80", "a b:80", "http://host:80", "host:80\n"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_address(text)


def comments(text: str) -> dict[str, str]:
    """Top-level key → the comment above it."""
    found = re.findall(r"((?:^# .*\n)+)^([a-z_]+):", text, re.MULTILINE)
    return {key: comment for comment, key in found}


@pytest.mark.parametrize("preset", preset_names())
def test_made_files_say_the_same_run_and_explain_every_key(tmp_path: Path, preset: str) -> None:
    config = load_config(preset)
    made = create(tmp_path / "f", ["fl.example.org"], config)
    assert made.server_file.run == config.model_copy(update={"workers": 1})
    text = (made.server / "server.yaml").read_text()
    assert list(comments(text)) == list(ServerFile.model_fields)
    for name, clients in config.sites.items():
        text = (made.site(name) / "site.yaml").read_text()
        assert list(comments(text)) == list(SiteFile.model_fields)
        found = load_site_file(made.site(name) / "site.yaml")
        assert (found.site, found.server, found.limits) == (name, "fl.example.org:9443", Limits())
        assert [entry.environment for entry in found.environments] == [client.environment for client in clients]


def test_whose_credentials_are_used_is_the_sites_matter(tmp_path: Path) -> None:
    text = "run:\n  clients:\n    - {name: w, environment: wordle, options: {auth_env: SECRET}}\n"
    with pytest.raises(ConfigError, match="options"):
        server(tmp_path, text)


def test_what_only_a_site_can_know_moves_into_its_file(tmp_path: Path) -> None:
    private = (
        "clients.maze.demonstrations_file=/data/maze.jsonl",
        "clients.maze.disclose=[episodes]",
        "clients.wordle.environment=agentgym:http://127.0.0.1:36001",
        "clients.wordle.options={vocab: /data/words.txt}",
    )
    config = load_config("tiny", None, private)
    made = create(tmp_path / "f", ["fl.example.org"], config)
    text = (made.server / "server.yaml").read_text()
    assert not re.search("/data|agentgym|disclose:", text)
    agreements = [agreed(made.server_file.run, load_site_file(made.site(name) / "site.yaml")) for name in config.sites]
    assert tuple(client for run in agreements for client in run.clients) == config.clients


def test_sites_are_dealt_the_environments_that_are_left_over() -> None:
    run = dealt(load_config("nano"), ["maze", "x", "y", "z", "u", "v"])
    dealt_out = {client.name: client.environment for client in run.clients}
    assert dealt_out == {
        "maze": "maze",
        "x": "babyai",
        "y": "textcraft",
        "z": "webshop",
        "u": "wordle",
        "v": "babyai",
    }
    assert list(run.sites) == ["maze", "x", "y", "z", "u", "v"]
    with pytest.raises(ConfigError, match="names x twice"):
        dealt(run, ["x", "x"])


# What a site makes of a proposal.


def proposal(*overrides: str) -> RunConfig:
    return load_config("tiny", None, overrides)


def test_the_sites_own_settings_win(tmp_path: Path) -> None:
    found = site(tmp_path, SITE + "device: cpu\ndisclose: [episodes]\n")
    run = agreed(proposal("workers=2", "model.device=cuda:3", "clients.maze.demonstrations=9"), found)
    [client] = run.clients
    assert (client.episodes_per_round, client.demonstrations) == (7, 9)
    assert client.demonstrations_file == str(tmp_path / "demos" / "maze.jsonl")
    assert client.disclose == ("episodes",)
    assert (run.model.device, run.workers) == ("cpu", 1)
    assert run.training == proposal().training


def test_where_episodes_are_played_is_the_sites_own_affair(tmp_path: Path) -> None:
    there = proposal(
        "rollout.endpoint.url=http://evil.example.org", "rollout.endpoint.api_key_env=AWS_SECRET_ACCESS_KEY"
    )
    assert agreed(there, site(tmp_path)).rollout.endpoint == EndpointConfig()
    text = SITE + "endpoint: {url: 'http://127.0.0.1:8000', adapters: handed}\n"
    endpoint = agreed(there, site(tmp_path, text)).rollout.endpoint
    assert endpoint == EndpointConfig(url="http://127.0.0.1:8000", adapters=str(tmp_path / "handed"))


def test_an_endpoint_moves_from_a_run_into_the_sites_files(tmp_path: Path) -> None:
    config = proposal("rollout.endpoint.url=http://127.0.0.1:8000", "rollout.endpoint.api=sglang", "rollout.slots=3")
    made = create(tmp_path / "federation", ["localhost"], config)
    run = made.server_file.run
    assert (run.rollout.slots, run.rollout.endpoint) == (3, EndpointConfig())
    for name in config.sites:
        found = load_site_file(made.site(name) / "site.yaml")
        assert agreed(run, found).rollout == config.rollout


def test_a_server_names_no_file_at_a_site(tmp_path: Path) -> None:
    text = SITE.replace(", demonstrations_file: demos/maze.jsonl", "")
    [client] = agreed(proposal("clients.maze.demonstrations_file=/etc/passwd"), site(tmp_path, text)).clients
    assert client.demonstrations_file is None
    with pytest.raises(ConfigError, match=r"clients\.maze\.options: names a file or a server"):
        agreed(proposal("clients.maze.options={layout: ../secret}"), site(tmp_path, text))
    own = text.replace("environment: maze,", "environment: maze, options: {max_path: 4},")
    [client] = agreed(proposal("clients.maze.options={layout: ../secret}"), site(tmp_path, own)).clients
    assert client.options == {"max_path": 4}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("rounds=11", "rounds: asks for 11; at most 10"),
        ("lora.rank=16", "lora.rank: asks for 16; at most 8"),
        ("clients.maze.rank=16", "lora.rank: asks for 16; at most 8"),
        ("rollout.max_context=9000", "rollout.max_context: asks for 9000; at most 8192"),
        ("training.max_tokens=9000", "training.max_tokens: asks for 9000; at most 8192"),
        ("rollout.slots=99", "rollout.slots: asks for 99; at most 64"),
        ("evaluation.tasks=null", "evaluation.tasks: asks for all there are; at most 20"),
        ("evaluation={tasks: 11, decoding: sampled, samples: 2}", "evaluation.tasks: asks for 22; at most 20"),
        ("training.steps=31", "training.steps: asks for 31; at most 30"),
        ("clients.maze.steps=31", "training.steps: asks for 31; at most 30"),
        # 4 demonstrations and 2 rounds of 7 episodes, 3 passes of batches of 1.
        ("training={epochs: 3, batch_size: 1}", "training.steps: asks for 54; at most 30"),
        ("clients.maze.demonstrations=101", "clients.maze.demonstrations: asks for 101; at most 100"),
        ("model.name=someone/model", "model.name: found someone/model; this site loads tiny, nano, smollm2-135m"),
        ("clients.maze.name=other", "environment other: the site has none of that name"),
    ],
)
def test_what_goes_beyond_a_sites_limits_is_refused(tmp_path: Path, override: str, told: str) -> None:
    limits = "limits: {rounds: 10, rank: 8, evaluation_tasks: 20, steps: 30, demonstrations: 100}\n"
    found = site(tmp_path, SITE + limits)
    extra = ["clients.maze.site=maze"] if ".name=" in override else []
    agreed(proposal("lora.rank=8"), found)
    with pytest.raises(ConfigError, match=re.escape(told)):
        agreed(proposal("lora.rank=8", *extra, override), found)


def test_all_refusals_are_told_at_once(tmp_path: Path) -> None:
    found = site(tmp_path, SITE + "limits: {rounds: 1, rank: 1, episodes_per_round: 5}\n")
    with pytest.raises(ConfigError) as caught:
        agreed(proposal(), found)
    assert str(caught.value).count("\n  - ") == 3


def test_a_site_that_names_its_models_loads_no_other(tmp_path: Path) -> None:
    found = site(tmp_path, SITE + "models: [Qwen/Qwen3-8B]\n")
    assert agreed(proposal("model.name=Qwen/Qwen3-8B"), found).model.name == "Qwen/Qwen3-8B"
    with pytest.raises(ConfigError, match=r"this site loads Qwen/Qwen3-8B"):
        agreed(proposal(), found)


def test_a_run_without_the_site_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no environment for it"):
        agreed(proposal(), site(tmp_path, SITE.replace("site: maze", "site: elsewhere")))


def test_an_entry_may_say_all_that_concerns_one_environment() -> None:
    whole: dict[str, Any] = dict.fromkeys(OWN_FIELDS) | {"name": "m", "environment": "maze"}
    assert {*whole} == {*ClientConfig.model_fields} - {"site", "rank", "disclose"}


def test_a_folder_that_holds_no_federation_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no federation"):
        _ = FederationFolder(tmp_path).server_file
