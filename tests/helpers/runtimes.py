"""Runtimes that stand in for sites, or listen at the way between them and the server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedse.adapters.state import AdapterState
from fedse.errors import UnknownAdapterError
from fedse.federation.runtimes import Runtime
from fedse.messages import Done, Instruction, Purpose, Rates, Refused, Reply, SiteReport, Update

if TYPE_CHECKING:
    from fedse.sites.host import SiteHost

#: What a site that is asked for an update sends, or a function of what it was asked.
Answer = bytes | None | Callable[[Instruction], bytes | None]


def replied(instruction: Instruction, answer: object, **fields: object) -> bytes:
    """The bytes of a well-formed reply."""
    known = {"site": instruction.site, "purpose": instruction.purpose, "round": instruction.round}
    return Reply.model_validate(known | {"answer": answer, "report": SiteReport()} | fields).encode()


@dataclass
class ScriptedSites(Runtime):
    """Sites without a model: all goes well, and in rounds they send what they are told to.

    Attributes:
        initial: the adapter to begin with.
        rounds: number of a round → site → what it sends; others send nothing.
        asked: all instructions, in order.
    """

    initial: AdapterState
    rounds: Mapping[int, Mapping[str, Answer]] = field(default_factory=dict)
    asked: list[Instruction] = field(default_factory=list)

    def ask(self, instructions: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        return [self._reply(data) for _, data in instructions]

    def _reply(self, data: bytes) -> bytes | None:
        """Read as a site does that forgets nothing."""
        known = [self.initial, *(asked.adapter for asked in self.asked if asked.adapter is not None)]
        try:
            instruction = Instruction.decode(data, {adapter.digest: adapter for adapter in known}.get)
        except UnknownAdapterError:
            return replied(Instruction.outline(data), Refused(reason="UnknownAdapterError"))
        return self._answer(instruction)

    def _answer(self, instruction: Instruction) -> bytes | None:
        self.asked.append(instruction)
        match instruction.purpose:
            case Purpose.INITIAL:
                return replied(instruction, Update(adapter=self.initial))
            case Purpose.ROUND:
                answer = self.rounds.get(instruction.round, {}).get(instruction.site)
                return answer(instruction) if callable(answer) else answer
            case Purpose.EVALUATE:
                return replied(instruction, Rates(successes=1, episodes=2, errors=0, low=0.1, high=0.9))
        return replied(instruction, Done())


def opened(sent: Iterable[tuple[str, bytes, bytes]]) -> Iterator[tuple[Instruction, Reply]]:
    """What passed a runtime, read by someone who has seen all of it from the beginning."""
    known: dict[str, AdapterState] = {}
    for _, asked, answered in sent:
        instruction = Instruction.decode(asked, known.get)
        known |= {adapter.digest: adapter for adapter in (instruction.adapter, instruction.start) if adapter}
        reply = Reply.decode(answered, known.get)
        if isinstance(reply.answer, Update):
            known[reply.answer.adapter.digest] = reply.answer.adapter
        yield instruction, reply


class HostedSites(Runtime):
    """Real sites, whose refusals come as replies and not as errors, as from another machine."""

    def __init__(self, host: SiteHost) -> None:
        self._host = host

    def ask(self, instructions: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        return [self._host.answer(site, data) for site, data in instructions]


@dataclass
class Recorded(Runtime):
    """Passes on what another runtime brings, and keeps every byte.

    Attributes:
        runtime: does the work.
        sent: (site, instruction, reply) in order.
    """

    runtime: Runtime
    sent: list[tuple[str, bytes, bytes]] = field(default_factory=list)

    def ask(self, instructions: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        replies = self.runtime.ask(instructions)
        self.sent += [(site, data, reply or b"") for (site, data), reply in zip(instructions, replies, strict=True)]
        return replies


class Replayed(Runtime):
    """Replies from a record, each to the instruction that it was given to."""

    def __init__(self, sent: Iterable[tuple[str, bytes, bytes]]) -> None:
        self._replies = {(site, instruction): reply for site, instruction, reply in sent}

    def ask(self, instructions: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        return [self._replies[instruction] for instruction in instructions]
