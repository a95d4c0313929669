"""A shop: catalogue, search engine, goals and splits.  Made once per process, since each takes a moment."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from fedse.environments.webshop.files import read_catalogue
from fedse.environments.webshop.generator import generated
from fedse.environments.webshop.goals import Goals
from fedse.environments.webshop.products import Product
from fedse.environments.webshop.search import Bm25, Ranking
from fedse.errors import ConfigError
from fedse.seeding import derive_seed
from fedse.storage import storage_errors

_Entry = TypeVar("_Entry")

#: Most tasks of the splits; small catalogues have fewer to train on.
TRAIN_TASKS, TEST_TASKS = 10_000, 500
#: One product in so many is held out for testing.
_HELD_OUT = 4
#: WebShop's own rule for its goals by index: the first 500 test, the next 1,000 develop, the others train.
_BENCHMARK_TEST, _BENCHMARK_DEV = 500, 1_500


class Shop:
    """A catalogue made ready for play.

    Args:
        name: names the catalogue; the first half of its task ids.
        products: the catalogue, in its order.
        benchmark: also offer WebShop's own splits by goal index.

    Attributes:
        goals: all goals, by index.
        splits: split → indices of its goals, in task order.

    Raises:
        ConfigError: if fewer than two products have goals, so that nothing can be held out.
    """

    def __init__(self, name: str, products: Sequence[Product], *, benchmark: bool) -> None:
        self.name = name
        self.products = products
        self.goals = Goals(products)
        self.splits = _splits(self.goals.by_product())
        if not all(self.splits.values()):
            raise ConfigError(
                f"webshop: too few of the {len(products)} products have an instruction and values for all options",
                "take a catalogue with more instructions",
            )
        if benchmark and len(self.goals) > _BENCHMARK_DEV:
            self.splits |= {
                "benchmark-test": range(_BENCHMARK_TEST),
                "benchmark-dev": range(_BENCHMARK_TEST, _BENCHMARK_DEV),
                "benchmark-train": range(_BENCHMARK_DEV, len(self.goals)),
            }

    @functools.cached_property
    def ranking(self) -> Ranking:
        """The search engine; built at the first visit."""
        return Bm25(self.products)

    @functools.cached_property
    def positions(self) -> Mapping[str, int]:
        """Asin → position in the catalogue."""
        return {product.asin: position for position, product in enumerate(self.products)}


@functools.cache
def own_shop(catalogue: str) -> Shop:
    """The shop with a generated catalogue, a key of :data:`~fedse.environments.webshop.generator.SIZES`."""
    return Shop(catalogue, generated(catalogue), benchmark=False)


def data_shop(path: Path) -> Shop:
    """The shop with data in the original's formats.

    Raises:
        ConfigError: see :func:`~fedse.environments.webshop.files.read_catalogue`.
        StorageError: if the folder cannot be read.
    """
    path = path.absolute()
    return _data_shop(path, _state(path if path.is_dir() else path.parent))


@functools.lru_cache(maxsize=2)
def _data_shop(path: Path, _files: tuple[tuple[str, int, int], ...]) -> Shop:
    return Shop("data", read_catalogue(path), benchmark=True)


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """(name, time of change, size) of the data files in a folder: changed files are read again."""
    with storage_errors("read", folder):
        found = [(file.name, file.stat()) for file in sorted(folder.glob("items_*"))]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def _splits(goals: Iterable[tuple[Product, list[int]]]) -> dict[str, Sequence[int]]:
    """Goals of products for training and of other products for testing.

    Products come in a drawn order with departments in turns, and give one goal each before any gives its second, so
    that any beginning of a split is a fair sample of it.
    """
    drawn = sorted((entry for entry in goals if entry[1]), key=lambda entry: derive_seed("webshop", entry[0].asin))
    held_out, others = drawn[::_HELD_OUT], [entry for place, entry in enumerate(drawn) if place % _HELD_OUT]
    return {
        "train": _in_turns(_departments_in_turns(others))[:TRAIN_TASKS],
        "test": _in_turns(_departments_in_turns(held_out))[:TEST_TASKS],
    }


def _departments_in_turns(entries: Iterable[tuple[Product, list[int]]]) -> list[list[int]]:
    departments: dict[str, list[list[int]]] = {}
    for product, indices in entries:
        departments.setdefault(product.category, []).append(indices)
    return _in_turns([departments[name] for name in sorted(departments)])


def _in_turns(rows: Sequence[Sequence[_Entry]]) -> list[_Entry]:
    """The first of every row, then the second of every row, and so on."""
    longest = max(map(len, rows), default=0)
    return [row[place] for place in range(longest) for row in rows if place < len(row)]
