"""Which site plays the held-out tasks of an environment."""

from __future__ import annotations

from fedse.config import ClientConfig, RunConfig
from fedse.federation.strategies import strategy_class


def evaluators(config: RunConfig) -> dict[str, ClientConfig]:
    """What is evaluated where: label of an evaluation → the environment at a site that plays it.

    Environments that agree in name, options, test split and limit of turns have the same held-out episodes.  The first
    by name plays them for all, unless every site has an adapter of its own; then each plays with its own.  The label is
    the environment's name, with the client's where one environment is evaluated several times.

    Raises:
        UnknownNameError: if the strategy is not known.
    """
    personal = strategy_class(config.method.strategy).personal
    first: dict[tuple[object, ...], ClientConfig] = {}
    for client in sorted(config.clients, key=lambda client: client.name):
        tasks = (client.environment, repr(sorted(client.options.items())), client.test_split, client.max_turns)
        first.setdefault((*tasks, client.at) if personal else tasks, client)
    ways = [client.environment for client in first.values()]
    return {
        client.environment if ways.count(client.environment) == 1 else f"{client.environment}@{client.name}": client
        for client in first.values()
    }
