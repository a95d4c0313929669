"""Which tasks a site learns from: its part of its environment's training tasks, and none that is held out anywhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedse.config import ClientConfig, RunConfig
from fedse.environments.base import Environment
from fedse.errors import ConfigError
from fedse.messages import TaskSummary
from fedse.messages.report import task_digest, tasks_digest
from fedse.seeding import numpy_generator
from fedse.sites.partition import goes_by_trait, partition
from fedse.types import Task


def summarize(config: RunConfig, client: ClientConfig, environment: Environment) -> TaskSummary:
    """What a site tells of its tasks, so that others hold out what it is tested on, and share what it trains on.

    Raises:
        UnknownNameError: if the test or the training split is not known.
    """
    tasks = environment.tasks(client.train_split)
    traits = _traits(config, environment, tasks) if goes_by_trait(config.partition) else ()
    return TaskSummary(
        held_out=tuple(sorted(map(task_digest, environment.tasks(client.test_split)))),
        training=tasks_digest(tasks, traits),
    )


def training_tasks(
    config: RunConfig, client: ClientConfig, environment: Environment, part: tuple[int, int]
) -> list[Task]:
    """The training tasks of a site in the order of the split: all, or its part where several sites divide them.

    Args:
        config: the run.
        client: the environment at the site.
        environment: an instance.
        part: (index, count): the site has part ``index`` of ``count``.

    Raises:
        ConfigError: if there are fewer tasks than parts, or the environment tells no traits to go by.
    """
    tasks = list(environment.tasks(client.train_split))
    index, count = part
    if count == 1:
        return tasks
    parts = partition(
        len(tasks),
        count,
        config.partition,
        lambda: _traits(config, environment, tasks, wanted=client.environment),
        rng=numpy_generator(config.seed, "partition", client.environment, client.train_split),
    )
    return [tasks[number] for number in parts[index]]


def check_learnable(
    config: RunConfig, client: ClientConfig, tasks: Sequence[Task], own: Collection[Task], held_out: Collection[str]
) -> None:
    """Whether there is something to learn from, and nothing that any site is tested on.

    Args:
        config: the run.
        client: the environment at the site.
        tasks: that would be demonstrated and explored.
        own: the tasks that this site is tested on.
        held_out: digests of the tasks that any site is tested on.

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
    mine, theirs = frozenset(own), frozenset(held_out)
    leaked = [task for task in tasks if task in mine or task_digest(task) in theirs]
    if leaked:
        whose = "its own test tasks" if leaked[0] in mine else "the test tasks of another site"
        raise ConfigError(
            f"client {client.name!r} would learn from {len(leaked)} of {whose}: split {client.train_split!r} of "
            f"{client.environment} overlaps with what is held out",
            "choose splits that are disjoint, such as train and test, for all clients of an environment",
        )


def _traits(
    config: RunConfig, environment: Environment, tasks: Sequence[Task], wanted: str = ""
) -> Sequence[str] | Sequence[int]:
    """The trait that the partition goes by, of every task; nothing of environments that tell none, unless wanted."""
    try:
        return [getattr(environment.traits(task), config.partition.by) for task in tasks]
    except NotImplementedError as cause:
        if not wanted:
            return []
        raise ConfigError(
            f"the tasks of {wanted!r} cannot be partitioned by {config.partition.by}: the environment does not tell it",
            "set partition.scheme to iid or quantity",
        ) from cause
