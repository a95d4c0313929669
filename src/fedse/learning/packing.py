"""From examples to micro-batches: one row without padding, with the shared beginning computed once.

The examples of a site open with the same system message.  In a causal model the hidden states of a common beginning
depend on nothing that follows, so a micro-batch holds it once and every sequence attends to it: the loss and the
gradients are those of the separate sequences.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from fedse.learning.examples import Example
from fedse.seeding import numpy_generator


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Where the sequences lie in the row.

    Attributes:
        prefix: tokens at the start of the row that open every sequence; may be 0.
        segments: half-open ranges of the row, one per sequence; each sequence is the prefix and then its segment.
    """

    prefix: int
    segments: tuple[tuple[int, int], ...]

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence, its prefix included."""
        return self.prefix + max(end - start for start, end in self.segments)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """What one forward pass computes: N tokens of which M predict a token that the agent wrote.

    Attributes:
        ids: the row, shape (1, N).
        positions: position of each token in its own sequence, shape (1, N).
        layout: where the sequences lie.
        loss_positions: indices into the row of the tokens whose successor carries loss, shape (M,).
        targets: those successors, shape (M,).
        weights: factors on their losses, shape (M,), float32.
        tokens: tokens of all sequences, as they would count without sharing and trimming.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    layout: PackedLayout
    loss_positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    tokens: int

    def to(self, device: torch.device) -> MicroBatch:
        """The same batch on a device."""
        tensors = ("ids", "positions", "loss_positions", "targets", "weights")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})


@dataclass(frozen=True, slots=True)
class _Sequence:
    ids: tuple[int, ...]  # up to the last token whose successor carries loss
    losses: tuple[tuple[int, float], ...]  # see Example.losses
    whole: tuple[int, ...]


def pack(examples: Sequence[Example], max_tokens: int) -> list[MicroBatch]:
    """Lay examples out in as few rows of at most ``max_tokens`` tokens as their order allows.

    Tokens after the last loss position change nothing in a causal model and are left out; nothing else is ever cut.
    An example longer than ``max_tokens`` gets a row of its own.  Examples without loss are left out.
    """
    rows: list[list[_Sequence]] = []
    for example in examples:
        losses, whole = example.losses(), example.tokens.ids
        if losses:
            sequence = _Sequence(whole[: losses[-1][0] + 1], losses, whole)
            if rows and _row_length([*rows[-1], sequence]) <= max_tokens:
                rows[-1].append(sequence)
            else:
                rows.append([sequence])
    return [_lay_out(row) for row in rows]


def _shared_prefix(sequences: Sequence[_Sequence]) -> int:
    """Length of the common beginning that carries no loss, so that each sequence keeps all its loss positions."""
    if len(sequences) == 1:
        return 0
    limit = min(sequence.losses[0][0] for sequence in sequences)
    first = sequences[0].ids
    for sequence in sequences[1:]:
        limit = next((at for at in range(limit) if sequence.ids[at] != first[at]), limit)
    return limit


def _row_length(sequences: Sequence[_Sequence]) -> int:
    return sum(len(sequence.ids) for sequence in sequences) - (len(sequences) - 1) * _shared_prefix(sequences)


def _lay_out(sequences: Sequence[_Sequence]) -> MicroBatch:
    prefix = _shared_prefix(sequences)
    ids = list(sequences[0].ids[:prefix])
    positions = list(range(prefix))
    segments: list[tuple[int, int]] = []
    predicting: list[int] = []
    targets: list[int] = []
    weights: list[float] = []
    for sequence in sequences:
        start = len(ids)
        ids += sequence.ids[prefix:]
        positions += range(prefix, len(sequence.ids))
        segments.append((start, len(ids)))
        predicting += [start + index - prefix for index, _ in sequence.losses]
        targets += [sequence.whole[index + 1] for index, _ in sequence.losses]
        weights += [weight for _, weight in sequence.losses]
    return MicroBatch(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        layout=PackedLayout(prefix, tuple(segments)),
        loss_positions=torch.tensor(predicting),
        targets=torch.tensor(targets),
        weights=torch.tensor(weights),
        tokens=sum(len(sequence.whole) for sequence in sequences),
    )


def batches(costs: Sequence[int], size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of indices into ``costs``: passes without replacement, each in an order of its own.

    A batch is full as soon as its costs reach ``size``.  The last batch of a pass may be smaller; no index comes twice
    in a batch.
    """
    for number in itertools.count():
        yield from pass_batches(costs, size, seed, number)


def pass_batches(costs: Sequence[int], size: int, seed: int, number: int) -> Iterator[list[int]]:
    """The batches of one pass, counted from 0; see :func:`batches`."""
    batch: list[int] = []
    for index in numpy_generator("training-order", seed, number).permutation(len(costs)).tolist():
        batch.append(index)
        if sum(costs[member] for member in batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch
