"""The server: sees messages and its own folder, and nothing else of the sites.

The round loop reads like the method: instruct, gather, screen, absorb, evaluate, record.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedse.adapters.checks import in_words, state_problems
from fedse.config import ClientConfig, RunConfig
from fedse.errors import AdapterError, ConfigError, MessageError, RunError, UpdateRejectedError
from fedse.federation.channel import Channel, lacks_adapter
from fedse.federation.evaluators import evaluators
from fedse.federation.runtimes import Runtime
from fedse.federation.shares import held_out_anywhere, share_of
from fedse.federation.strategies import GLOBAL, Sent, State, Strategy, make_strategy
from fedse.messages import Diverged, Instruction, Purpose, Rates, Refused, Reply, TaskSummary, Update
from fedse.messages.screening import reply_problems
from fedse.progress import Event, Listener, Phase
from fedse.runs.layout import ServerFolder
from fedse.runs.records import append_record, read_records
from fedse.runs.rounds import load_state, save_round
from fedse.types import RoundRecord, SuccessRate

OK = "ok"
MISSING = "missing"
DIVERGED = "diverged"


@dataclass(frozen=True)
class _Gathered:
    """An instruction, and what came back of it.

    Attributes:
        instruction: that was sent.
        data: the bytes of the reply; empty if none came.
        reply: the reply; None if none came, or one that cannot be used.
        problem: why there is none; empty otherwise.
    """

    instruction: Instruction
    data: bytes
    reply: Reply | None
    problem: str = ""

    @property
    def outcome(self) -> str:
        """What became of it, for the record."""
        if self.reply is None:
            return self.problem
        match self.reply.answer:
            case Diverged():
                return DIVERGED
            case Refused(reason=reason, words=words):
                return f"refused: {words or reason}"
        return OK


class Server:
    """The rounds of one federation.

    Args:
        config: the run.
        folder: the server's, open for work.
        runtime: brings instructions to the sites and replies back.
        listener: told of progress.

    Raises:
        ConfigError, UnknownNameError: if the strategy cannot be made, or does not serve the ranks of the sites.
    """

    def __init__(self, config: RunConfig, folder: ServerFolder, runtime: Runtime, *, listener: Listener) -> None:
        self._config = config
        self._folder = folder
        self._runtime = runtime
        self._listener = listener
        self._strategy = strategy_of(config)
        self._channel = Channel(config.exchange.codec, folder, self._strategy)
        self._evaluators = evaluators(config)
        self._tasks: Mapping[str, TaskSummary] = {}

    def run(self) -> None:
        """Do the rounds that are still to be done.

        Raises:
            UpdateRejectedError: if no update of a round can be used; the rounds before are kept.
            AdapterError: if the strategy makes an unsound adapter.
            RunError: if a site refuses what the run cannot do without.
            FedseError: what a runtime on this machine raises for its sites.
        """
        done = len(read_records(self._folder))
        self._admit()
        state = self._resume(done - 1) if done else self._begin()
        for number in range(max(done, 1), self._config.rounds + 1):
            state = self._round(number, state)

    def _admit(self) -> None:
        """Learn which tasks the sites have, and have each check that it can learn beside the others."""
        joined = self._required(self._ask(Purpose.JOIN, 0, self._config.sites))
        self._tasks = {name: summary for reply in joined for name, summary in reply.report.tasks.items()}
        if self._config.rounds:
            self._required(self._ask(Purpose.CHECK, 0, self._config.sites))

    def _resume(self, number: int) -> State:
        state = load_state(self._folder, number)
        self._channel.resume(number, state)
        return state

    def _begin(self) -> State:
        """Round 0: the initial adapter, the demonstrations if anything is to be learnt, and the evaluation before."""
        first = next(iter(self._config.sites))
        [reply] = self._required(self._ask(Purpose.INITIAL, 0, [first]))
        assert isinstance(reply.answer, Update)  # it was screened
        ranks = {site: clients[0].rank or self._config.lora.rank for site, clients in self._config.sites.items()}
        state = self._strategy.initial(reply.answer.adapter, ranks)
        save_round(self._folder, 0, state, {}, base_name=self._config.model.name)
        self._channel.begin(reply.answer.adapter, state)
        shown: list[_Gathered] = []
        if self._config.rounds:
            shown = self._ask(Purpose.DEMONSTRATE, 0, self._config.sites)
            self._required(shown)
        self._record(0, state, shown, aggregation=0.0, outcomes={})
        return state

    def _round(self, number: int, state: State) -> State:
        needs = tuple(sorted(self._strategy.needs))
        sent = {site: self._strategy.instruct(state, site) for site in self._config.sites}
        gathered = self._gather(
            [self._instruction(Purpose.ROUND, number, site, part, needs=needs) for site, part in sent.items()]
        )
        updates, outcomes = self._screen(number, gathered)
        began = time.monotonic()
        after = self._strategy.absorb(state, updates)
        self._check(after)
        after, changes = self._channel.rounded(state, after)
        replies = {found.instruction.site: found.data for found in gathered if found.data}
        save_round(
            self._folder,
            number,
            after,
            replies,
            before=state,
            changes=changes,
            base_name=self._config.model.name,
        )
        self._channel.advance(number, after, changes)
        seconds = time.monotonic() - began
        count = len(updates)
        self._listener(Event(Phase.AGGREGATE, number, "", count, count, seconds=seconds, finished=True))
        scalars = {site: dict(update.scalars) for site, update in updates.items() if update.scalars}
        self._record(number, after, gathered, aggregation=seconds, outcomes=outcomes, scalars=scalars)
        return after

    def _screen(self, number: int, gathered: Sequence[_Gathered]) -> tuple[dict[str, Update], dict[str, str]]:
        """Site → sound update, in the order of the names, and site → what became of its update."""
        ordered = sorted(gathered, key=lambda found: found.instruction.site)
        outcomes = {found.instruction.site: found.outcome for found in ordered}
        updates = {
            found.reply.site: found.reply.answer
            for found in ordered
            if found.reply is not None and isinstance(found.reply.answer, Update)
        }
        if not updates:
            listed = "; ".join(f"{site} {outcome}" for site, outcome in outcomes.items())
            raise UpdateRejectedError(
                f"round {number} has no update that can be used: {listed}",
                "begin a new run with a lower training.learning_rate or method.options.server_lr"
                if DIVERGED in outcomes.values()
                else "mend the sites, then resume the run",
            )
        return updates, outcomes

    def _check(self, state: State) -> None:
        problems = [problem for adapter in state.adapters.values() for problem in state_problems(adapter)]
        if problems:
            raise AdapterError(
                f"strategy {self._strategy.name!r} made an unsound adapter: {in_words(problems)}",
                "mend the strategy: it must return finite float32 tensors of matching shapes",
            )

    def _record(
        self,
        number: int,
        state: State,
        gathered: Sequence[_Gathered],
        *,
        aggregation: float,
        outcomes: Mapping[str, str],
        scalars: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Evaluate if this round is due, and complete the round."""
        evaluated, evaluation, transfer = self._evaluate(number, state) if self._is_evaluated(number) else ([], {}, {})
        shared = state.adapters.get(GLOBAL)
        record = RoundRecord(
            round=number,
            clients=self._told(gathered, outcomes),
            evaluation=evaluation,
            adapter="" if shared is None else shared.digest,
            seconds=_seconds([*gathered, *evaluated], aggregation),
            adapters={} if shared else {name: state.adapter(name).digest for name in sorted(self._config.sites)},
            transfer=transfer,
            scalars=scalars or {},
        )
        self._channel.keep()
        append_record(self._folder, record)

    def _told(self, gathered: Sequence[_Gathered], outcomes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """What the sites told of their phases, and what became of their updates."""
        names = sorted({name for site in self._config.sites for name in self._names(site)})
        told: dict[str, dict[str, Any]] = {name: {} for name in names}
        for reply in (found.reply for found in gathered if found.reply is not None):
            for name, phases in reply.report.phases.items():
                told[name] |= {phase.value: summary.metrics() for phase, summary in phases.items()}
        for site, outcome in outcomes.items():
            told[site]["outcome"] = outcome
        return told

    def _evaluate(
        self, number: int, state: State
    ) -> tuple[list[_Gathered], dict[str, SuccessRate], dict[str, dict[str, SuccessRate]]]:
        """Every site with the adapter that it has; in the end each site's own adapter at the other sites, too."""
        owners = sorted(self._config.sites) if self._is_transferred(number, state) else []
        visits = [("", label, host) for label, host in self._evaluators.items()]
        visits += [
            (owner, label, host) for owner in owners for label, host in self._evaluators.items() if host.at != owner
        ]
        gathered = self._gather([self._visit(number, state, host, owner) for owner, _, host in visits])
        rates: dict[tuple[str, str], SuccessRate] = {}
        for (owner, label, _), found in zip(visits, gathered, strict=True):
            if found.reply is not None and isinstance(found.reply.answer, Rates):
                rates[owner, label] = found.reply.answer.rate
        evaluation = {label: rates["", label] for label in self._evaluators if ("", label) in rates}
        transfer = {
            owner: {
                label: rates[key]
                for label, host in self._evaluators.items()
                if (key := ("" if host.at == owner else owner, label)) in rates
            }
            for owner in owners
        }
        return gathered, evaluation, transfer

    def _visit(self, number: int, state: State, host: ClientConfig, owner: str) -> Instruction:
        if owner:
            sent = Sent(self._strategy.adapter(state, owner))
        else:
            sent = Sent(self._strategy.instruct(state, host.at).adapter)
        return self._instruction(Purpose.EVALUATE, number, host.at, sent, environment=host.name, owner=owner)

    def _is_evaluated(self, number: int) -> bool:
        every = self._config.evaluation.every
        return number in (0, self._config.rounds) or (every > 0 and number % every == 0)

    def _is_transferred(self, number: int, state: State) -> bool:
        """Where the server has every site's own adapter; private parts it does not have."""
        sites = self._config.sites
        return number == self._config.rounds > 0 and len(sites) > 1 and sites.keys() <= state.adapters.keys()

    def _instruction(
        self, purpose: Purpose, number: int, site: str, sent: Sent | None = None, **fields: Any
    ) -> Instruction:
        clients = self._config.sites[site]
        joined = purpose is not Purpose.JOIN
        parts = {client.name: share_of(self._config, client, self._tasks) for client in clients} if joined else {}
        if sent is not None:
            fields |= {"adapter": sent.adapter, "start": sent.start, "tensors": sent.tensors, "settings": sent.settings}
        return Instruction(site=site, purpose=purpose, round=number, parts=parts, **fields)

    def _names(self, site: str) -> set[str]:
        """Of what a site may tell: itself, and its environments."""
        return {site, *(client.name for client in self._config.sites[site])}

    def _ask(self, purpose: Purpose, number: int, sites: Iterable[str]) -> list[_Gathered]:
        """Ask sites for what needs no adapter."""
        fields: dict[str, Any] = {"needs": tuple(sorted(self._strategy.needs))} if purpose is Purpose.CHECK else {}
        if purpose in (Purpose.CHECK, Purpose.DEMONSTRATE):
            fields["held_out"] = held_out_anywhere(self._tasks)
        return self._gather([self._instruction(purpose, number, site, **fields) for site in sites])

    def _gather(self, instructions: Sequence[Instruction]) -> list[_Gathered]:
        """Send instructions and read the replies, in the same order; sites that lack an adapter are sent it whole."""
        gathered = self._sent(instructions, whole=False)
        lacking = [
            index for index, found in enumerate(gathered) if found.reply is not None and lacks_adapter(found.reply)
        ]
        again = self._sent([instructions[index] for index in lacking], whole=True)
        for index, found in zip(lacking, again, strict=True):
            gathered[index] = found
        return gathered

    def _sent(self, instructions: Sequence[Instruction], *, whole: bool) -> list[_Gathered]:
        sent = [self._channel.encode(instruction, whole=whole) for instruction in instructions]
        answers = self._runtime.ask([(to.site, data) for to, data in zip(instructions, sent, strict=True)])
        return [
            self._read(instruction, answer or b"") for instruction, answer in zip(instructions, answers, strict=True)
        ]

    def _read(self, instruction: Instruction, data: bytes) -> _Gathered:
        if not data:
            return _Gathered(instruction, b"", None, MISSING)
        try:
            reply = self._channel.decode(instruction, data)
        except MessageError as error:
            return _Gathered(instruction, b"", None, f"rejected: {error.what}")
        problems = reply_problems(reply, instruction, self._names(instruction.site))
        if problems:
            return _Gathered(instruction, b"", None, f"rejected: {in_words(problems)}")
        return _Gathered(instruction, data, reply)

    def _required(self, gathered: Sequence[_Gathered]) -> list[Reply]:
        """The replies, all of which the run needs."""
        failed = [f"{found.instruction.site} {found.outcome}" for found in gathered if found.outcome != OK]
        if failed:
            raise RunError(f"sites cannot begin: {'; '.join(failed)}", "mend these sites, then resume the run")
        return [found.reply for found in gathered if found.reply is not None]


def strategy_of(config: RunConfig) -> Strategy:
    """The strategy of a run.

    Raises:
        UnknownNameError: if it is not known.
        ConfigError: if its options are wrong, or it does not serve sites of different ranks and the run has such.
    """
    strategy = make_strategy(config.method.strategy, config.method.options)
    mixed = sorted(client.name for client in config.clients if client.rank not in (None, config.lora.rank))
    if mixed and not strategy.mixed_ranks:
        raise ConfigError(
            f"strategy {strategy.name!r} has one rank for all sites, but {', '.join(mixed)} have another",
            "leave out clients.*.rank, or choose a strategy that serves different ranks",
        )
    return strategy


def _seconds(gathered: Sequence[_Gathered], aggregation: float) -> dict[str, float]:
    """Phase → seconds over all sites and the server."""
    total = dict.fromkeys(Phase, 0.0) | {Phase.AGGREGATE: aggregation}
    for reply in (found.reply for found in gathered if found.reply is not None):
        for phases in reply.report.phases.values():
            for phase, summary in phases.items():
                total[phase] += summary.seconds or 0.0
    return {phase.value: round(spent, 3) for phase, spent in total.items() if spent}
