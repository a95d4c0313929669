"""Which goals are for training and which are held out."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from fedse.environments.parts import Part
from fedse.environments.sampling import spread
from fedse.environments.textcraft.graph import crafting_graph
from fedse.seeding import python_random

DEPTHS = (1, 2, 3, 4)
_BEYOND_LIMIT = """
    anvil black_banner blue_banner brown_banner cyan_banner gray_banner light_blue_banner light_gray_banner
    lime_banner lodestone netherite_block orange_banner purple_banner
"""
#: Goals whose shortest known plan has more than 20 actions.  Nothing can be learnt from tasks that cannot be won within
#: the turn limit, so the default splits do without them.
BEYOND_LIMIT = frozenset(_BEYOND_LIMIT.split())

#: Depth → how many of its first goals are AgentGym's test set.
_BENCHMARK_TEST = {1: 31, 2: 41, 3: 25, 4: 3}
#: Demonstrations of the Fed-SE paper.
_PAPER_TRAIN = 374
#: Depth → goals in ``test``, in proportion to the goals of that depth within the limit.
_TEST = {1: 47, 2: 110, 3: 41, 4: 2}


def goals_of(split: str, max_depth: int, missing: Part | None = None) -> Sequence[str]:
    """The goals of a split up to a depth, in the split's order.

    Args:
        split: a key of :data:`SPLITS`.
        max_depth: greatest depth, in the world with the recipes that there are.
        missing: see :func:`~fedse.environments.textcraft.graph.crafting_graph`; goals without a recipe are left out.
    """
    graph = crafting_graph(missing)
    return tuple(goal for goal in SPLITS[split]() if goal in graph.recipes and graph.depth(goal) <= max_depth)


def _of_depth(depth: int) -> list[str]:
    graph = crafting_graph()
    return [goal for goal in graph.goals if graph.depth(goal) == depth]


def _benchmark_test() -> list[str]:
    return [goal for depth in DEPTHS for goal in _of_depth(depth)[: _BENCHMARK_TEST[depth]]]


def _benchmark_train() -> list[str]:
    return [goal for depth in DEPTHS for goal in _of_depth(depth)[_BENCHMARK_TEST[depth] :]]


@functools.cache
def _test() -> list[str]:
    """AgentGym's test goals, and others at even distances."""
    held_out = []
    for depth in DEPTHS:
        goals = _of_depth(depth)
        first, rest = (
            [goal for goal in part if goal not in BEYOND_LIMIT]
            for part in (goals[: _BENCHMARK_TEST[depth]], goals[_BENCHMARK_TEST[depth] :])
        )
        held_out.append(first + spread(rest, _TEST[depth] - len(first)))
    return _mixed("test", held_out)


@functools.cache
def _train() -> list[str]:
    held_out = BEYOND_LIMIT.union(_test())
    return _mixed("train", [[goal for goal in _of_depth(depth) if goal not in held_out] for depth in DEPTHS])


@functools.cache
def _paper_train() -> list[str]:
    """All of ``train``, and further goals that AgentGym's test set does not hold, up to the paper's number."""
    benchmark = frozenset(_benchmark_test())
    return [*_train(), *(goal for goal in _test() if goal not in benchmark)][:_PAPER_TRAIN]


def _mixed(name: str, groups: Sequence[Sequence[str]]) -> list[str]:
    """All goals, each depth shuffled and spread evenly, so that every beginning of the order is a fair sample."""
    places = []
    for depth, group in enumerate(groups):
        shuffled = python_random("textcraft", "splits", name, depth).sample(group, len(group))
        places += [((position + 0.5) / len(group), depth, goal) for position, goal in enumerate(shuffled)]
    return [goal for _, _, goal in sorted(places)]


#: Split → how to make it, before the limit on depth.
SPLITS: Mapping[str, Callable[[], Sequence[str]]] = {
    "train": _train,
    "test": _test,
    "paper-train": _paper_train,
    "paper-test": _benchmark_test,
    "benchmark-train": _benchmark_train,
    "benchmark-test": _benchmark_test,
}
