"""The WebShop environment: Princeton's WebShop in text mode as AgentGym serves it, over a catalogue of our own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fedse.environments.base import (
    Environment,
    EnvironmentSpec,
    Expert,
    PromptStyle,
    StepResult,
    TaskTraits,
    task_number,
)
from fedse.environments.parts import Part, parse_part
from fedse.environments.review import Review, Seen
from fedse.environments.webshop.expert import WebShopExpert
from fedse.environments.webshop.generator import SIZES
from fedse.environments.webshop.instructions import CONCISE, FULL
from fedse.environments.webshop.nouns import LEXICON, noun_extractor
from fedse.environments.webshop.pages import PAGE_SIZE, Visit
from fedse.environments.webshop.products import NO_LIMIT, Goal
from fedse.environments.webshop.review import offers, review
from fedse.environments.webshop.search import DEFAULT_ENGINE, ENGINES
from fedse.environments.webshop.shop import Shop, Variant, data_shop, own_shop, varied
from fedse.environments.webshop.taxonomy import DEPARTMENTS
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
        stock: sell a part of the catalogue only: a department such as ``fashion``, or a part such as ``2/4`` (see
            :class:`~fedse.environments.parts.Part`).
        search: the search engine: ``bm25`` as in the original, ``titles`` for BM25 over titles alone, ``overlap`` for
            counting the words found.
        max_options: most option values that an instruction asks for, 0 or more; ``None``: any number.
        max_features: most features that it asks for, 0 or more; ``None``: any number.
        page_size: products on a page of results, 1 or more; fewer make shorter episodes.
        nouns: how the reward finds the nouns of product names: ``lexicon``, or the name of an installed spaCy pipeline.
        parity: understand only actions of the exact form, as the original does, and also reproduce what it gets wrong:
            how its reward compares options, and, behind the AgentGym payloads, hidden searches and sessions that go on
            after the purchase.

    Attributes:
        shop: what is sold here, and to whom.
    """

    name: ClassVar[str] = "webshop"
    agentgym: ClassVar[str] = "fedse.environments.webshop.agentgym:WebShopCounterpart"

    def __init__(
        self,
        *,
        catalogue: str = DEFAULT_CATALOGUE,
        data: str | None = None,
        stock: str | None = None,
        search: str = DEFAULT_ENGINE,
        max_options: int | None = None,
        max_features: int | None = None,
        page_size: int = PAGE_SIZE,
        nouns: str = LEXICON,
        parity: bool = False,
    ) -> None:
        if catalogue not in SIZES:
            raise ConfigError(f"webshop has no catalogue {catalogue!r}", f"take one of {', '.join(SIZES)}")
        if data is not None and catalogue != DEFAULT_CATALOGUE:
            raise ConfigError(f"webshop was given both data={data!r} and catalogue={catalogue!r}", "give one of them")
        if not isinstance(parity, bool):
            raise ConfigError(f"webshop: parity must be true or false, found {parity!r}")
        if search not in ENGINES:
            raise ConfigError(f"webshop has no search engine {search!r}", f"take one of {', '.join(ENGINES)}")
        for option, most in (("max_options", max_options), ("max_features", max_features)):
            if most is not None and (type(most) is not int or most < 0):
                raise ConfigError(f"webshop: {option} must be an integer ≥ 0 or null, found {most!r}")
        if type(page_size) is not int or page_size < 1:
            raise ConfigError(f"webshop: page_size must be an integer ≥ 1, found {page_size!r}")
        self._options = {
            "catalogue": catalogue,
            "data": data,
            "stock": stock,
            "search": search,
            "max_options": max_options,
            "max_features": max_features,
            "page_size": page_size,
            "nouns": nouns,
            "parity": parity,
        }
        self._parity = parity
        self._limits = _Limits(max_options, max_features)
        self._page_size = page_size
        self._nouns = noun_extractor(nouns)
        self.shop: Shop = own_shop(catalogue) if data is None else data_shop(Path(data))
        variant = Variant(_stock(stock), search)
        if variant != Variant():
            self.shop = varied(self.shop, variant)
        self._visit: Visit | None = None
        self._turns = 0

    @property
    def spec(self) -> EnvironmentSpec:
        """Ten turns, as in AgentGym's scripts; only a purchase that fits in every point gives a reward above 0.99."""
        return EnvironmentSpec(
            name=self.name,
            version=2,
            summary="Find and buy a product that fits an instruction, in a web shop (WebShop, AgentGym).",
            max_turns=MAX_TURNS,
            success_above=0.99,
            max_response_tokens=96,
            action_rule="bracket",
            splits={split: len(_tasks(self.shop, split, self._limits)) for split in self.shop.splits},
            options=dict(self._options),
        )

    def tasks(self, split: str) -> Sequence[Task]:
        """See :class:`~fedse.environments.base.Environment`; a task's id is the catalogue and the index of a goal."""
        if split not in self.shop.splits:
            raise unknown_name(f"{self.name} split", split, self.shop.splits)
        return _tasks(self.shop, split, self._limits)

    def traits(self, task: Task) -> TaskTraits:
        """Kind: the department.  Size: words of the instruction.  Difficulty: points that the reward counts."""
        goal = self.shop.goals[self._goal(task)]
        points = len(goal.attributes) + len(goal.options) + (goal.price_upper < NO_LIMIT)
        return TaskTraits(goal.product.category, size=len(goal.text.split()), difficulty=points)

    def instruction(self, style: PromptStyle) -> str:
        """The rules; ``full`` adds advice and an example."""
        return CONCISE if style == "concise" else FULL

    def reset(self, task: Task) -> str:
        """Open a task such as ``1k/17``."""
        self._visit = self.visit(self._goal(task))
        self._turns = 0
        return self._visit.text

    def visit(self, goal: int) -> Visit:
        """A visit to the shop with the goal of an index, beside the open episode."""
        shop = self.shop
        return Visit(
            shop.products,
            shop.ranking,
            shop.goals[goal],
            nouns=self._nouns,
            parity=self._parity,
            page_size=self._page_size,
        )

    def _goal(self, task: Task) -> int:
        catalogue, _, text = task.id.partition("/")
        index, shop = task_number(text), self.shop
        if task.environment != self.name or catalogue != shop.name or index is None or index >= len(shop.goals):
            raise EnvironmentFault(
                f"webshop: there is no task {task}", f"task ids are {shop.name}/0 to {len(shop.goals) - 1}"
            )
        if not shop.sells(index):
            raise EnvironmentFault(
                f"webshop: the task {task} wants a product that is not in stock {self._options['stock']!r}",
                "take a task of the environment's own splits",
            )
        return index

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

    def review(self, turns: Sequence[Seen]) -> list[Review]:
        """See :mod:`fedse.environments.webshop.review`."""
        return review(turns)

    def offers(self, turns: Sequence[Seen]) -> Sequence[str]:
        """See :mod:`fedse.environments.webshop.review`."""
        return offers(turns)

    def expert(self, seed: int) -> Expert:
        """A customer who reads the pages and knows how features may be worded."""
        return WebShopExpert(MAX_TURNS - self._turns, seed)


def _stock(text: str | None) -> str | Part | None:
    if text is None or text in DEPARTMENTS:
        return text
    return parse_part(text, option=f"webshop: stock must be one of {', '.join(DEPARTMENTS)}, or")


@dataclass(frozen=True, slots=True)
class _Limits:
    """The most that a goal may ask for; ``None``: any number."""

    options: int | None = None
    features: int | None = None

    def allow(self, goal: Goal) -> bool:
        return (self.options is None or len(goal.options) <= self.options) and (
            self.features is None or len(goal.attributes) <= self.features
        )


@functools.lru_cache(maxsize=64)
def _tasks(shop: Shop, split: str, limits: _Limits) -> Sequence[Task]:
    return tuple(
        Task(WebShop.name, f"{shop.name}/{index}") for index in shop.splits[split] if limits.allow(shop.goals[index])
    )
