"""Dividing the training tasks of an environment among several sites."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from fedse.config import PartitionConfig
from fedse.errors import ConfigError
from fedse.texts import counted

#: Levels into which sizes and difficulties are sorted before a Dirichlet draw: quarters of the tasks.
_QUARTERS = (0.25, 0.5, 0.75)

_Values = Sequence[str] | Sequence[int]


def goes_by_trait(settings: PartitionConfig) -> bool:
    """Whether the scheme looks at the tasks' traits."""
    return settings.scheme in ("dirichlet", "ordered")


def partition(
    count: int,
    sites: int,
    settings: PartitionConfig,
    values: Callable[[], _Values],
    *,
    rng: np.random.Generator,
) -> list[list[int]]:
    """Divide tasks among sites: disjoint, complete, no site without a task.

    * ``iid``: at random, in equal parts.
    * ``quantity``: at random, in parts whose sizes are drawn from a Dirichlet distribution.
    * ``dirichlet``: for every kind (or quarter of the sizes or difficulties), the sites' shares are drawn from a
      Dirichlet distribution (Hsu, Qi and Brown, arXiv 1909.06335): small ``alpha`` gives most of a kind to one site.
    * ``ordered``: sorted by the trait and cut into equal parts, so that sites differ as much as they can.

    Args:
        count: how many tasks there are.
        sites: among how many sites.
        settings: the scheme, the trait that it goes by, and ``alpha``.
        values: tells every task's trait; called only by schemes that go by one.
        rng: of the draws.

    Returns:
        For every site the numbers of its tasks, ascending.

    Raises:
        ConfigError: if there are fewer tasks than sites.
    """
    if count < sites:
        raise ConfigError(
            f"{counted(count, 'task')} cannot be divided among {sites} clients", "take fewer clients or other tasks"
        )
    shuffled = rng.permutation(count)
    if settings.scheme == "iid":
        parts = [shuffled[site::sites] for site in range(sites)]
    elif settings.scheme == "quantity":
        parts = _cut(shuffled, rng.dirichlet([settings.alpha] * sites))
    elif settings.scheme == "ordered":
        found = list(values())
        # Sorted from the shuffled order, so that equal tasks at a cut fall to either side by chance.
        ordered = np.array(sorted(shuffled.tolist(), key=lambda number: found[number]))
        parts = _cut(ordered, np.full(sites, 1 / sites))
    else:
        parts = _by_levels(shuffled, _levels(values()), sites, settings.alpha, rng)
    return _without_empty([sorted(part.tolist()) for part in parts])


def _by_levels(
    shuffled: npt.NDArray[np.int64],
    levels: npt.NDArray[np.int64],
    sites: int,
    alpha: float,
    rng: np.random.Generator,
) -> list[npt.NDArray[np.int64]]:
    """Every level divided on its own, by shares of its own."""
    pieces: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(sites)]
    for level in np.unique(levels):
        members = shuffled[levels[shuffled] == level]
        for site, piece in enumerate(_cut(members, rng.dirichlet([alpha] * sites))):
            pieces[site].append(piece)
    return [np.concatenate(found) for found in pieces]


def _cut(numbers: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> list[npt.NDArray[np.int64]]:
    """Consecutive pieces in proportion to shares that sum to one."""
    ends = np.rint(np.cumsum(shares)[:-1] * len(numbers)).astype(int)
    return np.split(numbers, ends)


def _levels(values: _Values) -> npt.NDArray[np.int64]:
    """The level of every task: its kind, or the quarter that its number lies in."""
    if isinstance(values[0], str):
        return np.unique(np.array(values), return_inverse=True)[1]
    return np.searchsorted(np.quantile(np.array(values), _QUARTERS), np.array(values)).astype(np.int64)


def _without_empty(parts: list[list[int]]) -> list[list[int]]:
    """A site that came away empty-handed gets a task of the richest site."""
    for part in parts:
        if not part:
            richest = max(parts, key=len)
            part.append(richest.pop())
    return parts
