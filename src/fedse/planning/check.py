"""A run's sites, set up without a model: are environments, splits and numbers of tasks what the run asks for?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedse.config import ClientConfig, RunConfig
from fedse.environments import registry
from fedse.environments.base import Environment
from fedse.errors import ConfigError
from fedse.experience.selection import get_selection
from fedse.federation.aggregation import get_aggregator
from fedse.sites.held_out_tasks import check_learnable, held_out_by
from fedse.sites.partition import site_tasks


@dataclass(frozen=True, slots=True)
class SiteCheck:
    """What a site has.

    Attributes:
        name: of the client.
        environment: its environment.
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
        UnknownNameError: if an environment, a split, the aggregator or the filter is not known.
        ConfigError: if an option is wrong, a split is empty, a site would learn from tasks that one is tested on, or
            its demonstrations can be had neither from a file nor from an expert.
        EnvironmentFault: if an environment cannot be brought up.
    """
    get_aggregator(config.method.aggregator)
    get_selection(config.method.filter)
    return [_site(config, client) for client in config.clients]


def _check_demonstrations(client: ClientConfig, environment: Environment) -> None:
    file = client.demonstrations_file
    if file is not None and not Path(file).is_file():
        raise ConfigError(
            f"client {client.name!r}: there is no file {file}, of which its demonstrations are to be",
            f"mend clients.{client.name}.demonstrations_file; fedse demos writes such files",
        )
    if file is None and client.demonstrations and not environment.has_expert:
        raise ConfigError(
            f"client {client.name!r} is to have {client.demonstrations} demonstrations, but {client.environment} has "
            f"no expert",
            f"set clients.{client.name}.demonstrations=0, or name a demonstrations_file",
        )


def _site(config: RunConfig, client: ClientConfig) -> SiteCheck:
    environment = registry.make(client.environment, **client.options)
    try:
        if config.rounds:
            _check_demonstrations(client, environment)
        train = site_tasks(config, client, environment)
        tested = held_out_by(config, client, environment)
        held_out = len(environment.tasks(client.test_split))
    finally:
        environment.close()
    if config.rounds:  # else nothing is learnt
        check_learnable(config, client, train, tested)
    if not held_out:
        raise ConfigError(
            f"client {client.name!r}: the split {client.test_split!r} of {client.environment} has no tasks",
            f"fedse env show {client.environment} lists its splits",
        )
    wanted = config.evaluation.tasks
    return SiteCheck(
        name=client.name,
        environment=client.environment,
        train_tasks=len(train),
        test_tasks=held_out if wanted is None else min(wanted, held_out),
        demonstrations=client.demonstrations,
        episodes=client.episodes_per_round if config.method.explore else 0,
    )
