"""Which tasks a client must not learn from: those that it, or another site of its environment, is tested on.

One adapter serves all sites, and a task is the same whichever split of whichever client it came from.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping

from fedse.config import ClientConfig, RunConfig
from fedse.environments import registry
from fedse.environments.base import Environment
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


@functools.lru_cache(maxsize=32)
def _tasks(name: str, options: str, split: str) -> frozenset[Task]:
    """The tasks of a split.  Kept, because all sites of an environment ask for it and some take seconds."""
    environment = registry.make(name, **json.loads(options))
    try:
        return frozenset(environment.tasks(split))
    finally:
        environment.close()
