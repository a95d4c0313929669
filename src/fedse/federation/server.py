"""The server: sees messages and its own folder, and nothing else of the sites.

The round loop reads like the method: instruct, gather, screen, absorb, evaluate, record.  A reply is written to disk as
it comes, and read again when it is absorbed, so that memory does not grow with the number of sites.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedse.adapters.algebra import moved
from fedse.adapters.checks import in_words, state_problems
from fedse.adapters.deltas import alike
from fedse.adapters.state import AdapterState
from fedse.config import ClientConfig, RunConfig
from fedse.errors import AdapterError, ConfigError, RunError, UpdateRejectedError
from fedse.federation.channel import Channel
from fedse.federation.evaluators import evaluation_hosts
from fedse.federation.gathering import (
    ABSENT,
    DIVERGED,
    MISSING,
    NOT_DRAWN,
    OK,
    Gathered,
    Gathering,
    names_of,
    required,
    seconds_of,
)
from fedse.federation.runtimes import Runtime
from fedse.federation.shares import held_out_anywhere, share_of
from fedse.federation.strategies import GLOBAL, Sent, State, Strategy, Updates, make_strategy
from fedse.messages import (
    Instruction,
    Purpose,
    Rates,
    Reply,
    TaskSummary,
    Update,
    Work,
)
from fedse.progress import Event, Listener, Phase
from fedse.runs.layout import ServerFolder
from fedse.runs.records import append_record, read_records
from fedse.runs.rounds import Told, load_state, load_told, save_round
from fedse.seeding import python_random
from fedse.storage import atomic_write, scratch_directory
from fedse.texts import counted
from fedse.types import RoundRecord, SuccessRate

_POLL_SECONDS = 0.5
#: So long a server that was started again waits for all sites to come back before it goes on without some.
_RETURN_SECONDS = 10.0


class Server:
    """The rounds of one federation.

    Args:
        config: the run.
        folder: the server's, open for work.
        runtime: brings instructions to the sites and replies back.
        listener: told of progress.
        run: tells this run apart from others at the same sites; empty where they share its folder.
        told: gets lines on what sites do or fail to do.

    Raises:
        ConfigError, UnknownNameError: if the strategy cannot be made, or does not serve the ranks of the sites.
    """

    def __init__(
        self,
        config: RunConfig,
        folder: ServerFolder,
        runtime: Runtime,
        *,
        listener: Listener,
        run: str = "",
        told: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._folder = folder
        self._runtime = runtime
        self._listener = listener
        self._run = run
        self._say = told
        self._strategy = strategy_of(config)
        self._channel = Channel(config.exchange.codec, folder, self._strategy)
        self._gather = Gathering(config, runtime, self._channel)
        self._needs = tuple(sorted(self._strategy.needs))
        self._quorum = min(config.exchange.quorum, len(config.sites))
        self._tasks: dict[str, TaskSummary] = {}
        self._members: set[str] = set()

    def run(self) -> None:
        """Do the rounds that are still to be done.

        Raises:
            UpdateRejectedError: if no update of a round can be used; the rounds before are kept.
            AdapterError: if the strategy makes an unsound adapter.
            RunError: if a site refuses what the run cannot do without.
            FedseError: what a runtime on this machine raises for its sites.
        """
        done = len(read_records(self._folder))
        self._open(resumed=done > 0)
        state = self._resume(done - 1) if done else self._begin()
        for number in range(max(done, 1), self._config.rounds + 1):
            state = self._round(number, state)

    def _open(self, *, resumed: bool) -> None:
        """Let the sites in.

        Without a deadline, all of them.  With one, those that answer in time; a run that goes on does not wait for
        sites that cannot be reached, nor for those that refuse.
        """
        if resumed and self._config.exchange.deadline is not None:
            began = time.monotonic()
            while len(self._members) < self._quorum or (
                time.monotonic() - began < _RETURN_SECONDS and len(self._members) < len(self._config.sites)
            ):
                self._newcomers()
                time.sleep(_POLL_SECONDS)
            return
        while True:
            missing = [found for found in self._admit(self._config.sites) if found.outcome == MISSING]
            if self._config.exchange.deadline is None:
                required(missing)
            if len(self._members) >= self._quorum:
                return
            self._say(f"waiting for {counted(self._quorum - len(self._members), 'more site')} to join")

    def _admit(self, sites: Iterable[str], *, strict: bool = True) -> list[Gathered]:
        """Let sites in: learn which tasks they have, and have all check that they can learn beside each other.

        Args:
            sites: those that are members already are left out.
            strict: refuse to go on where one of them refuses; else it stays outside.

        Returns:
            What was asked and answered.

        Raises:
            RunError: see ``strict``.
        """
        asked = [site for site in sites if site not in self._members]
        joined = self._gather(self._instruction(Purpose.JOIN, 0, site, **self._proposal(site)) for site in asked)
        here = self._unrefused(joined, strict=strict)
        tasks = {name: summary for found in here for name, summary in found.report.tasks.items()}
        new = {found.site for found in here}
        self._tasks |= tasks
        checked: list[Gathered] = []
        if self._config.rounds and here:
            names = self._named(self._members | new)
            checked = self._gather(self._with_tasks(Purpose.CHECK, site, needs=self._needs) for site in names)
            can = {found.site for found in self._unrefused(checked, strict=strict)}
            # Where one that was there before cannot learn beside the new ones, it is they who stay outside.
            refused = {found.site for found in checked if found.outcome not in (OK, MISSING)}
            new = new & can if refused <= new else set()
            self._members -= {found.site for found in checked if found.outcome == MISSING}
        self._tasks = {name: told for name, told in self._tasks.items() if name not in tasks or self._at(name) in new}
        self._members |= new
        return [*joined, *checked]

    def _newcomers(self) -> list[Gathered]:
        """Let in who came late; who refuses stays outside, and the others go on."""
        before = set(self._members)
        reachable = self._runtime.reachable(self._config.sites)
        self._admit([site for site in self._config.sites if site in reachable], strict=False)
        return self._demonstrate(self._named(self._members - before), strict=False) if self._config.rounds else []

    def _demonstrate(self, sites: Iterable[str], *, strict: bool = True) -> list[Gathered]:
        found = self._gather(self._with_tasks(Purpose.DEMONSTRATE, site) for site in sites)
        shown = {one.site for one in self._unrefused(found, strict=strict)}
        self._members -= {one.site for one in found} - shown
        return found

    def _unrefused(self, gathered: Sequence[Gathered], *, strict: bool) -> list[Gathered]:
        """Those that did what they were asked; of the others, the missing are never an error."""
        refused = [found for found in gathered if found.outcome not in (OK, MISSING)]
        if strict:
            required(refused)
        for found in refused:
            self._say(f"{found.site} stays outside: {found.outcome}")
        return [found for found in gathered if found.outcome == OK]

    def _at(self, name: str) -> str:
        """The site that has an environment."""
        return next(client.at for client in self._config.clients if client.name == name)

    def _resume(self, number: int) -> State:
        state = load_state(self._folder, number)
        self._channel.resume(number, state)
        return state

    def _begin(self) -> State:
        """Round 0: the initial adapter, the demonstrations if anything is to be learnt, and the evaluation before."""
        made: dict[str, AdapterState] = {}
        for site in self._named(self._members):
            asked = self._instruction(Purpose.INITIAL, 0, site)
            found = self._gather([asked], lambda reply, _: made.update(_adapter_of(reply)))
            if made:
                break
            if found[0].outcome != MISSING:
                required(found)
        if not made:
            raise RunError("no site made the initial adapter", "mend the sites, then resume the run")
        [initial] = made.values()
        ranks = {site: clients[0].rank or self._config.lora.rank for site, clients in self._config.sites.items()}
        state = self._strategy.initial(initial, ranks)
        save_round(self._folder, 0, state, base_name=self._config.model.name)
        self._channel.begin(initial, state)
        shown = self._demonstrate(self._named(self._members)) if self._config.rounds else []
        self._record(0, state, self._told(shown))
        return state

    def _round(self, number: int, state: State) -> State:
        """One round, which may have been absorbed before a kill: then only its record is to be made."""
        if (told := load_told(self._folder, number)) is not None:
            after = load_state(self._folder, number)
            self._channel.resume(number, after, told.exchange)
        else:
            after, told = self._absorb(number, state)
        self._record(number, after, told)
        return after

    def _absorb(self, number: int, state: State) -> tuple[State, Told]:
        """Instruct, gather, screen, absorb; the state after the round, which is on disk."""
        with scratch_directory(self._folder.round(number)) as inbox:
            shown, gathered = self._updates(number, state, inbox)
            scalars = {found.site: found.scalars for found in gathered if found.scalars is not None}
            loaders = {site: partial(self._update, inbox / site, state) for site in scalars}
            outcomes = self._outcomes(number, gathered)
            for site, (made_in, known) in self._remembered(number, state, set(scalars)).items():
                scalars[site] = known
                loaders[site] = partial(self._moved, site, made_in, state)
                outcomes[site] += f"; its update of round {made_in} counts"
            began = time.monotonic()
            after = self._strategy.absorb(state, Updates(scalars, lambda site: loaders[site]()))
            self._check(after)
            after, changes = self._channel.rounded(state, after)
            seconds = time.monotonic() - began
            fresh = {found.site: found.scalars for found in gathered if found.scalars}
            told = self._told([*shown, *gathered], outcomes, fresh, aggregation=seconds)
            save_round(
                self._folder,
                number,
                after,
                inbox,
                told=told,
                before=state,
                changes=changes,
                base_name=self._config.model.name,
            )
        self._channel.advance(number, after, changes)
        count = len(loaders)
        self._listener(Event(Phase.AGGREGATE, number, "", count, count, seconds=seconds, finished=True))
        return after, told

    def _updates(self, number: int, state: State, inbox: Path) -> tuple[list[Gathered], list[Gathered]]:
        """Ask for updates until as many came as make a round.

        Returns:
            What newcomers demonstrated, and what came last of each site that was asked, in the order of names.

        Raises:
            UpdateRejectedError: if too few came, and no more can come.
        """
        waits = self._config.exchange.deadline is not None
        shown: list[Gathered] = []
        found: dict[str, Gathered] = {}
        waited_for: list[str] = []
        while True:
            shown += self._newcomers()
            available = set(self._available())
            drawn = [site for site in self._drawn(number) if site not in found or found[site].outcome == MISSING]
            asked = [site for site in drawn if site in available]
            gathered = self._gather(
                (self._send(Purpose.ROUND, number, site, self._strategy.instruct(state, site)) for site in asked),
                lambda reply, data: atomic_write(inbox / reply.site, data),
            )
            found |= {one.site: one for one in gathered}
            self._members -= {one.site for one in gathered if one.is_new}  # let in anew before the next round
            updates = sum(one.scalars is not None for one in found.values())
            if updates >= self._quorum:
                return shown, [found[site] for site in sorted(found)]
            more = [site for site in drawn if site not in found or found[site].outcome == MISSING]
            if not waits or not more:
                break
            if more != waited_for:
                waited_for = more
                listed = ", ".join(more)
                self._say(
                    f"round {number} waits for {counted(self._quorum - updates, 'more update')}; not there: {listed}"
                )
            time.sleep(_POLL_SECONDS)
        outcomes = self._outcomes(number, found.values())
        listed = "; ".join(f"{site} {outcome}" for site, outcome in outcomes.items())
        raise UpdateRejectedError(
            f"round {number} has no update that can be used: {listed}"
            if not updates
            else f"round {number} has {counted(updates, 'update')}, exchange.quorum wants {self._quorum}: {listed}",
            "begin a new run with a lower training.learning_rate or method.options.server_lr"
            if DIVERGED in outcomes.values()
            else "mend the sites, then resume the run",
        )

    def _drawn(self, number: int) -> list[str]:
        """The sites whose turn it is, in the order of the run; a function of the seed and the round."""
        sites = list(self._config.sites)
        count = max(self._quorum, math.ceil(self._config.exchange.participation * len(sites)))
        drawn = set(python_random(self._config.seed, "participation", number).sample(sorted(sites), count))
        return [site for site in sites if site in drawn]

    def _available(self) -> Collection[str]:
        """Members that can be asked now; where there is no deadline, all of them are waited for."""
        if self._config.exchange.deadline is None:
            return self._members
        return self._members & set(self._runtime.reachable(self._config.sites))

    def _outcomes(self, number: int, gathered: Iterable[Gathered]) -> dict[str, str]:
        """Site → what became of it in a round, in the order of names."""
        outcomes = {found.site: found.outcome for found in gathered}
        drawn = set(self._drawn(number))
        return {site: outcomes.get(site, ABSENT if site in drawn else NOT_DRAWN) for site in sorted(self._config.sites)}

    def _remembered(
        self, number: int, state: State, fresh: Collection[str]
    ) -> dict[str, tuple[int, Mapping[str, float]]]:
        """Site without a fresh update → the round of its last one, if that is young enough, and its scalars.

        One of a part that the strategy does not ask for now does not count.
        """
        remembered: dict[str, tuple[int, Mapping[str, float]]] = {}
        for made_in in range(max(1, number - self._config.exchange.memory), number):
            told = load_told(self._folder, made_in)
            if told is None:
                continue
            for site in self._config.sites.keys() - set(fresh):
                if told.clients.get(site, {}).get("outcome") == OK and self._still_asked(site, made_in, state):
                    remembered[site] = made_in, told.scalars.get(site, {})
        return remembered

    def _still_asked(self, site: str, made_in: int, state: State) -> bool:
        then, now = (self._strategy.instruct(one, site) for one in (load_state(self._folder, made_in - 1), state))
        return then.work == now.work and alike(then.base, now.base)

    def _update(self, path: Path, state: State) -> Update:
        """The update that a site sent when the state was this."""
        sent = self._strategy.instruct(state, path.name)
        base = sent.base
        answer = Reply.decode(path.read_bytes(), {base.digest: base}.get).answer
        assert isinstance(answer, Update)  # nothing else was noted as one
        return answer

    def _moved(self, site: str, made_in: int, state: State) -> Update:
        """An earlier update, begun from where the site would begin now.

        MIFA keeps the last updates of devices that are away in this way (Gu et al. 2021, arXiv 2106.04159).
        """
        earlier = load_state(self._folder, made_in - 1)
        update = self._update(self._folder.reply(made_in, site), earlier)
        then, now = self._strategy.instruct(earlier, site), self._strategy.instruct(state, site)
        adapter = moved(update.adapter, then.base, now.base)
        # What a control variate changed by was counted in its round.
        tensors = {} if then.work.control else update.tensors
        return update.model_copy(update={"adapter": adapter, "tensors": tensors})

    def _check(self, state: State) -> None:
        problems = [problem for adapter in state.adapters.values() for problem in state_problems(adapter)]
        if problems:
            raise AdapterError(
                f"strategy {self._strategy.name!r} made an unsound adapter: {in_words(problems)}",
                "mend the strategy: it must return finite float32 tensors of matching shapes",
            )

    def _record(self, number: int, state: State, told: Told) -> None:
        """Evaluate if this round is due, and complete the round."""
        evaluated, evaluation, transfer = self._evaluate(number, state) if self._is_evaluated(number) else ([], {}, {})
        shared = state.adapters.get(GLOBAL)
        record = RoundRecord(
            round=number,
            clients=told.clients,
            evaluation=evaluation,
            adapter="" if shared is None else shared.digest,
            seconds={**told.seconds, **seconds_of(evaluated)},
            adapters={} if shared else {name: state.adapter(name).digest for name in sorted(self._config.sites)},
            transfer=transfer,
            scalars=told.scalars,
        )
        self._channel.keep()
        append_record(self._folder, record)

    def _told(
        self,
        gathered: Sequence[Gathered],
        outcomes: Mapping[str, str] | None = None,
        scalars: Mapping[str, Mapping[str, float]] | None = None,
        *,
        aggregation: float = 0.0,
    ) -> Told:
        """What the sites told of their phases, and what became of their updates."""
        names = sorted({name for site in self._config.sites for name in names_of(self._config, site)})
        clients: dict[str, dict[str, Any]] = {name: {} for name in names}
        for found in gathered:
            for name, phases in found.report.phases.items():
                clients[name] |= {phase.value: summary.metrics() for phase, summary in phases.items()}
        for site, outcome in (outcomes or {}).items():
            clients[site]["outcome"] = outcome
        return Told(clients, scalars or {}, seconds_of(gathered, aggregation), self._channel.exchange)

    def _evaluate(
        self, number: int, state: State
    ) -> tuple[list[Gathered], dict[str, SuccessRate], dict[str, dict[str, SuccessRate]]]:
        """Every site with the adapter that it has; in the end each site's own adapter at the other sites, too."""
        available = self._available()
        hosts = {
            label: next((host for host in able if host.at in available), None)
            for label, able in evaluation_hosts(self._config).items()
        }
        here = {label: host for label, host in hosts.items() if host is not None}
        owners = self._owners(number, state)
        visits = [("", label, host) for label, host in here.items()]
        visits += [(owner, label, host) for owner in owners for label, host in here.items() if host.at != owner]
        gathered = self._gather(self._visit(number, state, host, owner) for owner, _, host in visits)
        rates: dict[tuple[str, str], SuccessRate] = {}
        for (owner, label, host), found in zip(visits, gathered, strict=True):
            if isinstance(found.answer, Rates):
                rates[owner, label] = found.answer.rate
            elif found.outcome != OK:
                self._say(f"round {number} has no evaluation of {label}: {host.at} {found.outcome}")
        evaluation = {label: rates["", label] for label in here if ("", label) in rates}
        transfer = {
            owner: {
                label: rates[key]
                for label, host in here.items()
                if (key := ("" if host.at == owner else owner, label)) in rates
            }
            for owner in owners
        }
        return gathered, evaluation, transfer

    def _visit(self, number: int, state: State, host: ClientConfig, owner: str) -> Instruction:
        if owner:
            sent = Sent(self._strategy.adapter(state, owner))
        else:
            wanted = self._strategy.instruct(state, host.at)
            sent = Sent(wanted.adapter, work=Work(private=wanted.work.private))
        return self._send(Purpose.EVALUATE, number, host.at, sent, environment=host.name, owner=owner)

    def _is_evaluated(self, number: int) -> bool:
        every = self._config.evaluation.every
        return number in (0, self._config.rounds) or (every > 0 and number % every == 0)

    def _owners(self, number: int, state: State) -> list[str]:
        """Whose adapters are played at all sites after the last round, beside each site's own at home.

        Those of the sites, where the server has them; the global one, where sites have components of their own in it.
        """
        sites = sorted(self._config.sites)
        if number != self._config.rounds or not number or len(sites) < 2:
            return []
        if state.adapters.keys() >= set(sites):
            return sites
        return [GLOBAL] if any(self._strategy.instruct(state, site).work.private for site in sites) else []

    def _send(self, purpose: Purpose, number: int, site: str, sent: Sent, **fields: Any) -> Instruction:
        """An instruction with what the strategy sends."""
        if purpose is Purpose.ROUND:
            fields["needs"] = self._needs
        fields |= {"adapter": sent.adapter, "start": sent.start, "tensors": sent.tensors, "work": sent.work}
        return self._instruction(purpose, number, site, **fields)

    def _with_tasks(self, purpose: Purpose, site: str, **fields: Any) -> Instruction:
        """An instruction that depends on which tasks are held out anywhere."""
        return self._instruction(purpose, 0, site, held_out=held_out_anywhere(self._tasks), **fields)

    def _instruction(self, purpose: Purpose, number: int, site: str, **fields: Any) -> Instruction:
        if purpose is not Purpose.JOIN:
            clients = self._config.sites[site]
            fields["parts"] = {client.name: share_of(self._config, client, self._tasks) for client in clients}
        return Instruction(run=self._run, site=site, purpose=purpose, round=number, **fields)

    def _proposal(self, site: str) -> dict[str, Any]:
        """What a site that is elsewhere is told of the run: all but the other sites."""
        if not self._run:
            return {}
        own = self._config.model_copy(update={"clients": self._config.sites[site]})
        return {"proposal": own.model_dump(mode="json")}

    def _named(self, sites: Collection[str]) -> list[str]:
        """In the order of the run."""
        return [site for site in self._config.sites if site in sites]


def strategy_of(config: RunConfig) -> Strategy:
    """The strategy of a run.

    Raises:
        UnknownNameError: if it is not known.
        ConfigError: if its options are wrong, or it does not serve sites of different ranks, or updates of earlier
            rounds, and the run has such.
    """
    strategy = make_strategy(config.method.strategy, config.method.options)
    mixed = sorted(client.name for client in config.clients if client.rank not in (None, config.lora.rank))
    if mixed and not strategy.mixed_ranks:
        raise ConfigError(
            f"strategy {strategy.name!r} has one rank for all sites, but {', '.join(mixed)} have another",
            "leave out clients.*.rank, or choose a strategy that serves different ranks",
        )
    if config.exchange.memory and not strategy.memory:
        raise ConfigError(
            f"strategy {strategy.name!r} has other components in every round, which earlier updates do not fit",
            "set exchange.memory to 0",
        )
    return strategy


def _adapter_of(reply: Reply) -> dict[str, AdapterState]:
    return {reply.site: reply.answer.adapter} if isinstance(reply.answer, Update) else {}
