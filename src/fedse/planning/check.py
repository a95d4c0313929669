"""A run's sites, set up without a model: are environments, splits and numbers of tasks what the run asks for?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedse.config import ClientConfig, RunConfig
from fedse.environments import registry
from fedse.environments.base import Environment
from fedse.errors import ConfigError, FedseError
from fedse.experience.selection import get_selection
from fedse.federation.server import strategy_of
from fedse.federation.shares import held_out_anywhere, share_of
from fedse.messages import TaskSummary
from fedse.sites.tasks import check_learnable, summarize, training_tasks
from fedse.texts import counted


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """What a site has.

    Attributes:
        train_tasks: tasks that it demonstrates and explores, after the partition.
        test_tasks: held-out tasks that are played in an evaluation.
        demonstrations: expert episodes.
        episodes: explored in a round; 0 if the method does not explore.
    """

    name: str
    environment: str
    train_tasks: int
    test_tasks: int
    demonstrations: int
    episodes: int


def check_run(config: RunConfig) -> list[SiteCheck]:
    """Resolve what a run names, and count its sites' tasks.

    Raises:
        UnknownNameError: if an environment, a split, the strategy or the filter is not known.
        ConfigError: if an option is wrong, a split is empty, a site would learn from tasks that one is tested on, or
            its demonstrations can be had neither from a file nor from an expert.
        EnvironmentFault: if an environment cannot be brought up.
    """
    strategy_of(config)
    get_selection(config.method.filter)
    environments = {client.name: registry.make(client.environment, **client.options) for client in config.clients}
    try:
        tasks = {client.name: summarize(config, client, environments[client.name]) for client in config.clients}
        return [_site(config, client, environments[client.name], tasks) for client in config.clients]
    finally:
        for environment in environments.values():
            environment.close()


def check_runs(configs: Iterable[tuple[str, RunConfig]]) -> list[str]:
    """What keeps runs, given by name, from beginning: a text for each problem.  Equal ones are checked once."""
    distinct: dict[str, tuple[str, RunConfig]] = {}
    for name, config in configs:
        method = config.method
        named = (config.clients, config.partition, config.rounds > 0, method.explore, method.strategy, method.filter)
        distinct.setdefault(repr(named), (name, config))
    problems = []
    for name, config in distinct.values():
        try:
            check_run(config)
        except FedseError as error:
            problems.append(f"{name}: {error}")
    return problems


def _check_demonstrations(client: ClientConfig, environment: Environment) -> None:
    file = client.demonstrations_file
    if file is not None and not Path(file).is_file():
        raise ConfigError(
            f"client {client.name!r}: there is no file {file}, of which its demonstrations are to be",
            f"mend clients.{client.name}.demonstrations_file; fedse demos writes such files",
        )
    if file is None and client.demonstrations and not environment.has_expert:
        raise ConfigError(
            f"client {client.name!r} is to have {counted(client.demonstrations, 'demonstration')}, but "
            f"{client.environment} has no expert",
            f"set clients.{client.name}.demonstrations=0, or name a demonstrations_file",
        )


def _site(
    config: RunConfig, client: ClientConfig, environment: Environment, tasks: Mapping[str, TaskSummary]
) -> SiteCheck:
    tested = environment.tasks(client.test_split)
    if config.rounds:
        _check_demonstrations(client, environment)
    train = training_tasks(config, client, environment, share_of(config, client, tasks))
    if config.rounds:  # else nothing is learnt
        check_learnable(config, client, train, tested, held_out_anywhere(tasks))
    if not tested:
        raise ConfigError(
            f"client {client.name!r}: the split {client.test_split!r} of {client.environment} has no tasks",
            f"fedse env show {client.environment} lists its splits",
        )
    return SiteCheck(
        name=client.name,
        environment=client.environment,
        train_tasks=len(train),
        test_tasks=len(tested[: config.evaluation.tasks]),
        demonstrations=client.demonstrations,
        episodes=client.episodes_per_round if config.method.explore else 0,
    )
