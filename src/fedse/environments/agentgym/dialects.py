"""How AgentGym's servers differ from each other: paths, names of fields, what they tell beside the steps.

Read from the servers' own routes and models in github.com/WooooDyy/AgentGym (``agentenv-lmrlgym``,
``agentenv-textcraft``, ``agentenv-babyai``, ``agentenv-webshop``: ``server.py``, ``model.py``, ``env_wrapper.py``), and
from their answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fedse.errors import EnvironmentFault

#: What ``GET …/observation`` answers: the last text, until the game is over; the last text; the last payload, with the
#: line that states the goal.
ObservationStyle = Literal["until the end", "always", "payload"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """One server's way to speak the protocol."""

    greeting: str  #: the answer to ``GET /``
    prefix: str = ""  #: what precedes the paths below
    slot: str = "id"  #: the field that names an episode slot
    number: str = "data_idx"  #: the field that names a task at reset
    number_default: int | None = None  #: the task where that field is left out; ``None`` if it must not be
    observation: str = "observation"  #: the field of a step's answer that holds the text
    observations: ObservationStyle = "always"  #: see :data:`ObservationStyle`
    queries: tuple[str, ...] = ()  #: paths whose ``GET`` is answered by the session's method of the same name
    #: fields of ``GET …/detail`` beside ``observation``, ``done``, ``reward`` and ``deleted``, with their values;
    #: ``None`` stands for the number given at reset.  ``None`` altogether if there is no such path.
    details: Mapping[str, str | None] | None = None
    sums_rewards: bool = False  #: the ``reward`` in ``detail`` is the sum over the episode and not the last one
    #: ``POST …/create`` also resets, to the task with the slot's own number, and answers as a reset
    opens_on_create: bool = False
    constants: Mapping[str, Any] = field(default_factory=dict)  #: paths whose ``GET`` always has the same answer
    listing: str | None = None  #: the path whose ``GET`` lists the open slots, if there is one
    #: ``create`` and ``reset`` answer with the values only, without their names; ``close`` with the name
    bare: bool = False

    def path(self, name: str) -> str:
        """The path of an operation, such as ``/maze/step``."""
        return f"{self.prefix}/{name}"


#: Environment → dialect, for the five kinds of server that AgentGym has for our environments.
DIALECTS: Mapping[str, Dialect] = {
    "babyai": Dialect(greeting="This is environment BabyAI.", observations="payload"),
    "maze": Dialect(
        greeting="This is environment LMRL-Gym.",
        prefix="/maze",
        number="game",
        observations="until the end",
        details={"maze_name": "double_t_maze"},
        sums_rewards=True,
        constants={"available_actions": ["move left", "move right", "move up", "move down"]},
    ),
    "textcraft": Dialect(
        greeting="This is environment TextCraft.",
        number_default=0,
        queries=("commands", "goal"),
        details={},
        opens_on_create=True,
    ),
    "webshop": Dialect(
        greeting="ok",
        slot="env_idx",
        number="session_id",
        observation="state",
        queries=("available_actions", "instruction_text"),
        listing="list_envs",
        bare=True,
    ),
    "wordle": Dialect(
        greeting="This is environment LMRL-Gym.",
        prefix="/wordle",
        number="seed",
        observations="until the end",
        queries=("filtered_vocab",),
        details={"seed": None},
        sums_rewards=True,
    ),
}

_GREETING = re.compile(r"This is environment (\w+)\.")


def dialect_of(name: str) -> Dialect:
    """The dialect in which an environment is served; those that AgentGym does not know get its plainest."""
    return DIALECTS.get(name) or Dialect(greeting=f"This is environment {name}.", number_default=0)


def prefixed_name(path: str) -> str | None:
    """The environment that the path of a server's address names, as ``/maze`` does; ``None`` if it names none."""
    last = path.rstrip("/").rpartition("/")[2]
    return last if last in DIALECTS and DIALECTS[last].prefix else None


def greeted_name(greeting: object, address: str) -> str:
    """The environment behind a server's answer to ``GET /``.

    Raises:
        EnvironmentFault: if the answer names none, or several.
    """
    known = [name for name, dialect in DIALECTS.items() if dialect.greeting == greeting]
    if len(known) == 1:
        return known[0]
    if known:
        paths = " or ".join(address + DIALECTS[name].prefix for name in known)
        raise EnvironmentFault(f"the server at {address} serves several environments", f"give the address as {paths}")
    found = _GREETING.fullmatch(greeting) if isinstance(greeting, str) else None
    if found is None:
        raise EnvironmentFault(
            f"what answers at {address} is no AgentGym server that is known here: it says {str(greeting)[:80]!r}",
            "check the address and the port",
        )
    return found[1]
