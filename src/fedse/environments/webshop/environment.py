"""The WebShop environment: Princeton's WebShop in text mode as AgentGym serves it, over a catalogue of our own."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from fedse.environments.base import AgentGymSession, Environment, EnvironmentSpec, Expert, PromptStyle, StepResult
from fedse.environments.task_numbers import task_number
from fedse.environments.webshop.expert import WebShopExpert
from fedse.environments.webshop.generator import SIZES
from fedse.environments.webshop.instructions import CONCISE, FULL
from fedse.environments.webshop.nouns import LEXICON, noun_extractor
from fedse.environments.webshop.replaying import RecordedSession, recorded_reward
from fedse.environments.webshop.session import WebShopSession
from fedse.environments.webshop.shop import Shop, data_shop, own_shop
from fedse.environments.webshop.visit import Visit
from fedse.errors import ConfigError, EnvironmentFault
from fedse.names import unknown_name
from fedse.types import Task

MAX_TURNS = 10
DEFAULT_CATALOGUE = "1k"


class WebShop(Environment):
    """Buy what an instruction asks for.

    Args:
        catalogue: ``1k``, ``10k`` or ``100k`` products of our own.
        data: the original's data files instead: their folder, or the file ``items_shuffle….json`` in it.
        nouns: how the reward finds the nouns of product names: ``lexicon``, or the name of an installed spaCy pipeline.
        parity: also reproduce what the original gets wrong: how its reward compares options, and, behind the
            AgentGym payloads, hidden searches and sessions that go on after the purchase.

    Raises:
        ConfigError: if an option has a bad value.
    """

    name: ClassVar[str] = "webshop"

    def __init__(
        self,
        *,
        catalogue: str = DEFAULT_CATALOGUE,
        data: str | None = None,
        nouns: str = LEXICON,
        parity: bool = False,
    ) -> None:
        if catalogue not in SIZES:
            raise ConfigError(f"webshop has no catalogue {catalogue!r}", f"take one of {', '.join(SIZES)}")
        if data is not None and catalogue != DEFAULT_CATALOGUE:
            raise ConfigError(f"webshop was given both data={data!r} and catalogue={catalogue!r}", "give one of them")
        if not isinstance(parity, bool):
            raise ConfigError(f"webshop: parity must be true or false, found {parity!r}")
        self._options = {"catalogue": catalogue, "data": data, "nouns": nouns, "parity": parity}
        self._parity = parity
        self._nouns = noun_extractor(nouns)
        self._shop: Shop = own_shop(catalogue) if data is None else data_shop(Path(data))
        self._visit: Visit | None = None
        self._turns = 0

    @property
    def spec(self) -> EnvironmentSpec:
        """Ten turns, as in AgentGym's scripts; only a purchase that fits in every point gives a reward above 0.99."""
        return EnvironmentSpec(
            name=self.name,
            version=1,
            summary="Find and buy a product that fits an instruction, in a web shop (WebShop, AgentGym).",
            max_turns=MAX_TURNS,
            success_above=0.99,
            max_response_tokens=96,
            action_rule="bracket",
            splits={split: len(indices) for split, indices in self._shop.splits.items()},
            options=dict(self._options),
        )

    def tasks(self, split: str) -> Sequence[Task]:
        """See :class:`~fedse.environments.base.Environment`; a task's id is the catalogue and the index of a goal."""
        if split not in self._shop.splits:
            raise unknown_name(f"{self.name} split", split, self._shop.splits)
        return _tasks(self._shop, split)

    def instruction(self, style: PromptStyle) -> str:
        """The rules; ``full`` adds advice and an example."""
        return CONCISE if style == "concise" else FULL

    def reset(self, task: Task) -> str:
        """Open a task such as ``1k/17``."""
        catalogue, _, text = task.id.partition("/")
        index = task_number(text)
        goals = self._shop.goals
        if task.environment != self.name or catalogue != self._shop.name or index is None or index >= len(goals):
            raise EnvironmentFault(
                f"webshop: there is no task {task}", f"task ids are {self._shop.name}/0 to {len(goals) - 1}"
            )
        shop = self._shop
        self._visit = Visit(shop.products, shop.ranking, goals[index], nouns=self._nouns, parity=self._parity)
        self._turns = 0
        return self._visit.text

    def step(self, action: str) -> StepResult:
        """Search or click; anything else leaves the page as it is."""
        visit = self._visit
        if visit is None:
            raise EnvironmentFault("webshop: there is no open visit to step", "call reset with a task first")
        result = visit.step(action)
        self._turns += 1
        if result.done:
            self._visit = None
        return result

    def expert(self, seed: int) -> Expert:
        """A customer who reads the pages and knows how features may be worded."""
        return WebShopExpert(MAX_TURNS - self._turns, seed)

    def agentgym(self, slot: int = 0) -> AgentGymSession:
        """A slot of AgentGym's WebShop server, over this environment's catalogue."""
        return WebShopSession(self._shop, self._nouns, slot, parity=self._parity)

    def agentgym_tasks(self) -> Mapping[str, Mapping[int, Task]]:
        """Indices of goals."""
        return {
            split: dict(zip(indices, _tasks(self._shop, split), strict=True))
            for split, indices in self._shop.splits.items()
        }

    @classmethod
    def replay_session(cls, record: Mapping[str, Any]) -> AgentGymSession:
        """See :class:`~fedse.environments.base.Environment`; the recorded catalogue lies beside the recording."""
        return RecordedSession(record)

    @classmethod
    def replay_case(cls, part: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """See :class:`~fedse.environments.base.Environment`; the one recorded part is the ``reward``."""
        if part != "reward":
            raise unknown_name("recorded part of webshop", part, ["reward"])
        return recorded_reward(record)


@functools.lru_cache(maxsize=16)
def _tasks(shop: Shop, split: str) -> Sequence[Task]:
    return tuple(Task(WebShop.name, f"{shop.name}/{index}") for index in shop.splits[split])
