"""Which site plays the held-out tasks of an environment."""

from __future__ import annotations

from fedse.config import ClientConfig, RunConfig
from fedse.federation.strategies import strategy_class


def evaluators(config: RunConfig) -> dict[str, ClientConfig]:
    """What is evaluated where, if all sites are there: label of an evaluation → the environment that is played.

    Raises:
        UnknownNameError: if the strategy is not known.
    """
    return {label: hosts[0] for label, hosts in evaluation_hosts(config).items()}


def evaluation_hosts(config: RunConfig) -> dict[str, list[ClientConfig]]:
    """What is evaluated where: label of an evaluation → the environments at sites that can play it.

    Environments that agree in name, options, test split and limit of turns have the same held-out episodes.  The first
    by name that is there plays them for all, unless every site has an adapter of its own; then each plays with its own.
    The label is the environment's name, with the first client's where one environment is evaluated several times.

    Raises:
        UnknownNameError: if the strategy is not known.
    """
    personal = strategy_class(config.method.strategy).personal
    able: dict[tuple[object, ...], list[ClientConfig]] = {}
    for client in sorted(config.clients, key=lambda client: client.name):
        tasks = (client.environment, repr(sorted(client.options.items())), client.test_split, client.max_turns)
        able.setdefault((*tasks, client.at) if personal else tasks, []).append(client)
    ways = [clients[0].environment for clients in able.values()]
    return {
        first.environment if ways.count(first.environment) == 1 else f"{first.environment}@{first.name}": clients
        for clients in able.values()
        for first in clients[:1]
    }
