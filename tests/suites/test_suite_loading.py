from __future__ import annotations

from pathlib import Path

import pytest

from fedse.config import RunConfig
from fedse.errors import ConfigError, UnknownNameError
from fedse.settings import load_config
from fedse.suites import dump_suite, load_suite, suite_names
from helpers.made_suites import TINY, suite


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        suite(text)
    return caught.value.what.split("\n  - ")[1:]


def configs(text: str) -> dict[str, RunConfig]:
    return {cell.method: cell.config for cell in suite(text).cells()}


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_loads_and_says_what_it_is_for(name: str) -> None:
    found = load_suite(name)
    assert found.name == name
    assert 20 < len(found.description) < 120


def test_a_resolved_suite_is_the_same_suite(tmp_path: Path) -> None:
    found = load_suite("tiny")
    file = tmp_path / "suite.yaml"
    file.write_text(dump_suite(found))
    assert load_suite(file) == found
    assert load_suite(tmp_path) == found
    assert [cell.config for cell in load_suite(file).cells()] == [cell.config for cell in found.cells()]


def test_a_resolved_suite_looks_nothing_up() -> None:
    text = dump_suite(load_suite("tiny"))
    assert "preset:" not in text
    assert "method:" not in [line.strip() for line in text.partition("config:")[0].splitlines()]


def test_cells_are_methods_and_ablations_with_models_and_seeds_seed_by_seed() -> None:
    cells = suite(TINY).cells()
    assert [(cell.method, cell.seed) for cell in cells[:5]] == [
        ("pre-trained", 0),
        ("fedit", 0),
        ("fed-se", 0),
        ("rank-8", 0),
        ("pre-trained", 1),
    ]
    assert all(cell.config.seed == cell.seed and cell.config.workers == 1 for cell in cells)
    root = Path("root")
    assert cells[1].folder(root) == Path("root/cells/tiny/fedit/seed-0")


def test_methods_of_one_configuration_share_their_runs() -> None:
    cells = [cell for cell in suite(TINY).cells() if cell.seed == 1]
    assert {cell.method: cell.home for cell in cells if cell.is_shared} == {"rank-8": "fed-se"}
    [shared] = [cell for cell in cells if cell.is_shared]
    assert shared.folder(Path("root")) == Path("root/cells/tiny/fed-se/seed-1")


def test_a_model_has_a_name_for_folders_and_settings_of_its_own() -> None:
    text = TINY + "models: [tiny-a, {name: big, set: {model.name: Org/Big-1B, training.steps: 7}}]\n"
    assert problems(text) == ["models.0: found 'tiny-a'; allowed: mapping"]
    cells = suite(text.replace("tiny-a", "{name: tiny}")).cells()
    big = [cell for cell in cells if cell.model == "big"]
    assert {(cell.config.model.name, cell.config.training.steps) for cell in big} == {("Org/Big-1B", 7)}
    assert {cell.config.model.name for cell in cells if cell.model == "tiny"} == {"tiny"}


def test_the_folder_of_a_model_without_a_name_of_its_own_is_speakable() -> None:
    found = suite(TINY.replace("name: tiny,", "name: Org/Some Model,"))
    assert [model.name for model in found.models] == ["Some-Model"]
    assert found.cells()[0].config.model.name == "Org/Some Model"


def test_demonstrations_are_an_axis() -> None:
    found = suite(TINY + "demonstrations: [0, 3]\n")
    assert [model.name for model in found.models] == ["tiny-0-demonstrations", "tiny-3-demonstrations"]
    cells = {(cell.model, cell.method): cell.config for cell in found.cells() if cell.seed == 0}
    # Without demonstrations FedIT has nothing to learn from, and no round waits for them.
    assert [method for model, method in cells if model == "tiny-0-demonstrations"] == [
        "pre-trained",
        "fed-se",
        "rank-8",
    ]
    assert [method for model, method in cells if model == "tiny-3-demonstrations"] == [
        *("pre-trained", "fedit", "fed-se", "rank-8")
    ]
    for (model, _), config in cells.items():
        assert {client.demonstrations for client in config.clients} == {0 if "-0-" in model else 3}
        assert config.model.name == "tiny"
    assert cells["tiny-0-demonstrations", "fed-se"].method.warmup_rounds == 0


def test_an_entry_may_begin_from_a_shipped_method_and_set_more() -> None:
    more = "{name: long, method: fedit, label: FedIT long, set: {training: {steps: 9}, method.options.server_lr: 2}}"
    found = configs(TINY.replace("fedit", f"fedit, {more}"))
    assert found["long"].training.steps == 9
    assert (found["long"].method.strategy, found["long"].method.options) == ("weighted_mean", {"server_lr": 2})
    assert (found["fedit"].training.steps, found["fedit"].method.options) == (1, {})


def test_an_ablation_is_the_reference_with_its_own_settings_over_it() -> None:
    tuned = "{method: fed-se, set: {training.steps: 5, lora.rank: 3}}"
    found = configs(TINY.replace("fed-se]", f"{tuned}]").replace("[rank-8]", "[no-history, rank-4]"))
    assert (found["no-history"].training.steps, found["no-history"].method.history) == (5, False)
    assert (found["rank-4"].training.steps, found["rank-4"].lora.rank) == (5, 4)
    assert found["fedit"].training.steps == 1


def test_the_configuration_may_begin_from_a_preset() -> None:
    text = "name: x\npreset: tiny\nconfig: {rounds: 5, training: {steps: 3}}\nmethods: [fed-se]\nseeds: [0]\n"
    assert configs(text)["fed-se"] == load_config("tiny", None, ["rounds=5", "training.steps=3", "name=fed-se"])


def test_everything_wrong_with_a_suite_is_said_at_once() -> None:
    text = "name: a/b\nmetods: []\nmethods: [fedit, {set: 3}, 7]\nseeds: [-1]\njobs: 0\n"
    found = problems(text)
    assert len(found) == 6
    assert "metods: unknown key; did you mean methods or models? allowed: name" in " ".join(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("[0, 1]", "[1, 1]"), "seeds: 1 is there twice"),
        (("[rank-8]", "[fedit]"), "methods and ablations: 'fedit' is there twice"),
        (("[rank-8]", "[{method: rank-8, label: FedIT}]"), "labels of methods and ablations: 'fedit' is there twice"),
        (("fed-se]", "local]"), "reference: found 'fed-se'; "),
        (("fed-se]", "fed-se, {label: x}]"), "methods: an entry has neither a name nor the method"),
        (("rounds: 2", "rounds: two"), 'rounds: found "two"'),
    ],
)
def test_confusions_are_refused(change: tuple[str, str], said: str) -> None:
    assert said in " ".join(problems(TINY.replace(*change)))


def test_a_method_that_is_not_valid_with_a_model_is_named() -> None:
    [found] = problems(TINY.replace("fed-se]", "fed-se, {name: odd, set: {lora: {rnk: 2}, training.epochs: 2}}]"))
    assert found.startswith("odd with tiny: the configuration has 2 problems")
    assert "lora.rnk: unknown key" in found


def test_unknown_names_are_met_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="tiny"):
        load_suite("tinny")
    with pytest.raises(UnknownNameError, match="fedit"):
        suite(TINY.replace("fedit", "fedt"))
