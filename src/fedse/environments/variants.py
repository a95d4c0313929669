"""Options that make sites of one environment differ: the same game with other dynamics at every site.

Task heterogeneity, where sites have different tasks of one world, is the run configuration's section ``partition``.
Both kinds are told apart in FedAgent ("Is Decentralized LLM Agent RL Robust to Heterogeneity?", fed-agent.github.io).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from fedse.environments.maze.generator import STYLES
from fedse.environments.parts import Part
from fedse.environments.webshop.search import ENGINES
from fedse.environments.webshop.taxonomy import DEPARTMENTS
from fedse.names import unknown_name
from fedse.seeding import python_random

#: Variant → (environment, option, values to hand out in turns; none where every site gets a part of its own).
VARIANTS: Mapping[str, tuple[str, str, Sequence[str]]] = {
    "maze-layout": ("maze", "layout", tuple(STYLES)),
    "textcraft-recipes": ("textcraft", "missing", ()),
    "webshop-catalogue": ("webshop", "stock", ()),
    "webshop-department": ("webshop", "stock", DEPARTMENTS),
    "webshop-search": ("webshop", "search", tuple(ENGINES)),
    "wordle-vocabulary": ("wordle", "part", ()),
}


def site_options(variant: str, sites: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """The environment's options at each of several sites.

    Args:
        variant: a key of :data:`VARIANTS`.
        sites: how many sites there are, 1 or more.
        seed: draws the parts, or the order in which values are handed out.

    Returns:
        One mapping per site, for ``clients.*.options``.
    """
    if variant not in VARIANTS:
        raise unknown_name("variant", variant, VARIANTS)
    _, option, values = VARIANTS[variant]
    if not values:
        return [{option: str(Part(number, sites, seed))} for number in range(1, sites + 1)]
    drawn = python_random("variants", variant, seed).sample(values, len(values))
    return [{option: value} for value in itertools.islice(itertools.cycle(drawn), sites)]
