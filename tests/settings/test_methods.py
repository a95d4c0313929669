from __future__ import annotations

from pathlib import Path

import pytest

from fedse.config import MethodConfig
from fedse.errors import ConfigError, UnknownNameError
from fedse.settings import derive_config, flat_settings, load_config, method_names, read_method

PAPER = {"pre-trained", "local", "centralized", "fedit", "fed-se"}


@pytest.mark.parametrize("name", method_names())
@pytest.mark.parametrize("preset", ["tiny", "five-sites"])
def test_every_shipped_method_goes_with_presets(name: str, preset: str) -> None:
    config = load_config(preset, None, [], method=name)
    base = load_config(preset, None, [])
    assert config.name == f"{base.name}-{name}"
    assert config.model == base.model
    method = read_method(name)
    assert method.label
    assert 20 < len(method.description) < 120


def test_the_methods_of_the_paper_are_there() -> None:
    assert set(method_names()) >= PAPER


def test_fed_se_is_what_a_configuration_does_by_itself() -> None:
    settings = flat_settings(read_method("fed-se").set)
    assert settings == {path: getattr(MethodConfig(), path.removeprefix("method.")) for path in settings}


def test_methods_of_the_paper_differ_in_what_is_shared_and_explored() -> None:
    found = {name: load_config("tiny", None, [], method=name) for name in PAPER | {"self-evolution"}}
    assert {name: (config.method.strategy, config.method.explore) for name, config in found.items()} == {
        "pre-trained": ("mean", True),
        "local": ("isolated", False),
        "centralized": ("mean", False),
        "fedit": ("weighted_mean", False),
        "fed-se": ("mean", True),
        "self-evolution": ("isolated", True),
    }
    assert found["pre-trained"].rounds == 0
    assert {name for name, config in found.items() if list(config.sites) == ["all"]} == {"centralized"}


@pytest.mark.parametrize("rank", [2, 4, 8, 16])
def test_ranks_keep_the_scaling_of_the_paper(rank: int) -> None:
    lora = load_config("tiny", None, [], method=f"rank-{rank}").lora
    assert (lora.rank, lora.alpha / lora.rank) == (rank, 2)


def test_without_expert_no_site_demonstrates_and_none_waits_for_it() -> None:
    config = load_config("quickstart", None, [], method="no-expert")
    assert {client.demonstrations for client in config.clients} == {0}
    assert config.method.warmup_rounds == 0


def test_overrides_come_after_the_method() -> None:
    config = load_config("tiny", None, ["method.options.server_lr=3", "name=mine"], method="server-lr-2")
    assert (config.method.options["server_lr"], config.name) == (3, "mine")


def test_a_preset_and_a_file_may_name_a_method_and_the_argument_takes_its_place(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: tiny\nmethod: fedex\n")
    below = tmp_path / "below.yaml"
    below.write_text("preset: quickstart\nmethod: {refine: []}\n")
    both = tmp_path / "both.yaml"
    both.write_text("preset: tiny\nmethod: {name: owned, options: {own: 0.5}, warmup_rounds: 1}\n")
    assert load_config("quickstart").method.refine == ("shortest", "effective", "truthful")
    assert load_config("quickstart", method="fedit").method.refine == ()
    assert load_config(file=both).method.options == {"own": 0.5, "server_lr": 1}
    assert load_config(file=both, method="fed-se").method.warmup_rounds == 1
    assert load_config(file=mine).method.strategy == load_config(file=str(mine)).method.strategy == "fedex"
    assert load_config(file=mine, method="ties").method.strategy == "ties"
    assert load_config(file=mine).name == "tiny"
    assert load_config(file=below).method.refine == ()
    assert load_config(file=below).training.demonstration_share == 0.25


def test_an_unknown_method_is_met_with_the_nearest(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("preset: tiny\nmethod: fedti\n")
    with pytest.raises(UnknownNameError, match="fedit"):
        load_config("tiny", None, [], method="fedti")
    with pytest.raises(UnknownNameError, match="fedit"):
        load_config(file=mine)


def test_settings_may_be_dotted_or_nested_and_leave_the_rest() -> None:
    base = load_config("quickstart", None, [])
    dotted = derive_config(base, {"lora.rank": 2, "clients.*.demonstrations": 1})
    nested = derive_config(
        base, {"lora": {"rank": 2}}, {"clients.maze.demonstrations": 1}, {"clients.1.demonstrations": 1}
    )
    assert dotted == nested
    assert dotted.lora.alpha == base.lora.alpha
    assert dotted.training == base.training


def test_all_problems_of_settings_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        derive_config(load_config("tiny", None, []), {"lora": {"rnk": 2}, "clients.x.steps": 1, "rounds": -1})
    assert len(caught.value.what.split("\n  - ")[1:]) == 3
