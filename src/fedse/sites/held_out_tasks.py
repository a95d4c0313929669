"""Which tasks a client must not learn from: those that it, or another site of its environment, is tested on.

One adapter serves all sites, and a task is the same whichever split of whichever client it came from.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence

from fedse.config import ClientConfig, RunConfig
from fedse.environments import registry
from fedse.environments.base import Environment
from fedse.errors import ConfigError
from fedse.types import Task


def held_out_by(config: RunConfig, client: ClientConfig, environment: Environment) -> Mapping[str, frozenset[Task]]:
    """Client → all tasks of its test split, for every client with this client's environment.

    Args:
        config: the run.
        client: one of its clients.
        environment: an instance with this client's options.

    Raises:
        UnknownNameError: if a client's test split is not known.
        ConfigError, EnvironmentFault: if another client's environment cannot be brought up.
    """
    return {
        site.name: frozenset(environment.tasks(site.test_split))
        if site.options == client.options
        else _tasks(site.environment, json.dumps(site.options, sort_keys=True), site.test_split)
        for site in config.clients
        if site.environment == client.environment
    }


def check_learnable(
    config: RunConfig, client: ClientConfig, tasks: Sequence[Task], held_out: Mapping[str, frozenset[Task]]
) -> None:
    """Whether a client has something to learn from, and nothing that any site is tested on.

    Args:
        config: the run.
        client: one of its clients.
        tasks: that it would demonstrate and explore.
        held_out: by client, see :func:`held_out_by`.

    Raises:
        ConfigError: if not.
    """
    if client.demonstrations == 0 and not (config.method.explore and client.episodes_per_round):
        raise ConfigError(
            f"client {client.name!r} has nothing to learn from: it neither explores nor has demonstrations",
            f"raise clients.{client.name}.demonstrations, or let it explore",
        )
    if not tasks:
        raise ConfigError(
            f"client {client.name!r}: split {client.train_split!r} of {client.environment} has no tasks",
            "choose another split or other options",
        )
    for site in config.clients:
        mine = held_out.get(site.name, frozenset())
        leaked = sum(task in mine for task in tasks)
        if leaked:
            whose = "its test tasks" if site.name == client.name else f"the test tasks of client {site.name!r}"
            raise ConfigError(
                f"client {client.name!r} would learn from {leaked} of {whose}: split {client.train_split!r} of "
                f"{client.environment} overlaps {site.test_split!r}",
                "choose splits that are disjoint, such as train and test, for all clients of an environment",
            )


@functools.lru_cache(maxsize=32)
def _tasks(name: str, options: str, split: str) -> frozenset[Task]:
    """The tasks of a split.  Kept, because all sites of an environment ask for it and some take seconds."""
    environment = registry.make(name, **json.loads(options))
    try:
        return frozenset(environment.tasks(split))
    finally:
        environment.close()
