"""Runtimes that stand in for sites, or listen at the way between them and the server."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fedse.adapters.state import AdapterState
from fedse.errors import UnknownAdapterError
from fedse.federation.runtimes import InTurns, Runtime
from fedse.messages import Done, Instruction, Purpose, Rates, Refused, Reply, SiteReport, Update
from fedse.messages.reply import ECHOED

if TYPE_CHECKING:
    from fedse.sites.host import SiteHost

#: What a site that is asked for an update sends, why nothing of it comes, or a function of what it was asked.
Answer = bytes | str | None | Callable[[Instruction], bytes | None]
Answers = Iterator[tuple[int, bytes | str]]


def replied(instruction: Instruction, answer: object, **fields: object) -> bytes:
    """The bytes of a well-formed reply."""
    known = {name: getattr(instruction, name) for name in ECHOED}
    return Reply.model_validate(known | {"answer": answer, "report": SiteReport()} | fields).encode()


@dataclass
class ScriptedSites(Runtime):
    """Sites without a model: all goes well, and in rounds they send what they are told to.

    Attributes:
        initial: the adapter to begin with.
        rounds: number of a round → site → what it sends; others send nothing.
        away: site → before which round of the federation it cannot be reached, and answers nothing.
        asked: all instructions, in order.
    """

    initial: AdapterState
    rounds: Mapping[int, Mapping[str, Answer]] = field(default_factory=dict)
    away: Mapping[str, int] = field(default_factory=dict)
    asked: list[Instruction] = field(default_factory=list)
    _round: int = 0

    def reachable(self, sites: Collection[str]) -> Collection[str]:
        return {site for site in sites if self.away.get(site, 0) <= self._round}

    def ask(self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None) -> Answers:
        for index, (_, data) in enumerate(instructions):
            answer = self._reply(data)
            if answer:
                yield index, answer

    def _reply(self, data: bytes) -> bytes | str | None:
        """Read as a site does that forgets nothing."""
        known = [self.initial, *(asked.adapter for asked in self.asked if asked.adapter is not None)]
        try:
            instruction = Instruction.decode(data, {adapter.digest: adapter for adapter in known}.get)
        except UnknownAdapterError:
            return replied(Instruction.outline(data), Refused(reason="UnknownAdapterError"))
        return self._answer(instruction)

    def _answer(self, instruction: Instruction) -> bytes | str | None:
        self.asked.append(instruction)
        self._round = max(self._round, instruction.round + (instruction.purpose is Purpose.EVALUATE))
        if self.away.get(instruction.site, 0) > self._round:
            return None
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
        seen = (instruction.adapter, instruction.start, instruction.base)
        known |= {adapter.digest: adapter for adapter in seen if adapter}
        reply = Reply.decode(answered, known.get)
        if isinstance(reply.answer, Update):
            known[reply.answer.adapter.digest] = reply.answer.adapter
        yield instruction, reply


class HostedSites(InTurns):
    """Real sites, whose refusals come as replies and not as errors, as from another machine."""

    def __init__(self, host: SiteHost) -> None:
        self._host = host

    def answer(self, site: str, data: bytes) -> bytes:
        return self._host.answer(site, data)


@dataclass
class Recorded(Runtime):
    """Passes on what another runtime brings, and keeps every byte.

    Attributes:
        runtime: does the work.
        sent: (site, instruction, reply) in order.
    """

    runtime: Runtime
    sent: list[tuple[str, bytes, bytes]] = field(default_factory=list)

    def ask(self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None) -> Answers:
        asked: list[tuple[str, bytes]] = []
        replies: dict[int, bytes] = {}

        def passed() -> Iterator[tuple[str, bytes]]:
            for instruction in instructions:
                asked.append(instruction)
                yield instruction

        for index, reply in self.runtime.ask(passed(), deadline=deadline):
            replies[index] = reply
            yield index, reply
        self.sent += [(site, data, replies.get(index, b"")) for index, (site, data) in enumerate(asked)]


class Replayed(Runtime):
    """Replies from a record, each to the instruction that it was given to."""

    def __init__(self, sent: Iterable[tuple[str, bytes, bytes]]) -> None:
        self._replies = {(site, instruction): reply for site, instruction, reply in sent}

    def ask(self, instructions: Iterable[tuple[str, bytes]], *, deadline: float | None = None) -> Answers:
        for index, instruction in enumerate(instructions):
            yield index, self._replies[instruction]
