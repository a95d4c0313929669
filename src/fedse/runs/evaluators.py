"""Which site plays the held-out tasks of an environment."""

from __future__ import annotations

from fedse.config import ClientConfig, RunConfig


def evaluators(config: RunConfig) -> dict[str, str]:
    """Which client evaluates what: label of an evaluation → client.

    Clients that share environment, options, test split and limit of turns play the same episodes; the first by name
    plays them for all, unless the sites are isolated: then there is an adapter per client, and each plays with its
    own.  The label is the environment's name, with the client's where one environment is evaluated several times.
    """
    first: dict[tuple[object, ...], ClientConfig] = {}
    for client in sorted(config.clients, key=lambda client: client.name):
        tasks = (client.environment, repr(sorted(client.options.items())), client.test_split, client.max_turns)
        first.setdefault((*tasks, client.name) if config.method.sharing == "isolated" else tasks, client)
    ways = [client.environment for client in first.values()]
    return {
        client.environment
        if ways.count(client.environment) == 1
        else f"{client.environment}@{client.name}": client.name
        for client in first.values()
    }
