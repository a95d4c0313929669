"""Parts of an adapter: some of its components, or one of its two factors.

A component of a LoRA adapter is a row of A with the column of B of the same index: B·A = Σ_j b_j a_jᵀ.  An adapter can
be cut along its rank into blocks, and blocks put side by side are one adapter (peft's ``cat``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

import numpy as np

from fedse.adapters.algebra import FACTORS, Factor
from fedse.adapters.moments import widths
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterMeta, AdapterState
from fedse.errors import AdapterError
from fedse.seeding import numpy_generator
from fedse.types import FloatArray


@dataclass(frozen=True, slots=True)
class Trained:
    """Which part of an adapter a site trains, and sends back.  The rest takes part in every forward pass, frozen.

    Attributes:
        factors: one of them, or both.
        ranks: indices of the components, ascending; None: all.
        b_only: those of ``ranks`` of which B is trained and A is not.
    """

    factors: tuple[Factor, ...] = FACTORS
    ranks: tuple[int, ...] | None = None
    b_only: tuple[int, ...] = ()

    @property
    def whole(self) -> bool:
        """Everything is trained."""
        return set(self.factors) == set(FACTORS) and self.ranks is None

    def problem(self, meta: AdapterMeta) -> str:
        """Why an adapter has no such part; empty if it has."""
        if not self.factors:
            return "no factor is trained"
        ranks = self.ranks
        if ranks is not None and not (
            ranks and list(ranks) == sorted(set(ranks)) and ranks[0] >= 0 and ranks[-1] < meta.rank
        ):
            return f"components {list(ranks)} of an adapter of rank {meta.rank}"
        if not set(self.b_only) <= set(ranks or ()):
            return f"components {list(self.b_only)} of which B is trained are not among {list(ranks or ())}"
        return ""

    def index(self, name: str) -> tuple[slice | Sequence[int], ...] | None:
        """Where the part lies in the tensor with this name; None if nothing of it is trained."""
        factor = factor_of(name)
        if factor not in self.factors:
            return None
        if self.ranks is None:
            return (slice(None),)
        if factor == "B":
            return slice(None), list(self.ranks)
        return ([rank for rank in self.ranks if rank not in self.b_only],)

    def of(self, adapter: AdapterState) -> AdapterState:
        """The part alone, with the scaling of the whole.

        Raises:
            AdapterError: if the adapter has no such part.
        """
        if self.whole:
            return adapter
        if problem := self.problem(adapter.meta):
            raise AdapterError(f"an adapter has no such part: {problem}", "mend the strategy")
        indices = {name: self.index(name) for name in adapter.tensors}
        tensors = {name: adapter.tensors[name][index] for name, index in indices.items() if index is not None}
        return AdapterState(tensors, adapter.meta if self.ranks is None else of_rank(adapter.meta, len(self.ranks)))

    def into(self, adapter: AdapterState, part: AdapterState) -> AdapterState:
        """The adapter with this part replaced; the inverse of :meth:`of`."""
        if self.whole:
            return part
        tensors: dict[str, FloatArray] = {}
        for name, array in adapter.tensors.items():
            index = self.index(name)
            if index is not None and name in part.tensors:
                array = array.copy()
                array[index] = part.tensors[name]
            tensors[name] = array
        return AdapterState(tensors, adapter.meta)


def has_own_parts(sent: AdapterState, names: Set[str], private: tuple[int, ...] = ()) -> bool:
    """Whether a site that was sent this puts parts of its own into it; see :func:`with_own_parts`.

    Args:
        sent: with some tensors, or all.
        names: of all tensors.
        private: indices of components.
    """
    return sent.tensors.keys() != names or bool(private)


def with_own_parts(sent: AdapterState, own: AdapterState, private: tuple[int, ...] = ()) -> AdapterState:
    """What was sent, with a site's own in the place of tensors that were left out and of private components.

    Args:
        sent: with some tensors, or all.
        own: with all.
        private: indices of components, ascending.
    """
    whole = AdapterState({**own.tensors, **sent.tensors}, sent.meta)
    part = Trained(ranks=private)
    return part.into(whole, part.of(own)) if private else whole


def factor_of(name: str) -> Factor:
    """The factor that a tensor is."""
    return "A" if name.endswith(SUFFIX_A) else "B"


def rank_axis(name: str) -> int:
    """The axis of a tensor that runs over the components: the rows of A, the columns of B."""
    return 0 if factor_of(name) == "A" else 1


def side_by_side(blocks: Iterable[AdapterState]) -> AdapterState:
    """One adapter that computes the sum of all: s·Σ_k B_k A_k.

    Args:
        blocks: of one model, with the same names and scaling; at least one.

    Raises:
        AdapterError: if they are not.
    """
    parts = list(blocks)
    first = parts[0]
    if any(part.tensors.keys() != first.tensors.keys() or part.meta.scaling != first.meta.scaling for part in parts):
        raise AdapterError("these adapters differ in names or in scaling", "bring them to the same alpha / rank first")
    tensors = {
        name: np.concatenate([part.tensors[name] for part in parts], axis=rank_axis(name)) for name in first.tensors
    }
    return AdapterState(tensors, of_rank(first.meta, sum(part.meta.rank for part in parts)))


def random_rows(like: AdapterState, rank: int, *stream: str | int) -> dict[str, FloatArray]:
    """Layer → rows of a fresh A, shape (rank, in), uniform within ±1/√in.

    Args:
        like: has the layers.
        rank: how many rows.
        stream: names what is random, so that it is the same wherever it is drawn.
    """
    return {
        layer: numpy_generator(*stream, layer).uniform(-1, 1, (rank, width)).astype(np.float32) / np.sqrt(width)
        for layer, width in widths(like).items()
    }


def fresh_block(like: AdapterState, rows: Mapping[str, FloatArray]) -> AdapterState:
    """A block with these rows of A and a B of zero, so that it changes nothing yet; the scaling is that of ``like``."""
    tensors: dict[str, FloatArray] = {}
    for layer, factor_a in rows.items():
        tensors[layer + SUFFIX_A] = np.asarray(factor_a, dtype=np.float32)
        tensors[layer + SUFFIX_B] = np.zeros((len(like.tensors[layer + SUFFIX_B]), len(factor_a)), dtype=np.float32)
    [rank] = {len(factor_a) for factor_a in rows.values()}
    return AdapterState(tensors, of_rank(like.meta, rank))


def resized(adapter: AdapterState, rank: int) -> AdapterState:
    """The first components of an adapter, or all of them and zeros behind; the scaling stays."""
    if rank == adapter.meta.rank:
        return adapter
    if rank < adapter.meta.rank:
        return Trained(ranks=tuple(range(rank))).of(adapter)
    more = (0, rank - adapter.meta.rank)
    tensors = {
        name: np.pad(array, [more if axis == rank_axis(name) else (0, 0) for axis in (0, 1)])
        for name, array in adapter.tensors.items()
    }
    return AdapterState(tensors, of_rank(adapter.meta, rank))


def of_rank(meta: AdapterMeta, rank: int) -> AdapterMeta:
    """Another rank with the same scaling."""
    return replace(meta, rank=rank, alpha=meta.scaling * rank)
