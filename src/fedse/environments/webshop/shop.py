"""A shop: catalogue, search engine, goals and splits.  Made once per process, since each takes a moment."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from fedse.environments.parts import Part
from fedse.environments.sampling import in_turns
from fedse.environments.webshop.files import read_catalogue
from fedse.environments.webshop.generator import generated
from fedse.environments.webshop.products import Goals, Product
from fedse.environments.webshop.search import DEFAULT_ENGINE, ENGINES, Ranking
from fedse.errors import ConfigError
from fedse.seeding import derive_seed
from fedse.storage import storage_errors

#: Most tasks of the splits; small catalogues have fewer to train on.
TRAIN_TASKS, TEST_TASKS = 10_000, 500
#: Demonstrations and test tasks of the Fed-SE paper.
_PAPER_TRAIN, _PAPER_TEST = 3_930, 200
#: One product in so many is held out for testing.
_HELD_OUT = 4
#: WebShop's own rule for its goals by index: the first 500 test, the next 1,000 develop, the others train.
_BENCHMARK_TEST, _BENCHMARK_DEV = 500, 1_500


@dataclass(frozen=True, slots=True)
class Variant:
    """In what a shop differs from others with the same catalogue."""

    stock: str | Part | None = None  #: what it has of the catalogue: a department, a part, or everything (``None``)
    search: str = DEFAULT_ENGINE  #: a key of :data:`~fedse.environments.webshop.search.ENGINES`

    def stocked(self, catalogue: Sequence[Product]) -> Sequence[Product]:
        """The products that the shop has, in catalogue order."""
        if isinstance(self.stock, Part):
            return self.stock.choose(catalogue, "webshop")
        return [product for product in catalogue if self.stock in (None, product.category)]


class Shop:
    """A catalogue made ready for play.

    Args:
        name: names the catalogue; the first half of its task ids.
        catalogue: all products, in their order.
        benchmark: also offer WebShop's own splits by goal index.
        variant: in what this shop differs.

    Attributes:
        products: what the shop has.
        goals: all goals of the whole catalogue, by index.
        splits: split → indices of its goals, in task order; goals of products that the shop does not have are left out.

    Raises:
        ConfigError: if fewer than two products have goals, so that nothing can be held out.
    """

    def __init__(
        self, name: str, catalogue: Sequence[Product], *, benchmark: bool, variant: Variant = Variant()
    ) -> None:
        self.name = name
        self.catalogue = catalogue
        self.benchmark = benchmark
        self.products = variant.stocked(catalogue)
        self.goals = Goals(catalogue)
        self._search = variant.search
        self.splits = _splits(self.goals.by_product(), {*self.positions})
        if not all(self.splits.values()):
            raise ConfigError(
                f"webshop: too few of the {len(self.products)} products have an instruction and values for all options",
                "take a catalogue with more instructions, or more of it",
            )
        if benchmark and len(self.goals) > _BENCHMARK_DEV:
            ranges = {
                "benchmark-test": range(_BENCHMARK_TEST),
                "benchmark-dev": range(_BENCHMARK_TEST, _BENCHMARK_DEV),
                "benchmark-train": range(_BENCHMARK_DEV, len(self.goals)),
            }
            self.splits |= {split: self._sold(indices) for split, indices in ranges.items()}

    def sells(self, index: int) -> bool:
        """Whether the shop has the product behind a goal."""
        return self.goals[index].product.asin in self.positions

    def _sold(self, indices: Sequence[int]) -> Sequence[int]:
        whole = len(self.products) == len(self.catalogue)
        return indices if whole else [index for index in indices if self.sells(index)]

    @functools.cached_property
    def ranking(self) -> Ranking:
        """The search engine; built at the first visit."""
        return ENGINES[self._search](self.products)

    @functools.cached_property
    def positions(self) -> Mapping[str, int]:
        """Asin → position among the shop's products."""
        return {product.asin: position for position, product in enumerate(self.products)}


@functools.cache
def own_shop(catalogue: str) -> Shop:
    """The shop with a generated catalogue, a key of :data:`~fedse.environments.webshop.generator.SIZES`."""
    return Shop(catalogue, generated(catalogue), benchmark=False)


def data_shop(path: Path) -> Shop:
    """The shop with data in the original's formats, see :func:`~fedse.environments.webshop.files.read_catalogue`."""
    path = path.absolute()
    return _data_shop(path, _state(path if path.is_dir() else path.parent))


@functools.lru_cache(maxsize=2)
def _data_shop(path: Path, _files: tuple[tuple[str, int, int], ...]) -> Shop:
    return Shop("data", read_catalogue(path), benchmark=True)


@functools.lru_cache(maxsize=32)
def varied(shop: Shop, variant: Variant) -> Shop:
    """A shop with the same catalogue that differs in stock or search.

    Raises:
        ConfigError: if too little is left of the catalogue.
    """
    return Shop(shop.name, shop.catalogue, benchmark=shop.benchmark, variant=variant)


def _state(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """(name, time of change, size) of the data files in a folder: changed files are read again."""
    with storage_errors("read", folder):
        found = [(file.name, file.stat()) for file in sorted(folder.glob("items_*"))]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)


def _splits(goals: Iterable[tuple[Product, list[int]]], sold: Set[str]) -> dict[str, Sequence[int]]:
    """Goals of products for training and of other products for testing.

    Which products are held out depends on the whole catalogue only, so that no two shops disagree about it.

    Products come in a drawn order with departments in turns, and give one goal each before any gives its second, so
    that any beginning of a split is a fair sample of it.
    """
    drawn = sorted((entry for entry in goals if entry[1]), key=lambda entry: derive_seed("webshop", entry[0].asin))
    held_out, others = drawn[::_HELD_OUT], [entry for place, entry in enumerate(drawn) if place % _HELD_OUT]
    train, test = (
        in_turns(_departments_in_turns(entry for entry in entries if entry[0].asin in sold))
        for entries in (others, held_out)
    )
    return {
        "train": train[:TRAIN_TASKS],
        "test": test[:TEST_TASKS],
        "paper-train": train[:_PAPER_TRAIN],
        "paper-test": test[:_PAPER_TEST],
    }


def _departments_in_turns(entries: Iterable[tuple[Product, list[int]]]) -> list[list[int]]:
    departments: dict[str, list[list[int]]] = {}
    for product, indices in entries:
        departments.setdefault(product.category, []).append(indices)
    return in_turns([departments[name] for name in sorted(departments)])
