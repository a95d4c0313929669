"""Splits have the same names and keep the same promises in every environment that ships."""

from __future__ import annotations

import pytest

from fedse.environments import Environment, environment_class, environment_names, make

#: Demonstrations and test tasks in the Fed-SE paper (arXiv 2512.08870).
PAPER = {"maze": (215, 25), "wordle": (955, 25), "textcraft": (374, 100), "webshop": (3_930, 200), "babyai": (810, 90)}
SHIPPED = [name for name in PAPER if name in environment_names()]
#: TextCraft has 544 goals in all.
FEW = {"textcraft"}


def made(name: str) -> Environment:
    return make(name, catalogue="10k") if name == "webshop" else make(name)


def ids(environment: Environment, split: str) -> set[str]:
    return {task.id for task in environment.tasks(split)}


@pytest.mark.parametrize("name", SHIPPED)
def test_no_task_to_learn_from_is_held_out(name: str) -> None:
    environment = made(name)
    assert not ids(environment, "train") & (ids(environment, "test") | ids(environment, "paper-test"))
    assert not ids(environment, "paper-train") & ids(environment, "paper-test")
    if name not in FEW:
        assert not ids(environment, "paper-train") & ids(environment, "test")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_papers_sizes_are_there(name: str) -> None:
    environment = made(name)
    assert (len(ids(environment, "paper-train")), len(ids(environment, "paper-test"))) == PAPER[name]


@pytest.mark.parametrize("name", SHIPPED)
def test_many_tasks_are_held_out_where_there_are_many(name: str) -> None:
    held_out = ids(made(name), "test")
    assert len(held_out) == 200 if name in FEW else len(held_out) >= 500


@pytest.mark.parametrize("name", SHIPPED)
def test_no_split_holds_a_task_twice(name: str) -> None:
    environment = made(name)
    for split, count in environment.spec.splits.items():
        assert len(ids(environment, split)) == len(environment.tasks(split)) == count


@pytest.mark.parametrize("name", [name for name in SHIPPED if "traits" in vars(environment_class(name))])
def test_traits_tell_tasks_apart(name: str) -> None:
    environment = make(name)
    told = [environment.traits(task) for task in environment.tasks("test")[:64]]
    assert len({traits.kind for traits in told}) > 1
    assert len({traits.size for traits in told}) > 1
    assert len({traits.difficulty for traits in told}) > 1
