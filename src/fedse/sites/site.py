"""A site: takes instructions, works in its own environments and its own folder, and replies.

Nothing leaves a site but what :meth:`Site.answer` returns.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from fedse.adapters.files import load_adapter, save_adapter
from fedse.adapters.parts import has_own_parts, with_own_parts
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.errors import AdapterError, ConfigError, DivergenceError, RunError
from fedse.learning.examples import Example
from fedse.learning.moments import input_moments
from fedse.messages import (
    DEFAULT_FIELDS,
    FIELDS,
    SCALARS,
    Diverged,
    Done,
    Instruction,
    PhaseSummary,
    Purpose,
    Rates,
    Reply,
    SiteReport,
    Update,
    Work,
)
from fedse.names import unknown_name
from fedse.progress import Listener, Phase
from fedse.rollout.together import Pause, SideBySide, own_seconds
from fedse.runs.layout import RunFolder
from fedse.runs.phases import PhaseReport, once
from fedse.seeding import derive_seed
from fedse.sites.baseline import adopt_baseline
from fedse.sites.controls import Controls
from fedse.sites.environment import SiteEnvironment
from fedse.sites.shared_model import SharedModel
from fedse.sites.training import Lesson, distinct, fine_tune, round_settings
from fedse.sites.watching import SiteProgress
from fedse.types import FloatArray

#: Fields of what a site discloses.
_MOMENTS, _GRADIENTS = "moments", "gradients"
_Answer = Update | Diverged | Rates | Done
_Told = Mapping[str, Mapping[Phase, PhaseReport]]


class Site:
    """One site of a federation.

    Args:
        config: the run; of other sites than this one it uses nothing.
        name: of the site.
        shared: the model, shared with the other sites of the process.
        folder: the run's; only the site's own part is touched.
        listener: told of progress.
        baselines: other runs on this machine, whose evaluation of the bare base model may serve for this one.

    Raises:
        ConfigError: if the site is to disclose what is no field of a report.
        UnknownNameError: if an environment, or one of its splits, is not known.
        EnvironmentFault: if an environment cannot be brought up.
    """

    def __init__(
        self,
        config: RunConfig,
        name: str,
        shared: SharedModel,
        folder: RunFolder,
        *,
        listener: Listener,
        baselines: Iterable[Path] = (),
    ) -> None:
        clients = config.sites[name]
        self.name = name
        self.disclosed = _disclosed(clients[0].disclose)
        self._run = config
        self._shared = shared
        self._root = folder
        self._folder = folder.site(name)
        self._controls = Controls(self._folder)
        self._baselines = tuple(baselines)
        self._progress = SiteProgress(listener, name)
        self._environments = {
            client.name: SiteEnvironment(config, client, shared, folder.environment(client), listener)
            for client in clients
        }
        self._answers: Mapping[Purpose, Callable[[Instruction], Awaitable[tuple[_Answer, SiteReport]]]] = {
            Purpose.JOIN: self._join,
            Purpose.INITIAL: self._initial,
            Purpose.CHECK: self._check,
            Purpose.DEMONSTRATE: self._demonstrate,
            Purpose.ROUND: self._round,
            Purpose.EVALUATE: self._evaluate,
        }

    async def answer(self, instruction: Instruction) -> Reply:
        """Do what an instruction asks; done once, however often it is asked.

        Raises:
            FedseError: if it cannot be done: a fault of an environment, an adapter that does not fit, a full disk, …;
                or if the run has no such round.
        """
        first = int(instruction.purpose is Purpose.ROUND)
        if not first <= instruction.round <= self._run.rounds:
            raise RunError(
                f"site {self.name!r} was asked for round {instruction.round} of a run that has {self._run.rounds}",
                "begin a run with more rounds",
            )
        answer, report = await self._answers[instruction.purpose](instruction)
        if isinstance(answer, Rates) and "rates" not in self.disclosed:
            answer = Done()
        return Reply.to(instruction, answer, report.only(self.disclosed))

    async def _join(self, _: Instruction) -> tuple[_Answer, SiteReport]:
        return Done(), SiteReport(tasks={name: environment.tasks for name, environment in self._environments.items()})

    async def _initial(self, _: Instruction) -> tuple[_Answer, SiteReport]:
        return Update(adapter=self._shared.initial_adapter(self._run)), SiteReport()

    async def _check(self, instruction: Instruction) -> tuple[_Answer, SiteReport]:
        for name in instruction.needs:
            self._check_scalar(name)
        for name, environment in self._environments.items():
            environment.check(_part(instruction, name), instruction.held_out)
        return Done(), SiteReport()

    async def _demonstrate(self, instruction: Instruction) -> tuple[_Answer, SiteReport]:
        done = {
            name: {Phase.DEMONSTRATE: await environment.demonstrate(_part(instruction, name), instruction.held_out)}
            for name, environment in self._environments.items()
        }
        return Done(), _report(done)

    async def _round(self, instruction: Instruction) -> tuple[_Answer, SiteReport]:
        """One round of local evolution: explore, select, accumulate, fine-tune."""
        number, sent = instruction.round, _wanted(instruction)
        adapter = self._completed(sent, number - 1, instruction.work)
        done: dict[str, dict[Phase, PhaseReport]] = {name: {} for name in self._environments}
        exploring = [name for name, environment in self._environments.items() if environment.explores(number)]
        explored = await SideBySide(
            [self._environments[name].explore(number, adapter, _part(instruction, name)) for name in exploring]
        )
        for name, report in zip(exploring, explored, strict=True):
            done[name][Phase.EXPLORE] = report
        await Pause()  # what all sites of the batch have played is on disk before any of them trains
        start = self._completed(instruction.start or sent, number - 1, instruction.work)
        trained = await once(
            self._folder.marker(number, Phase.TRAIN),
            lambda: self._train(number, start, instruction),
            adapter=start.digest,
            clock=own_seconds,
        )
        self._forget(number)
        failure = trained.metrics.get("diverged")
        self._progress.finished(Phase.TRAIN, number, trained, note=f"diverged: {failure}" if failure else "")
        done.setdefault(self.name, {})[Phase.TRAIN] = trained
        if failure:
            return Diverged(), _report(done)
        updated = load_adapter(self._folder.adapter(number))
        kept = AdapterState({name: updated.tensors[name] for name in sent.tensors}, updated.meta)
        for name in instruction.needs:
            self._check_scalar(name)
        scalars = {name: float(trained.metrics[name]) for name in instruction.needs}
        work = instruction.work
        tensors = self._controls.change(number) if work.control else self._moments(number, start, work)
        return Update(adapter=work.trained.of(kept), scalars=scalars, tensors=tensors), _report(done)

    async def _evaluate(self, instruction: Instruction) -> tuple[_Answer, SiteReport]:
        name, number = instruction.environment, instruction.round
        if name not in self._environments:
            raise unknown_name("environment of this site", name, self._environments)
        adapter = self._completed(_wanted(instruction), number, instruction.work)
        if number == 0 and not instruction.owner:
            adopt_baseline(self._run, name, self._root, self._baselines, adapter=adapter)
        report = await self._environments[name].evaluate(number, adapter, owner=instruction.owner)
        told = PhaseReport({}, report.seconds)  # what it found is the answer
        return Rates(**report.metrics), _report({name: {Phase.EVALUATE: told}})

    async def _train(self, number: int, start: AdapterState, instruction: Instruction) -> Mapping[str, Any]:
        """The local update on the experience of all environments of the site, in as many steps as they would take."""
        environments = [self._environments[name] for name in sorted(self._environments)]
        lessons = [environment.lessons(number) for environment in environments]
        steps = sum(
            environment.planned_steps(number, own) for environment, own in zip(environments, lessons, strict=True)
        )
        examples = _distinct_examples(lessons)
        stream = "+".join(environment.name for environment in environments)  # no name holds a plus sign
        control = None
        if instruction.work.control:
            self._must_disclose(_GRADIENTS, "how the mean gradient of its update changed")
            control = self._controls.correction(number, instruction.tensors, start)
        try:
            updated, metrics = fine_tune(
                self._shared.lora,
                start,
                examples,
                round_settings(self._run, number, steps or None),
                seed=derive_seed(self._run.seed, stream, number, Phase.TRAIN.value),
                work=instruction.work,
                control=control,
                on_step=self._progress.steps(number),
            )
        except DivergenceError as failure:
            return {"examples": len(examples), "steps": 0, "diverged": failure.what}
        save_adapter(updated, self._folder.adapter(number), base_name=self._shared.lora.base.name)
        if control is not None:
            self._controls.keep(number, control)
        return metrics

    def _moments(self, number: int, start: AdapterState, work: Work) -> Mapping[str, FloatArray]:
        """What the strategy asked for of the layers' inputs; made anew where an instruction is repeated."""
        if not work.moments:
            return {}
        self._must_disclose(_MOMENTS, "moments of its layers' inputs")
        examples = _distinct_examples([self._environments[name].lessons(number) for name in sorted(self._environments)])
        self._shared.lora.load(start)
        return input_moments(self._shared.lora, examples, work.moments, self._run.training.max_tokens)

    def _completed(self, sent: AdapterState, number: int, work: Work) -> AdapterState:
        """The whole adapter: what was sent, and what is the site's own after a round."""
        if not has_own_parts(sent, self._shared.lora.names, work.private):
            return sent
        return with_own_parts(sent, self._own(number, sent), work.private)

    def _own(self, number: int, sent: AdapterState) -> AdapterState:
        trained = next((path for n in range(number, 0, -1) if (path := self._folder.adapter(n)).is_dir()), None)
        own = load_adapter(trained) if trained else self._shared.initial_adapter(self._run)
        if own.meta != sent.meta:
            raise AdapterError(
                f"site {self.name!r} was sent a part of an adapter of rank {sent.meta.rank}, but has one of rank "
                f"{own.meta.rank}",
                "let the strategy send whole adapters to sites of other ranks",
            )
        return own

    def _check_scalar(self, name: str) -> None:
        if name not in SCALARS:
            raise unknown_name("scalar", name, SCALARS)
        self._must_disclose(name, name)

    def _must_disclose(self, field: str, what: str) -> None:
        if field not in self.disclosed:
            raise ConfigError(
                f"the strategy needs {what} of every site, but site {self.name!r} does not disclose it",
                f"let the site disclose {field} (clients.*.disclose), or choose another method.strategy",
            )

    def _forget(self, number: int) -> None:
        """Remove what neither the next round nor a resumed one reads: all trained adapters but the last two, and all
        mean gradients but those.
        """
        trained = [path for n in range(1, number + 1) if (path := self._folder.adapter(n)).is_dir()]
        for path in trained[:-2]:
            shutil.rmtree(path, ignore_errors=True)
        self._controls.forget(number)


def _distinct_examples(lessons: Iterable[Iterable[Lesson]]) -> list[Example]:
    """What the environments of a site teach together, each thing once."""
    taught = distinct([lesson for own in lessons for lesson in own], lambda lesson: lesson.identity)
    return [lesson.example for lesson in taught]


def _report(done: _Told) -> SiteReport:
    return SiteReport(
        phases={
            name: {
                phase: PhaseSummary.model_validate({**report.metrics, "seconds": report.seconds})
                for phase, report in phases.items()
            }
            for name, phases in done.items()
            if phases
        }
    )


def _part(instruction: Instruction, environment: str) -> tuple[int, int]:
    return instruction.parts.get(environment, (0, 1))


def _wanted(instruction: Instruction) -> AdapterState:
    if instruction.adapter is None:
        raise RunError(f"an instruction to {instruction.purpose} came without an adapter", "mend the strategy")
    return instruction.adapter


def _disclosed(fields: tuple[str, ...] | None) -> frozenset[str]:
    for field in fields or ():
        if field not in FIELDS:
            error = unknown_name("field of a report", field, FIELDS)
            raise ConfigError(error.what, f"{error.mend}; clients.*.disclose may name: {', '.join(sorted(FIELDS))}")
    return DEFAULT_FIELDS if fields is None else frozenset(fields)
