"""Which part of its training tasks each site has, where several sites divide them."""

from __future__ import annotations

from collections.abc import Mapping

from fedse.config import ClientConfig, RunConfig
from fedse.errors import RunError
from fedse.messages import TaskSummary


def share_of(config: RunConfig, client: ClientConfig, tasks: Mapping[str, TaskSummary]) -> tuple[int, int]:
    """(index, count) of a client's part, where clients that told the same tasks divide them in their order.

    Args:
        config: the run.
        client: one of its clients.
        tasks: client → what it told of its tasks.

    Raises:
        RunError: if the client told nothing of its tasks, but they are to be divided.
    """
    told = {name: summary.training for name, summary in tasks.items()}
    mine = told.get(client.name)
    if config.partition.scheme == "shared":
        return 0, 1
    if mine is None:
        raise RunError(
            f"site {client.at!r} keeps back which tasks it has, so that nobody can divide them",
            "let it disclose training (clients.*.disclose), or set partition.scheme=shared",
        )
    peers = [
        other.name
        for other in config.clients
        if (other.environment, other.train_split) == (client.environment, client.train_split)
        and told.get(other.name) == mine
    ]
    return peers.index(client.name), len(peers)


def held_out_anywhere(tasks: Mapping[str, TaskSummary]) -> tuple[str, ...]:
    """Digests of the tasks that any site is tested on, sorted."""
    return tuple(sorted({digest for summary in tasks.values() for digest in summary.held_out or ()}))
