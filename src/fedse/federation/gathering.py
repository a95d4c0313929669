"""Asking sites: instructions go out, replies are read as they come, and what became of each is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fedse.adapters.checks import in_words
from fedse.config import RunConfig
from fedse.errors import MessageError, RunError, UnknownRunError
from fedse.federation.channel import Channel, lacks_adapter
from fedse.federation.runtimes import Runtime
from fedse.messages import Diverged, Done, Instruction, Rates, Refused, Reply, SiteReport, Update
from fedse.messages.screening import reply_problems
from fedse.progress import Phase

OK = "ok"
DIVERGED = "diverged"
#: It was asked, and did not answer before the deadline.  It may be asked again.
MISSING = "missing"
#: It was not asked: it cannot be reached, or it never joined.
ABSENT = "absent"
#: It was not asked: this round is without it.
NOT_DRAWN = "not drawn"


@dataclass(frozen=True)
class Gathered:
    """An instruction, and what came back of it but for tensors.

    Attributes:
        instruction: that was sent.
        report: what the site tells.
        answer: what it answers; None for an update, whose tensors are on disk, and if there is none.
        scalars: of the update.
        problem: why there is no answer; empty otherwise.
        lacks_adapter: the site has not got the adapter by which the one in the instruction was told.
    """

    instruction: Instruction
    report: SiteReport = field(default_factory=SiteReport)
    answer: Diverged | Rates | Refused | Done | None = None
    scalars: Mapping[str, float] | None = None
    problem: str = MISSING
    lacks_adapter: bool = False

    @property
    def site(self) -> str:
        """Who was asked."""
        return self.instruction.site

    @property
    def is_new(self) -> bool:
        """The site says that it knows nothing of the run."""
        return isinstance(self.answer, Refused) and self.answer.reason == UnknownRunError.__name__

    @property
    def outcome(self) -> str:
        """What became of it, for the record."""
        match self.answer:
            case Diverged():
                return DIVERGED
            case Refused(reason=reason, words=words):
                told = words or reason  # of another machine: nothing in it may steer a terminal
                return "refused: " + "".join(letter if letter.isprintable() else " " for letter in told)
        return self.problem or OK


#: Gets each usable reply, and its bytes.
Keep = Callable[[Reply, bytes], None]


class Gathering:
    """Asks the sites of a run, when called.

    Args:
        config: of the run.
        runtime: brings instructions to the sites and replies back.
        channel: encodes and decodes them.
    """

    def __init__(self, config: RunConfig, runtime: Runtime, channel: Channel) -> None:
        self._config = config
        self._runtime = runtime
        self._channel = channel

    def __call__(self, instructions: Iterable[Instruction], keep: Keep | None = None) -> list[Gathered]:
        """Send instructions one after the other and read the replies as they come; in the order of the instructions.

        Sites that lack the adapter by which another was told are sent it whole.
        """
        gathered = self._exchange(instructions, keep)
        lacking = [index for index, found in enumerate(gathered) if found.lacks_adapter]
        again = self._exchange([gathered[index].instruction for index in lacking], keep, whole=True) if lacking else []
        for index, found in zip(lacking, again, strict=True):
            gathered[index] = found
        return gathered

    def _exchange(
        self, instructions: Iterable[Instruction], keep: Keep | None, *, whole: bool = False
    ) -> list[Gathered]:
        gathered: list[Gathered] = []

        def sent() -> Iterator[tuple[str, bytes]]:
            for instruction in instructions:
                gathered.append(Gathered(instruction))
                yield instruction.site, self._channel.encode(instruction, whole=whole)

        for index, data in self._runtime.ask(sent(), deadline=self._config.exchange.deadline):
            gathered[index] = self._read(gathered[index], data, keep)
        self._channel.settle()
        return gathered

    def _read(self, asked: Gathered, data: bytes | str, keep: Keep | None) -> Gathered:
        if isinstance(data, str):
            return replace(asked, problem=f"no answer: {data}")
        try:
            reply = self._channel.decode(asked.instruction, data)
        except MessageError as error:
            return replace(asked, problem=f"rejected: {error.what}")
        problems = reply_problems(reply, asked.instruction, names_of(self._config, asked.site))
        if problems:
            return replace(asked, problem=f"rejected: {in_words(problems)}")
        if lacks_adapter(reply):
            return replace(asked, lacks_adapter=True)
        if keep is not None:
            keep(reply, data)
        found = replace(asked, report=reply.report, problem="")
        if isinstance(reply.answer, Update):
            return replace(found, scalars=reply.answer.scalars)
        return replace(found, answer=reply.answer)


def names_of(config: RunConfig, site: str) -> set[str]:
    """Of what a site may tell: itself, and its environments."""
    return {site, *(client.name for client in config.sites[site])}


def required(gathered: Sequence[Gathered]) -> None:
    """Refuse to go on without these answers.

    Raises:
        RunError: naming the sites that did not give them.
    """
    failed = [f"{found.site} {found.outcome}" for found in gathered if found.outcome != OK]
    if failed:
        raise RunError(f"sites cannot begin: {'; '.join(failed)}", "mend these sites, then resume the run")


def seconds_of(gathered: Iterable[Gathered], aggregation: float = 0.0) -> dict[str, float]:
    """Phase → seconds over all sites and the server."""
    total = dict.fromkeys(Phase, 0.0) | {Phase.AGGREGATE: aggregation}
    for found in gathered:
        for phases in found.report.phases.values():
            for phase, summary in phases.items():
                total[phase] += summary.seconds or 0.0
    return {phase.value: round(spent, 3) for phase, spent in total.items() if spent}
