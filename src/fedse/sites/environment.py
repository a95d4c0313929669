"""One environment at a site: its demonstrations, exploration, experience and evaluation.

Each phase is done once (:mod:`fedse.runs.phases`): a site that was killed goes on where it was.  Every random stream
derives from the run's seed and the environment's name at the site.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from fedse.adapters.state import AdapterState
from fedse.agent import system_prompt
from fedse.config import ClientConfig, RunConfig
from fedse.environments import registry
from fedse.environments.base import Environment
from fedse.errors import EnvironmentFault
from fedse.experience.credit import advantages, baselines, outcomes_by_task
from fedse.experience.identity import task_and_actions
from fedse.experience.selection import get_selection, select
from fedse.experience.store import ExperienceStore
from fedse.experience.trajectory_files import read_trajectories, write_trajectories
from fedse.learning.examples import Example, Stream
from fedse.messages import TaskSummary
from fedse.progress import Listener, Phase
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Play, Rules
from fedse.rollout.scripted import demonstrate
from fedse.rollout.together import Wanted, own_seconds
from fedse.runs.layout import EnvironmentFolder
from fedse.runs.phases import PhaseReport, once
from fedse.seeding import derive_seed, python_random
from fedse.sites.demonstrations import import_demonstrations
from fedse.sites.evaluation import evaluation_at, require_outcomes
from fedse.sites.refining import cut, shortest, turn_weights
from fedse.sites.shared_model import SharedModel
from fedse.sites.task_sampling import exploration_tasks
from fedse.sites.tasks import check_learnable, summarize, training_tasks
from fedse.sites.training import Lesson, distinct, round_settings, steps_for
from fedse.sites.watching import SiteProgress
from fedse.types import Source, StopReason, Task, Trajectory


class SiteEnvironment:
    """One environment at a site.

    Args:
        config: the run.
        client: the environment's part of it.
        shared: the model, shared with the other environments and sites of the process.
        folder: where files go.
        listener: told of progress.

    Raises:
        UnknownNameError: if the environment, or one of its splits, is not known.
        EnvironmentFault: if the environment cannot be brought up.
    """

    def __init__(
        self,
        config: RunConfig,
        client: ClientConfig,
        shared: SharedModel,
        folder: EnvironmentFolder,
        listener: Listener,
    ) -> None:
        self.name = client.name
        self._run = config
        self._config = client
        self._shared = shared
        self._folder = folder
        self._progress = SiteProgress(listener, client.name)
        self._selection = get_selection(config.method.filter)
        self._training: dict[tuple[int, int], list[Task]] = {}
        self._cuts: dict[Trajectory, Trajectory] = {}
        environment = self._make_environment()
        try:
            self._instruction = system_prompt(environment, config.agent.prompt, thoughts=config.agent.thoughts)
            self._test_tasks = frozenset(environment.tasks(client.test_split))
            self.tasks: TaskSummary = summarize(config, client, environment)
        finally:
            environment.close()
        #: Reviews episodes; nothing is played in it.
        self._reader = environment

    def check(self, part: tuple[int, int], held_out: Collection[str]) -> None:
        """Whether there is something to learn from, and nothing that any site is tested on.

        Raises:
            ConfigError: if not.
        """
        check_learnable(self._run, self._config, self._training_tasks(part), self._test_tasks, held_out)

    async def demonstrate(self, part: tuple[int, int], held_out: Collection[str]) -> PhaseReport:
        """Seed the experience store with expert episodes of training tasks, or with those of a file; round 0.

        Args:
            part: of the training tasks; see :func:`fedse.sites.tasks.training_tasks`.
            held_out: digests of tasks that are held out anywhere.

        Raises:
            EnvironmentFault: if the expert cannot solve as many tasks as are to be demonstrated.
            ConfigError: if no episode of the file succeeds when it is replayed.
            StorageError, StoreError: if a file cannot be written.
        """
        return await self._once(Phase.DEMONSTRATE, 0, lambda: self._demonstrate(part, held_out))

    def explores(self, number: int) -> bool:
        """Whether episodes are played before the update of a round."""
        return self._run.method.explore and number > self._run.method.warmup_rounds

    async def explore(self, number: int, adapter: AdapterState, part: tuple[int, int]) -> PhaseReport:
        """Play the episodes of a round, select, accumulate.

        Raises:
            EnvironmentFault: if every episode was lost to a fault of the environment.
            EndpointError: if the endpoint that plays cannot be used, or was away for too long.
            AdapterError: if the adapter does not fit the model.
            StorageError, StoreError: if a file cannot be written.
        """
        work = partial(self._explore, number, adapter, part)
        return await self._once(Phase.EXPLORE, number, work, adapter=adapter.digest)

    async def evaluate(self, number: int, adapter: AdapterState, *, owner: str = "") -> PhaseReport:
        """Success rate of an adapter after a round on the held-out tasks.

        Args:
            number: of the round, 0 or later.
            adapter: to play with.
            owner: another site, if the adapter is that one's.

        Raises:
            ConfigError: if the test split is empty.
            EnvironmentFault: if every episode was lost to a fault of the environment.
            EndpointError: if the endpoint that plays cannot be used, or was away for too long.
            StorageError: if a file cannot be written.
        """
        note = f"adapter of {owner}" if owner else ""
        episodes = self._folder.evaluation(number, owner)
        report = await once(
            self._folder.evaluation_marker(number, owner),
            lambda: self._evaluate(number, adapter, episodes, note),
            adapter=adapter.digest,
            clock=own_seconds,
        )
        self._progress.finished(Phase.EVALUATE, number, report, note=note)
        return report

    def experience(self, number: int) -> list[Trajectory]:
        """What a round learns from, in a fixed order: demonstrations, then kept episodes, no two with the same actions.

        * Fed-SE: all experience up to and including the round.
        * without exploration (FedIT): the demonstrations, in every round.
        * without history: what this round kept.  Demonstrations belong to round 1, which would else begin with nothing,
          and to rounds that do not explore yet.  Kept episodes count even if an earlier round had kept the same ones,
          which the store would not list again.
        * with the policy gradient: without this round's, which count as attempts (:meth:`lessons`).

        Episodes that ended before the agent's first turn have no token of the agent to learn from and are left out.
        """
        method = self._run.method
        forgets = method.explore and not method.history
        shows = number == 1 or not self.explores(number)
        last = number - 1 if self._on_policy(number) else number
        stored = range(last + 1) if not forgets else range(1 if shows else 0)
        with self._store() as store:
            learnt = store.trajectories(rounds=stored)
        if forgets and self.explores(number) and not self._on_policy(number):
            learnt += select(self._selection, self._played(number)).kept
        if "cut" in method.refine:
            learnt = self._cut(learnt)
        learnt = distinct([trajectory for trajectory in learnt if trajectory.turns], task_and_actions)
        return shortest(learnt) if "shortest" in method.refine else learnt

    def lessons(self, number: int) -> list[Lesson]:
        """The experience of a round as examples, and with the policy gradient its attempts, won and lost."""
        learnt, parts = self.experience(number), self._run.method.refine
        lessons = [
            Lesson(
                Example.of(
                    trajectory,
                    weight,
                    turns=turn_weights(self._reader, trajectory, parts),
                    stream=_stream(trajectory, number),
                ),
                task_and_actions(trajectory),
            )
            for trajectory, weight in zip(learnt, self._weights(number, learnt), strict=True)
        ]
        if self._on_policy(number):
            played = self._played(number)
            lessons += [
                Lesson(Example.of(trajectory, advantage, on_policy=True, stream=Stream.RECENT))
                for trajectory, advantage in zip(played, advantages(played), strict=True)
                if trajectory.turns and advantage
            ]
        return lessons

    def planned_steps(self, number: int, lessons: Sequence[Lesson]) -> int:
        """Optimizer steps that a round's update would take with the lessons of this environment alone."""
        settings = round_settings(self._run, number, self._config.steps)
        return steps_for([lesson.example for lesson in lessons], settings, seed=self._seed(number, Phase.TRAIN))

    def _on_policy(self, number: int) -> bool:
        return self.explores(number) and self._run.training.objective == "policy_gradient"

    def _played(self, number: int) -> list[Trajectory]:
        """What was played in a round; nothing in rounds without exploration, or in which the site was away."""
        path = self._folder.trajectories(number)
        return read_trajectories(path) if number and self.explores(number) and path.exists() else []

    def _cut(self, episodes: Sequence[Trajectory]) -> list[Trajectory]:
        if new := [one for one in episodes if one not in self._cuts]:
            environment = self._make_environment()
            try:
                self._cuts |= {one: cut(environment, self._shared.renderer, one) for one in new}
            finally:
                environment.close()
        return [self._cuts[one] for one in episodes]

    def _weights(self, number: int, learnt: Sequence[Trajectory]) -> list[float]:
        weights = [self._selection(one).weight for one in learnt]
        if self._run.training.objective != "weighted":
            return weights
        played = [one for before in range(1, number + 1) for one in self._played(before)]
        expected = baselines(outcomes_by_task(played))
        return [weight * (1.0 - expected.get(one.task, 0.0)) for weight, one in zip(weights, learnt, strict=True)]

    async def _once(
        self, phase: Phase, number: int, work: Callable[[], Awaitable[Mapping[str, Any]]], *, adapter: str = ""
    ) -> PhaseReport:
        report = await once(self._folder.marker(number, phase), work, adapter=adapter, clock=own_seconds)
        self._progress.finished(phase, number, report)
        return report

    async def _demonstrate(self, part: tuple[int, int], held_out: Collection[str]) -> Mapping[str, Any]:
        environment = self._make_environment()
        try:
            file = self._config.demonstrations_file
            if file is None:
                shown, notes = self._expert_episodes(environment, part)
            else:
                shown, notes = self._imported(environment, file, held_out)
        finally:
            environment.close()
        shown = [trajectory.with_origin(client=self.name, round=0) for trajectory in shown]
        write_trajectories(self._folder.trajectories(0), shown)
        return {"episodes": len(shown), "successes": len(shown), "added": self._accumulate(0, shown), **notes}

    def _expert_episodes(
        self, environment: Environment, part: tuple[int, int]
    ) -> tuple[list[Trajectory], Mapping[str, Any]]:
        wanted = self._config.demonstrations
        seed = self._seed(0, Phase.DEMONSTRATE)
        tasks = list(self._training_tasks(part))
        python_random(seed, "tasks").shuffle(tasks)
        lost: list[EnvironmentFault] = []
        shown = demonstrate(
            environment,
            tasks,
            wanted,
            instruction=self._instruction,
            seed=seed,
            renderer=self._shared.renderer,
            thoughts=self._run.agent.thoughts,
            longest=self._run.rollout.max_context,
            on_progress=self._progress.demonstrations(),
            on_lost=lost.append,
        )
        if len(shown) < wanted:
            raise EnvironmentFault(
                f"client {self.name!r}: the expert of {self._config.environment} made {len(shown)} of {wanted} "
                f"demonstrations of at most {self._run.rollout.max_context} tokens",
                f"fedse env check {self._config.environment} shows whether the environment is sound; longer "
                f"demonstrations want a larger rollout.max_context",
            )
        return shown, {"errors": len(lost)} if lost else {}

    def _imported(
        self, environment: Environment, file: str, held_out: Collection[str]
    ) -> tuple[list[Trajectory], Mapping[str, Any]]:
        imported = import_demonstrations(
            Path(file),
            environment,
            instruction=self._instruction,
            count=self._config.demonstrations,
            held_out=held_out,
            renderer=self._shared.renderer,
            thoughts=self._run.agent.thoughts,
            longest=self._run.rollout.max_context,
            on_progress=self._progress.demonstrations(),
        )
        return list(imported.confirmed), {"file": {"sha256": imported.digest, "refused": imported.reasons}}

    async def _explore(self, number: int, adapter: AdapterState, part: tuple[int, int]) -> Mapping[str, Any]:
        self._store().close()  # without one there is no use in playing
        trajectories = await self._play(number, adapter, part)
        write_trajectories(self._folder.trajectories(number), trajectories)
        selected = select(self._selection, trajectories)
        return {
            "episodes": len(trajectories),
            "errors": sum(trajectory.stop is StopReason.ERROR for trajectory in trajectories),
            "successes": sum(bool(trajectory.success) for trajectory in trajectories),
            "kept": len(selected.kept),
            "dropped": dict(sorted(selected.dropped_reasons.items())),
            "added": self._accumulate(number, selected.kept),
            "turns": sum(len(trajectory.turns) for trajectory in trajectories),
            "tokens": sum(_generated_tokens(trajectory) for trajectory in trajectories),
        }

    async def _play(self, number: int, adapter: AdapterState, part: tuple[int, int]) -> list[Trajectory]:
        seed = self._seed(number, Phase.EXPLORE)
        tasks = exploration_tasks(
            self._training_tasks(part),
            self._config.episodes_per_round,
            number,
            seed=derive_seed(self._run.seed, self.name, "tasks"),
            attempts=self._run.method.attempts,
            before=outcomes_by_task(self._played(number - 1)) if self._run.method.attempts > 1 else {},
        )
        rules = Rules(
            self._make_environment,
            self._instruction,
            greedy=False,
            max_turns=self._config.max_turns,
            temperature=self._config.temperature,
            unstick=self._run.method.unstick,
        )
        requests = [EpisodeRequest(task, derive_seed(seed, index)) for index, task in enumerate(tasks)]
        play = Play(requests, rules, self._progress.episodes(Phase.EXPLORE, number))
        trajectories = await Wanted(adapter, play)
        require_outcomes(trajectories, f"client {self.name!r}, exploration of round {number}")
        return [trajectory.with_origin(client=self.name, round=number) for trajectory in trajectories]

    def _accumulate(self, number: int, trajectories: Sequence[Trajectory]) -> int:
        """Store a round's experience; the number of its episodes that were new.

        Counted in the store, not by what ``add`` did just now: after a kill the episodes may be in it already.
        """
        with self._store() as store:
            store.add(trajectories)
            counts = store.counts_by_round_and_source()
        return sum(count for (made_in, _), count in counts.items() if made_in == number)

    def _store(self) -> ExperienceStore:
        """The store, which is made by the first phase of the run and never again."""
        begun = self._folder.marker(0, Phase.DEMONSTRATE).exists()
        return ExperienceStore(self._folder.experience, create=not begun)

    async def _evaluate(self, number: int, adapter: AdapterState, episodes: Path, note: str) -> Mapping[str, Any]:
        rate, trajectories = await evaluation_at(
            adapter,
            self._run,
            self._config,
            on_progress=self._progress.episodes(Phase.EVALUATE, number, note),
        )
        write_trajectories(
            episodes, [trajectory.with_origin(client=self.name, round=number) for trajectory in trajectories]
        )
        return asdict(rate)

    def _training_tasks(self, part: tuple[int, int]) -> list[Task]:
        if part not in self._training:
            environment = self._make_environment()
            try:
                self._training[part] = training_tasks(self._run, self._config, environment, part)
            finally:
                environment.close()
        return self._training[part]

    def _make_environment(self) -> Environment:
        return registry.make(self._config.environment, **self._config.options)

    def _seed(self, number: int, phase: Phase) -> int:
        return derive_seed(self._run.seed, self.name, number, phase.value)


def _generated_tokens(trajectory: Trajectory) -> int:
    return sum(end - start for start, end in trajectory.tokens.spans) if trajectory.tokens else 0


def _stream(trajectory: Trajectory, number: int) -> Stream:
    if trajectory.source is not Source.POLICY:
        return Stream.DEMONSTRATION
    return Stream.RECENT if trajectory.round == number else Stream.EARLIER
