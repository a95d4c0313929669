"""From examples to micro-batches: one row without padding, with the shared beginning computed once.

The examples of a site open with the same system message.  In a causal model the hidden states of a common beginning
depend on nothing that follows, so a micro-batch holds it once and every sequence attends to it: the loss and the
gradients are those of the separate sequences.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from fedse.learning.examples import Example, Stream, TokenLoss
from fedse.seeding import numpy_generator


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Where the sequences lie in the row.

    Attributes:
        prefix: tokens at the start of the row that open every sequence; may be 0.
        segments: half-open ranges of the row, one per sequence; each sequence is the prefix and then its segment.
        filling: tokens after the last segment that mean nothing.
    """

    prefix: int
    segments: tuple[tuple[int, int], ...]
    filling: int = 0

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The segments; what fills the row is computed as if it belonged to the last one."""
        *others, (start, end) = self.segments
        return (*others, (start, end + self.filling))

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
        references, temperatures: log-probability of each successor when it was drawn, and of the softmax that this was
            under; NaN and 1 where the loss is the likelihood's; each shape (M,), float32.
        tokens: tokens of all sequences, as they would count without sharing and trimming.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    layout: PackedLayout
    loss_positions: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    references: torch.Tensor
    temperatures: torch.Tensor
    tokens: int

    def to(self, device: torch.device) -> MicroBatch:
        """The same batch on a device."""
        tensors = ("ids", "positions", "loss_positions", "targets", "weights", "references", "temperatures")
        return replace(self, **{name: getattr(self, name).to(device) for name in tensors})


@dataclass(frozen=True, slots=True)
class _Sequence:
    ids: tuple[int, ...]  # up to the last token whose successor carries loss
    losses: tuple[TokenLoss, ...]
    whole: tuple[int, ...]
    temperature: float


def pack(examples: Sequence[Example], max_tokens: int) -> list[MicroBatch]:
    """Lay examples out in as few rows of at most ``max_tokens`` tokens as their order allows.

    Tokens after the last loss position change nothing in a causal model and are left out; nothing else is ever cut.
    An example longer than ``max_tokens`` gets a row of its own.  Examples without loss are left out.
    """
    rows: list[list[_Sequence]] = []
    for example in examples:
        losses, whole = example.losses(), example.tokens.ids
        if losses:
            temperature = example.tokens.temperature if example.on_policy else 1.0
            sequence = _Sequence(whole[: losses[-1].at + 1], losses, whole, temperature)
            if rows and _row_length([*rows[-1], sequence]) <= max_tokens:
                rows[-1].append(sequence)
            else:
                rows.append([sequence])
    return [_lay_out(row) for row in rows]


def _shared_prefix(sequences: Sequence[_Sequence]) -> int:
    """Length of the common beginning that carries no loss, so that each sequence keeps all its loss positions."""
    if len(sequences) == 1:
        return 0
    limit = min(sequence.losses[0].at for sequence in sequences)
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
    losses: list[TokenLoss] = []
    temperatures: list[float] = []
    for sequence in sequences:
        start = len(ids)
        ids += sequence.ids[prefix:]
        positions += range(prefix, len(sequence.ids))
        segments.append((start, len(ids)))
        predicting += [start + loss.at - prefix for loss in sequence.losses]
        targets += [sequence.whole[loss.at + 1] for loss in sequence.losses]
        losses += sequence.losses
        temperatures += [sequence.temperature] * len(sequence.losses)
    return MicroBatch(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        layout=PackedLayout(prefix, tuple(segments)),
        loss_positions=torch.tensor(predicting),
        targets=torch.tensor(targets),
        weights=torch.tensor([loss.weight for loss in losses]),
        references=torch.tensor([loss.reference for loss in losses]),
        temperatures=torch.tensor(temperatures),
        tokens=sum(len(sequence.whole) for sequence in sequences),
    )


def batches(costs: Sequence[int], size: int, seed: int) -> Iterator[list[int]]:
    """Endless batches of indices into ``costs``: passes without replacement, each in an order of its own.

    A batch is full as soon as its costs reach ``size``.  The last batch of a pass may be smaller; no index comes twice
    in a batch.
    """
    for number in itertools.count():
        yield from pass_batches(costs, size, seed, number)


def mixed_batches(
    costs: Sequence[int], streams: Sequence[Stream], shares: Mapping[Stream, float], size: int, seed: int
) -> Iterator[list[int]]:
    """Endless batches with a share of each stream.

    Each stream goes through passes without replacement of its own.  Over the batches the costs that were drawn of a
    stream keep to its share of ``size``; no index comes twice in a batch, so a stream with little in it gives less.
    No batch is empty.

    Args:
        costs: of each example.
        streams: of each example.
        shares: of the streams that occur, sum 1.
        size: what a batch holds.
        seed: of the orders.
    """
    drawn = dict.fromkeys(shares, 0.0)
    members = {stream: [index for index, own in enumerate(streams) if own is stream] for stream in shares}
    ways = {stream: _endless(own, seed, stream) for stream, own in members.items()}
    for number in itertools.count(1):
        batch: list[int] = []
        for stream, share in shares.items():
            seen: set[int] = set()
            due = number * share * size
            while drawn[stream] < due and len(seen) < len(members[stream]):
                index = next(ways[stream])
                if index not in seen:
                    seen.add(index)
                    drawn[stream] += costs[index]
            drawn[stream] = max(drawn[stream], due)  # what a stream with little in it could not give is not made up for
            batch += seen
        if batch:  # examples that are longer than a batch may have used up the shares of the next one, too
            yield sorted(batch)


def _endless(indices: Sequence[int], seed: int, stream: Stream) -> Iterator[int]:
    for number in itertools.count():
        for place in numpy_generator("training-order", seed, stream.value, number).permutation(len(indices)).tolist():
            yield indices[place]


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
