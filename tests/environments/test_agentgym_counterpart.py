"""What AgentGym needs of an environment stands beside it; an author sees it only who asks for it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from fedse.environments import Environment, environment_names, make
from fedse.environments.agentgym.counterpart import Counterpart, counterpart_of
from fedse.environments.maze import Maze
from fedse.errors import EnvironmentFault
from fedse.types import Task

SHIPPED = ("babyai", "maze", "textcraft", "webshop", "wordle")


class Mirrored(Counterpart[Maze]):
    """A counterpart as another package may write it."""

    def task_of(self, number: int) -> Task:
        return Task("maze", f"mirrored/{number}")


class Named(Maze):
    agentgym: ClassVar[str] = f"{__name__}:Mirrored"


class Misnamed(Maze):
    agentgym: ClassVar[str] = f"{__name__}:NoSuchClass"


class Plain(Maze):
    agentgym: ClassVar[str] = "fedse.environments.agentgym.counterpart:Counterpart"


def test_the_contract_of_environments_knows_nothing_of_it() -> None:
    assert {name for name in vars(Environment) if not name.startswith("_")} == {
        *("has_expert", "spec", "tasks", "traits", "instruction", "reset", "step", "expert", "close"),
        *("review", "offers"),
    }


@pytest.mark.parametrize("name", sorted({*SHIPPED} & {*environment_names()}))
def test_the_shipped_ones_name_their_own(name: str) -> None:
    assert type(counterpart_of(make(name))).__module__ == f"fedse.environments.{name}.agentgym"


def test_a_class_of_another_package_is_found() -> None:
    counterpart = counterpart_of(Named(max_path=3))
    assert isinstance(counterpart, Mirrored)
    assert counterpart.imported_task("17", "") == Task("maze", "mirrored/17")
    assert counterpart.imported_task("loops/5", "") == Task("maze", "loops/5")
    assert counterpart.options["max_path"] == 3


def test_a_name_that_leads_nowhere_is_a_fault() -> None:
    with pytest.raises(EnvironmentFault, match=r"maze: its AgentGym counterpart '.*NoSuchClass' cannot be made"):
        counterpart_of(Misnamed())


def test_the_plain_one_numbers_tasks_by_position_and_plays_them() -> None:
    environment = Plain(max_path=2)
    counterpart = counterpart_of(environment)
    first = len(environment.tasks("train"))
    assert counterpart.tasks()["test"][first] == environment.tasks("test")[0]
    assert counterpart.numbered[0] == environment.tasks("train")[0]
    session = counterpart.session(4)
    opened: dict[str, Any] = session.reset(data_idx=first)
    assert opened["observation"] == environment.reset(environment.tasks("test")[0])
    assert session.step("jump")["observation"].endswith(opened["observation"])
    assert session.recorded_fields() == {}
