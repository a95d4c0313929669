"""A client: a site that explores its own environment, keeps its own experience, and sends adapters.

What stays at the site is under ``clients/<name>`` of its run folder; what leaves it is a :class:`ClientUpdate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedse.adapters.files import load_adapter, save_adapter
from fedse.adapters.state import AdapterState
from fedse.agent import system_prompt
from fedse.config import ClientConfig, RunConfig
from fedse.environments import registry
from fedse.environments.base import Environment
from fedse.errors import ConfigError, DivergenceError, EnvironmentFault
from fedse.experience.selection import get_selection, select
from fedse.experience.store import ExperienceStore
from fedse.experience.trajectory_files import read_trajectories, write_trajectories
from fedse.federation.aggregation import get_aggregator
from fedse.messages.update import ClientUpdate
from fedse.progress import Listener, Phase, silent
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Rules
from fedse.rollout.scripted import demonstrate
from fedse.runs.layout import RunLayout
from fedse.runs.phases import PhaseReport, once
from fedse.seeding import derive_seed, python_random
from fedse.sites.demonstrations import import_demonstrations
from fedse.sites.evaluation import evaluate_site, require_outcomes
from fedse.sites.held_out_tasks import check_learnable, held_out_by
from fedse.sites.partition import site_tasks
from fedse.sites.shared_model import SharedModel
from fedse.sites.task_sampling import exploration_tasks
from fedse.sites.training import distinct, examples_of, fine_tune, round_settings, steps_for
from fedse.sites.watching import ClientProgress
from fedse.types import StopReason, SuccessRate, Trajectory

#: What an aggregator may ask of a client beside its adapter.
SCALARS = frozenset({"examples"})


class Client:
    """One site of a federation.

    Each of its phases is done once (:mod:`fedse.runs.phases`): a client that was killed goes on where it was.
    Every random stream derives from the run's seed and the client's name: neither other clients nor their order matter,
    but for which tasks it has, where ``partition.scheme`` divides those of an environment among its sites.

    Args:
        config: the run.
        client: this site's part of it.
        shared: the model, shared with the other clients of the process.
        layout: where files go.
        listener: told of progress.

    Raises:
        ConfigError: if the site has nothing to learn from, or the aggregator needs a scalar that clients do not have.
        UnknownNameError: if the environment, one of its splits or the aggregator is not known.
        EnvironmentFault: if the environment cannot be brought up.
    """

    def __init__(
        self,
        config: RunConfig,
        client: ClientConfig,
        shared: SharedModel,
        layout: RunLayout,
        *,
        listener: Listener = silent,
    ) -> None:
        self.name = client.name
        self._run = config
        self._config = client
        self._shared = shared
        self._layout = layout
        self._progress = ClientProgress(listener, client.name)
        self._selection = get_selection(config.method.filter)
        self._scalars = get_aggregator(config.method.aggregator).needs
        environment = self._make_environment()
        try:
            self._instruction = system_prompt(environment, config.agent.prompt)
            self._train_tasks = site_tasks(config, client, environment)
            self._held_out = held_out_by(config, client, environment)
        finally:
            environment.close()
        if config.rounds:  # else nothing is learnt
            self._check()

    def demonstrate(self) -> PhaseReport:
        """Seed the experience store with expert episodes of training tasks, or with those of a file; round 0.

        Raises:
            EnvironmentFault: if the expert cannot solve as many tasks as are to be demonstrated.
            ConfigError: if no episode of the file succeeds when it is replayed.
            StorageError, StoreError: if a file cannot be written.
        """
        return self._once(Phase.DEMONSTRATE, 0, self._demonstrate)

    def round(self, round: int, adapter: AdapterState, *, start: AdapterState | None = None) -> ClientUpdate | None:
        """One round of local evolution: explore, filter, accumulate, fine-tune.

        With nothing to train on, the adapter that the update begins from is sent back, and the metrics say 0 examples.

        Args:
            round: 1 or later.
            adapter: the one after the round before, the global one or, where sites are isolated, the client's own.
            start: where the update begins; by default at ``adapter``.

        Returns:
            The update, or ``None`` if training diverged: the phase's metrics then say how, and an isolated client keeps
            the adapter that it had.

        Raises:
            EnvironmentFault: if every episode was lost to a fault of the environment.
            AdapterError: if an adapter does not fit the model.
            StorageError, StoreError: if a file cannot be written.
        """
        self.explore(round, adapter)
        trained = once(
            self._layout.marker(self.name, round, Phase.TRAIN), lambda: self._train(round, adapter, start or adapter)
        )
        failure = trained.metrics.get("diverged")
        self._progress.finished(Phase.TRAIN, round, trained, note=f"diverged: {failure}" if failure else "")
        if failure:
            return None
        available = {"examples": float(trained.metrics["examples"])}
        return ClientUpdate(
            client=self.name,
            round=round,
            adapter=load_adapter(self._layout.update(round, self.name), expect=self._shared.lora.meta),
            scalars={name: available[name] for name in self._scalars},
        )

    def explore(self, round: int, adapter: AdapterState) -> None:
        """The part of a round before the update, if the method explores: play, filter, accumulate.

        Raises:
            EnvironmentFault, AdapterError, StorageError, StoreError: as :meth:`round`.
        """
        if self._explores(round):
            self._once(Phase.EXPLORE, round, lambda: self._explore(round, adapter))

    def evaluate(self, round: int, adapter: AdapterState, *, other: str = "") -> SuccessRate:
        """Success rate of an adapter after a round on this site's held-out tasks.

        Args:
            round: 0 or later.
            adapter: the global one or, where sites are isolated, the client's own.
            other: another site, if the adapter is that one's.

        Raises:
            ConfigError: if the test split is empty.
            EnvironmentFault: if every episode was lost to a fault of the environment.
            StorageError: if a file cannot be written.
        """
        if other:
            marker = self._layout.transfer_marker(self.name, round, other)
            episodes = self._layout.transfer(self.name, round, other)
        else:
            marker = self._layout.marker(self.name, round, Phase.EVALUATE)
            episodes = self._layout.evaluation(self.name, round)
        note = f"adapter of {other}" if other else ""
        report = once(marker, lambda: self._evaluate(round, adapter, episodes, note))
        self._progress.finished(Phase.EVALUATE, round, report, note=note)
        return SuccessRate(**report.metrics)

    def experience(self, round: int) -> list[Trajectory]:
        """What a round trains on, in a fixed order: demonstrations, then kept episodes, no two with the same actions.

        * Fed-SE: all experience up to and including the round.
        * without exploration (FedIT): the demonstrations, in every round.
        * without history: what this round kept; demonstrations belong to round 1, which would else begin with nothing,
          and to rounds that do not explore yet.  Kept episodes count even if an earlier round had found the same, which
          the store would not list again.

        Episodes that ended before the agent's first turn have no token of the agent to learn from and are left out.
        """
        method = self._run.method
        forgets = method.explore and not method.history
        shows = round == 1 or not self._explores(round)
        stored = range(round + 1) if not forgets else range(1 if shows else 0)
        with self._store() as store:
            found = store.trajectories(rounds=stored)
        if forgets and self._explores(round):
            played = read_trajectories(self._layout.trajectories(self.name, round))
            found += select(self._selection, played).kept
        return [trajectory for trajectory in distinct(found) if trajectory.turns]

    def planned_steps(self, round: int, experience: Sequence[Trajectory]) -> int:
        """Optimizer steps of this client's update in a round, given its experience."""
        settings = round_settings(self._run, round, self._config.steps)
        return steps_for(examples_of(experience, self._selection), settings, seed=self._seed(round, Phase.TRAIN))

    def _explores(self, round: int) -> bool:
        return self._run.method.explore and round > self._run.method.warmup_rounds

    def _once(self, phase: Phase, round: int, work: Callable[[], Mapping[str, Any]]) -> PhaseReport:
        report = once(self._layout.marker(self.name, round, phase), work)
        self._progress.finished(phase, round, report)
        return report

    def _demonstrate(self) -> Mapping[str, Any]:
        environment = self._make_environment()
        try:
            file = self._config.demonstrations_file
            shown, notes = self._expert_episodes(environment) if file is None else self._imported(environment, file)
        finally:
            environment.close()
        shown = [trajectory.with_origin(client=self.name, round=0) for trajectory in shown]
        write_trajectories(self._layout.trajectories(self.name, 0), shown)
        return {"episodes": len(shown), "successes": len(shown), "added": self._accumulate(0, shown), **notes}

    def _expert_episodes(self, environment: Environment) -> tuple[list[Trajectory], Mapping[str, Any]]:
        wanted = self._config.demonstrations
        seed = self._seed(0, Phase.DEMONSTRATE)
        tasks = list(self._train_tasks)
        python_random(seed, "tasks").shuffle(tasks)
        shown = demonstrate(
            environment,
            tasks,
            wanted,
            instruction=self._instruction,
            seed=seed,
            renderer=self._shared.renderer,
            longest=self._run.rollout.max_context,
            on_progress=self._progress.demonstrations(),
        )
        if len(shown) < wanted:
            raise EnvironmentFault(
                f"client {self.name!r}: the expert of {self._config.environment} made {len(shown)} of {wanted} "
                f"demonstrations of at most {self._run.rollout.max_context} tokens",
                f"fedse env check {self._config.environment} shows whether the environment is sound; longer "
                f"demonstrations want a larger rollout.max_context",
            )
        return shown, {}

    def _imported(self, environment: Environment, file: str) -> tuple[list[Trajectory], Mapping[str, Any]]:
        found = import_demonstrations(
            Path(file),
            environment,
            instruction=self._instruction,
            count=self._config.demonstrations,
            held_out=frozenset().union(*self._held_out.values()),
            renderer=self._shared.renderer,
            longest=self._run.rollout.max_context,
            on_progress=self._progress.demonstrations(),
        )
        return list(found.confirmed), {"file": {"sha256": found.digest, "refused": found.reasons}}

    def _explore(self, round: int, adapter: AdapterState) -> Mapping[str, Any]:
        self._store().close()  # without one there is no use in playing
        trajectories = self._play(round, adapter)
        write_trajectories(self._layout.trajectories(self.name, round), trajectories)
        selected = select(self._selection, trajectories)
        return {
            "episodes": len(trajectories),
            "errors": sum(trajectory.stop is StopReason.ERROR for trajectory in trajectories),
            "successes": sum(bool(trajectory.success) for trajectory in trajectories),
            "kept": len(selected.kept),
            "dropped": dict(sorted(selected.dropped_reasons.items())),
            "added": self._accumulate(round, selected.kept),
            "turns": sum(len(trajectory.turns) for trajectory in trajectories),
            "tokens": sum(_generated_tokens(trajectory) for trajectory in trajectories),
        }

    def _play(self, round: int, adapter: AdapterState) -> list[Trajectory]:
        seed = self._seed(round, Phase.EXPLORE)
        tasks = exploration_tasks(
            self._train_tasks,
            self._config.episodes_per_round,
            round,
            seed=derive_seed(self._run.seed, self.name, "tasks"),
        )
        trajectories = self._shared.player.play(
            adapter,
            [EpisodeRequest(task, derive_seed(seed, index)) for index, task in enumerate(tasks)],
            Rules(
                self._make_environment,
                self._instruction,
                greedy=False,
                max_turns=self._config.max_turns,
                temperature=self._config.temperature,
            ),
            on_progress=self._progress.episodes(Phase.EXPLORE, round),
        )
        require_outcomes(trajectories, f"client {self.name!r}, exploration of round {round}")
        return [trajectory.with_origin(client=self.name, round=round) for trajectory in trajectories]

    def _accumulate(self, round: int, trajectories: Sequence[Trajectory]) -> int:
        """Store a round's experience; the number of its episodes that were new.

        Counted in the store, not by what ``add`` did just now: after a kill the episodes may be in it already.
        """
        with self._store() as store:
            store.add(trajectories)
            counts = store.counts_by_round_and_source()
        return sum(count for (made_in, _), count in counts.items() if made_in == round)

    def _store(self) -> ExperienceStore:
        """The store, which is made by the first phase of the run and never again."""
        begun = self._layout.marker(self.name, 0, Phase.DEMONSTRATE).exists()
        return ExperienceStore(self._layout.experience(self.name), create=not begun)

    def _train(self, round: int, adapter: AdapterState, start: AdapterState) -> Mapping[str, Any]:
        examples = examples_of(self.experience(round), self._selection)
        try:
            updated, metrics = fine_tune(
                self._shared.lora,
                start,
                examples,
                round_settings(self._run, round, self._config.steps),
                seed=self._seed(round, Phase.TRAIN),
                on_step=self._progress.steps(round),
            )
        except DivergenceError as failure:
            metrics = {"examples": len(examples), "steps": 0, "diverged": failure.what}
            if self._run.method.sharing != "isolated":
                return metrics
            updated = adapter
        save_adapter(updated, self._layout.update(round, self.name), base_name=self._shared.lora.base.name)
        return metrics

    def _evaluate(self, round: int, adapter: AdapterState, episodes: Path, note: str) -> Mapping[str, Any]:
        rate, trajectories = evaluate_site(
            self._shared.player,
            adapter,
            self._run,
            self._config,
            on_progress=self._progress.episodes(Phase.EVALUATE, round, note),
        )
        write_trajectories(
            episodes, [trajectory.with_origin(client=self.name, round=round) for trajectory in trajectories]
        )
        return asdict(rate)

    def _make_environment(self) -> Environment:
        return registry.make(self._config.environment, **self._config.options)

    def _seed(self, round: int, phase: Phase) -> int:
        return derive_seed(self._run.seed, self.name, round, phase.value)

    def _check(self) -> None:
        check_learnable(self._run, self._config, self._train_tasks, self._held_out)
        unknown = sorted(self._scalars - SCALARS)
        if unknown:
            raise ConfigError(
                f"aggregator {self._run.method.aggregator!r} needs {', '.join(unknown)} of each client; "
                f"clients can tell: {', '.join(sorted(SCALARS))}",
                "choose another method.aggregator",
            )


def _generated_tokens(trajectory: Trajectory) -> int:
    return trajectory.tokens.agent_tokens if trajectory.tokens else 0
