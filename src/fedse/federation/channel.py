"""The server's end of what passes between it and its sites: adapters as changes from those that both have.

Rounding happens once, in the server's state, and not once for every site: after a round every adapter of the new state
is what a site gets that has the state before.  So the server has bit for bit what the sites have, however they came by
it, and the change that is sent is the same for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np

from fedse.adapters.deltas import alike, encode, select, tell
from fedse.adapters.state import AdapterState
from fedse.errors import UnknownAdapterError
from fedse.federation.strategies import State, Strategy
from fedse.messages import Instruction, Purpose, Refused, Reply
from fedse.messages.wire import Delta
from fedse.runs.layout import ServerFolder
from fedse.runs.rounds import Exchange, load_exchange, load_state, save_exchange
from fedse.storage import storage_errors
from fedse.types import CodecName, FloatArray

#: Where the state's arrays have what rounding lost of an adapter.
_LOST = "_lost/"
#: States that are kept in memory beside the last two, for sites that have older ones.
_STATES = 4


class Channel:
    """Encodes instructions for sites, given what they have, and reads their replies.

    Args:
        codec: how adapters cross.
        folder: the server's.
        strategy: says what sites were sent in earlier rounds.
    """

    def __init__(self, codec: CodecName, folder: ServerFolder, strategy: Strategy) -> None:
        self._codec = codec
        self._folder = folder
        self._strategy = strategy
        self._initial = ""
        self._number = 0
        self._states: dict[int, State] = {}
        self._load = lru_cache(maxsize=_STATES)(lambda number: load_state(folder, number))
        self._changes: Mapping[str, bytes] = {}
        self._held: dict[str, int] = {}
        self._replied: dict[str, int] = {}
        self._sent: Counter[str] = Counter()
        self._told: dict[tuple[str, str], Delta] = {}

    def begin(self, initial: AdapterState, state: State) -> None:
        """Go on from round 0.

        Args:
            initial: the adapter that the federation begins with, which every site can make.
            state: what the strategy made of it.
        """
        self._initial = initial.digest
        self.advance(0, state, {})

    def resume(self, number: int, state: State, exchange: Exchange | None = None) -> None:
        """Go on from a round that is on disk, with what the sites had then.

        Args:
            number: of the round.
            state: after it.
            exchange: what the sites had before its evaluation; default: the round is complete.

        Raises:
            RunError, StorageError: if a file is damaged, or cannot be read.
        """
        known = exchange or replace(load_exchange(self._folder, number), sent={})
        self._initial, self._held, self._sent = known.initial, dict(known.held), Counter(known.sent)
        changes = {}
        for name in state.adapters:
            change = self._folder.change(number, name)
            with storage_errors("read", change):
                if change.exists():
                    changes[name] = change.read_bytes()
        self.advance(number, state, changes)

    def rounded(self, before: State, after: State) -> tuple[State, dict[str, bytes]]:
        """The state after a round as the sites get it, and name → change of the adapters that changed.

        Raises:
            MessageError: if a change is outside of the codec's range.
        """
        adapters, changes = dict(after.adapters), {}
        arrays = {name: array for name, array in after.arrays.items() if not name.startswith(_LOST)}
        for name, adapter in after.adapters.items():
            base, lost = before.adapters.get(name), _lost(before, name)
            if base is None or not alike(base, adapter):
                continue
            if base.digest != adapter.digest:
                told = tell(self._codec, base, adapter, lost)
                adapters[name], changes[name], lost = told.adapter, told.payload, told.lost
            arrays |= {f"{_LOST}{name}/{tensor}": array for tensor, array in lost.items()}
        return replace(after, adapters=adapters, arrays=arrays), changes

    def advance(self, number: int, state: State, changes: Mapping[str, bytes]) -> None:
        """Take a state as the one that sites are sent from now on.

        Args:
            number: of the round after which it is.
            state: see :meth:`rounded`.
            changes: likewise.
        """
        self._number, self._changes = number, changes
        self._states = {known: had for known, had in self._states.items() if known == number - 1} | {number: state}
        self._told = {}

    def keep(self) -> None:
        """Write down which adapters the sites have at the end of a round, and what brought them there.

        Raises:
            StorageError: if it cannot be written.
        """
        save_exchange(self._folder.round(self._number), self.exchange)
        self._sent.clear()

    @property
    def exchange(self) -> Exchange:
        """Which adapters the sites have now, and what brought them there since the last round."""
        held, sent = (dict(sorted(known.items())) for known in (self._held, self._sent))
        return Exchange(self._initial, held, sent)

    def encode(self, instruction: Instruction, *, whole: bool = False) -> bytes:
        """The bytes of an instruction, with its adapters told by those that the site has, or whole.

        Raises:
            MessageError: if it cannot be encoded.
            RunError, AdapterError: if a state that the site has is damaged here.
        """
        sent = [adapter for adapter in (instruction.adapter, instruction.start) if adapter is not None]
        told = {} if whole else {adapter.digest: self._delta(instruction.site, adapter) for adapter in sent}
        if instruction.purpose is Purpose.ROUND:
            instruction = instruction.model_copy(update={"codec": self._codec})
        data = instruction.encode({digest: delta for digest, delta in told.items() if delta is not None})
        if sent:
            self._sent[instruction.site] += len(data)
        return data

    def decode(self, instruction: Instruction, data: bytes) -> Reply:
        """The reply to an instruction.

        Raises:
            MessageError: if it is none.
        """
        base = instruction.base
        reply = Reply.decode(
            data, lambda digest: base if base is not None and base.digest == digest else None, codec=self._codec
        )
        if instruction.adapter is not None and not instruction.owner and not lacks_adapter(reply):
            self._replied[instruction.site] = self._number
        return reply

    def settle(self) -> None:
        """Note what the sites have by their replies.  Not before all came: in which order must not matter."""
        self._held |= self._replied
        self._replied = {}

    def _delta(self, site: str, adapter: AdapterState) -> Delta | None:
        """How an adapter is told to a site; None if it has nothing like it."""
        if adapter.digest == self._initial:
            return Delta(adapter.digest)
        for base in self._bases(site):
            if alike(base, adapter):
                return self._between(base, adapter)
        return None

    def _bases(self, site: str) -> Iterator[AdapterState]:
        """What a site has: what it was sent last, and the initial adapter."""
        if site in self._held:
            yield self._strategy.instruct(self._state(self._held[site]), site).adapter
        yield from (adapter for adapter in self._state(0).adapters.values() if adapter.digest == self._initial)

    def _state(self, number: int) -> State:
        return self._states[number] if number in self._states else self._load(number)

    def _between(self, base: AdapterState, adapter: AdapterState) -> Delta:
        """An adapter told by another: by the change of the last round if it is that, else exactly."""
        key = base.digest, adapter.digest
        if base.digest == adapter.digest:
            return Delta(base.digest)
        if key not in self._told:
            self._told[key] = self._change(base, adapter) or Delta(base.digest, "fp32", encode("fp32", base, adapter))
        return self._told[key]

    def _change(self, base: AdapterState, adapter: AdapterState) -> Delta | None:
        """The change of the last round that leads from base to adapter: of a whole adapter of the state, or a part."""
        for name, payload in self._changes.items():
            before, after = (self._state(number).adapters[name] for number in (self._number - 1, self._number))
            if _is_part(base, before) and _is_part(adapter, after):
                if base.tensors.keys() != before.tensors.keys():
                    payload = select(self._codec, before, payload, base.tensors)
                return Delta(base.digest, self._codec, payload)
        return None


def lacks_adapter(reply: Reply) -> bool:
    """The site needs the whole adapter: it does not have the one by which it was told."""
    return isinstance(reply.answer, Refused) and reply.answer.reason == UnknownAdapterError.__name__


def read_reply(strategy: Strategy, folder: ServerFolder, number: int, site: str) -> Reply:
    """The reply that a site sent in a round, from the server's folder.

    Raises:
        MessageError, RunError, AdapterError, StorageError: if a file is damaged, or cannot be read.
    """
    path = folder.reply(number, site)
    with storage_errors("read", path):
        data = path.read_bytes()

    def find(digest: str) -> AdapterState | None:
        sent = strategy.instruct(load_state(folder, number - 1), site)
        base = sent.base
        return base if base.digest == digest else None

    return Reply.decode(data, find)


def _lost(state: State, name: str) -> Mapping[str, FloatArray]:
    prefix = f"{_LOST}{name}/"
    return {tensor.removeprefix(prefix): array for tensor, array in state.arrays.items() if tensor.startswith(prefix)}


def _is_part(part: AdapterState, whole: AdapterState) -> bool:
    if part.digest == whole.digest:
        return True
    return part.tensors.keys() <= whole.tensors.keys() and all(
        np.array_equal(array, whole.tensors[name]) for name, array in part.tensors.items()
    )
