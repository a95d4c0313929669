"""Which site plays the held-out tasks of an environment."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.config import ClientConfig


def evaluators(clients: Sequence[ClientConfig]) -> dict[str, str]:
    """Which client evaluates what: label of an evaluation → client.

    Clients that share environment, options and test split hold the same tasks; the first by name plays them for all.
    The label is the environment's name, with the client's where one environment is evaluated in several ways.
    """
    first: dict[tuple[str, str, str], ClientConfig] = {}
    for client in sorted(clients, key=lambda client: client.name):
        options = repr(sorted(client.options.items()))
        first.setdefault((client.environment, options, client.test_split), client)
    ways = [client.environment for client in first.values()]
    return {
        client.environment
        if ways.count(client.environment) == 1
        else f"{client.environment}@{client.name}": client.name
        for client in first.values()
    }
