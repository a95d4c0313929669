"""Playing held-out tasks with an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from fedse.agent import system_prompt
from fedse.environments import registry
from fedse.environments.base import Environment, PromptStyle
from fedse.errors import ConfigError, EnvironmentFault
from fedse.evaluation.rates import success_rate
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Play, Rules
from fedse.rollout.together import Wanted, together
from fedse.seeding import derive_seed
from fedse.types import StopReason, SuccessRate, Task, Trajectory

if TYPE_CHECKING:
    from fedse.adapters.state import AdapterState
    from fedse.config import ClientConfig, RunConfig
    from fedse.rollout.player import Player, RolloutProgress


def held_out_tasks(environment: Environment, split: str, n: int | None) -> list[Task]:
    """The first ``n`` tasks of a split, or all for ``None`` or if it has fewer: the same for every method and round.

    Raises:
        UnknownNameError: for an unknown split.
    """
    return list(environment.tasks(split)[:n])


async def evaluate(
    adapter: AdapterState | None,
    environment: str,
    tasks: Sequence[Task],
    *,
    options: Mapping[str, Any] | None = None,
    prompt: PromptStyle = "concise",
    thoughts: bool = True,
    decoding: Literal["greedy", "sampled"] = "greedy",
    samples: int = 1,
    seed: int = 0,
    max_turns: int | None = None,
    on_progress: Callable[[RolloutProgress], None] | None = None,
) -> tuple[SuccessRate, list[Trajectory]]:
    """Play every task and count successes; work that plays together with others, see :mod:`fedse.rollout.together`.

    The episodes' seeds depend on ``seed``, the task and the sample alone, so that two adapters are compared on equal
    random streams.

    Args:
        adapter: plays; ``None`` is the bare base model.
        environment: a registered name.
        tasks: what to play.
        options: the environment's options.
        prompt: style of the system message.
        thoughts: whether it asks for them.
        decoding: greedy plays each task once; sampled plays it ``samples`` times.
        samples: episodes per task when sampled.  The interval of the rate takes episodes as independent, which samples
            of one task are not: see :func:`~fedse.evaluation.rates.success_rate`.
        seed: of the evaluation.
        max_turns: of an episode; default: as the run says.
        on_progress: told of the episodes' progress.

    Returns:
        The success rate and the trajectories, ordered by task, then by sample.

    Raises:
        ConfigError: if there are no tasks.
        EnvironmentFault: if every episode was lost to a fault.
    """
    if not tasks:
        raise ConfigError(f"there are no tasks of {environment} to evaluate on", "choose another split, or more tasks")
    episodes = samples if decoding == "sampled" else 1
    requests = [
        EpisodeRequest(task, derive_seed(seed, "evaluate", str(task), sample))
        for task in tasks
        for sample in range(episodes)
    ]
    settings = dict(options or {})
    probe = registry.make(environment, **settings)
    try:
        instruction = system_prompt(probe, prompt, thoughts=thoughts)
    finally:
        probe.close()
    rules = Rules(
        lambda: registry.make(environment, **settings), instruction, greedy=decoding == "greedy", max_turns=max_turns
    )
    trajectories = await Wanted(adapter, Play(requests, rules, on_progress))
    require_outcomes(trajectories, f"evaluation on {environment}")
    return success_rate(trajectories), trajectories


async def evaluation_at(
    adapter: AdapterState | None,
    config: RunConfig,
    site: ClientConfig,
    *,
    on_progress: Callable[[RolloutProgress], None] | None = None,
) -> tuple[SuccessRate, list[Trajectory]]:
    """Play the held-out tasks of a run's site as the run's evaluation does; see :func:`evaluate`.

    Raises:
        UnknownNameError: if the site's environment or test split is not known.
        ConfigError: if there are no tasks.
        EnvironmentFault: if the environment cannot be brought up, or every episode was lost to a fault.
    """
    settings = config.evaluation
    environment = registry.make(site.environment, **site.options)
    try:
        tasks = held_out_tasks(environment, site.test_split, settings.tasks)
    finally:
        environment.close()
    return await evaluate(
        adapter,
        site.environment,
        tasks,
        options=site.options,
        prompt=config.agent.prompt,
        thoughts=config.agent.thoughts,
        decoding=settings.decoding,
        samples=settings.samples,
        seed=config.seed,
        max_turns=site.max_turns,
        on_progress=on_progress,
    )


def evaluate_sites(
    player: Player,
    adapter: AdapterState | None,
    config: RunConfig,
    sites: Mapping[str, ClientConfig],
    *,
    on_progress: Callable[[str], Callable[[RolloutProgress], None] | None] = lambda _: None,
) -> Iterator[tuple[str, SuccessRate, list[Trajectory]]]:
    """Evaluate an adapter at several sites, all of whose episodes are played in one batch.

    Args:
        player: plays.
        adapter: with this; ``None`` is the bare base model.
        config: the run.
        sites: label → the environment that is played.
        on_progress: makes for a label what is told of its episodes' progress.

    Yields:
        (label, success rate, trajectories), in the order of ``sites``; errors as of :func:`evaluation_at`.
    """
    labels = list(sites)
    works = [evaluation_at(adapter, config, sites[label], on_progress=on_progress(label)) for label in labels]
    for index, (rate, trajectories) in together(player, works):
        yield labels[index], rate, trajectories


def require_outcomes(trajectories: Sequence[Trajectory], what: str) -> None:
    """Stop where a broken environment would otherwise pass for a bad policy.

    Raises:
        EnvironmentFault: if there are episodes and every one was lost to a fault; carries the first fault's message.
    """
    if trajectories and all(trajectory.stop is StopReason.ERROR for trajectory in trajectories):
        raise EnvironmentFault(
            f"{what}: all {len(trajectories)} episodes were lost to faults of the environment; "
            f"the first: {trajectories[0].error}",
            "mend the environment (fedse env check NAME shows what is wrong), then run it again",
        )
