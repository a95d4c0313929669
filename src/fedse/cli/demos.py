"""``fedse demos``: demonstrations in AgentTraj's format, made by an expert or taken from a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedse.cli.console import examples, stderr, stdout
from fedse.cli.options import Quiet, parsed_options
from fedse.cli.progress import shown
from fedse.progress import Event, Listener, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from fedse.environments import Environment, PromptStyle
    from fedse.types import Trajectory

EXAMPLES = examples(
    "fedse demos maze -n 215 -o maze.json",
    "fedse demos wordle -n 50 -o easy.json --option size=20 --seed 1",
    "fedse demos maze --import agenttraj/maze_train.json -o confirmed.json",
)

_DEFAULT_COUNT = 100
_SHOWN = 20  # episodes left out that are listed


def demos(
    name: Annotated[str, typer.Argument(metavar="ENV", help="A name from `fedse env ls`.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write; one that is there is replaced.")],
    count: Annotated[
        int | None, typer.Option("-n", min=1, help=f"How many; {_DEFAULT_COUNT} unless given, all with --import.")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--import", help="Take the episodes of this AgentTraj file that succeed when replayed."),
    ] = None,
    split: Annotated[str, typer.Option(help="The tasks that the expert shows.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Draws the tasks and varies the expert.")] = 0,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Option of the environment; repeat."),
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Write the long instruction instead of the concise one.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Write demonstrations to a file in AgentTraj's conversation format (JSON).

    The expert plays tasks of the split in a drawn order, and again in other words if there are
    too few; only successes are written.  With --import nothing is played anew: every episode of
    the file is replayed, those that succeed are written, the others are counted by reason.

    A run takes such a file with `clients.*.demonstrations_file`.
    """
    from fedse.environments import make
    from fedse.experience.agenttraj import write_agenttraj

    environment = make(name, **parsed_options(options or []))
    style: PromptStyle = "full" if full else "concise"
    try:
        if source is None:
            written = _expert(environment, split, count or _DEFAULT_COUNT, seed, style, quiet=quiet)
        else:
            written = _imported(environment, source, count, style, quiet=quiet)
        write_agenttraj(out, written)
    finally:
        environment.close()
    turns = sum(len(trajectory.turns) for trajectory in written) / len(written)
    tasks = len({trajectory.task for trajectory in written})
    stdout.print(f"{out}: {len(written)} episodes of {tasks} tasks, {turns:.1f} turns on average", markup=False)


def _expert(
    environment: Environment, split: str, count: int, seed: int, style: PromptStyle, *, quiet: bool
) -> list[Trajectory]:
    from fedse.agent import system_prompt
    from fedse.errors import EnvironmentFault
    from fedse.rollout.scripted import demonstrate
    from fedse.seeding import python_random

    tasks = list(environment.tasks(split))
    python_random(seed, "demos", environment.name, split).shuffle(tasks)
    with shown(0, quiet=quiet) as listener:
        found = demonstrate(
            environment,
            tasks,
            count,
            instruction=system_prompt(environment, style),
            seed=seed,
            on_progress=_reporter(listener, environment.name),
        )
    if len(found) < count:
        raise EnvironmentFault(
            f"the expert of {environment.name} made {len(found)} of {count} demonstrations of split {split!r}",
            f"fedse env check {environment.name} shows what is wrong",
        )
    return found


def _imported(
    environment: Environment, source: Path, count: int | None, style: PromptStyle, *, quiet: bool
) -> list[Trajectory]:
    from fedse.agent import system_prompt
    from fedse.sites.demonstrations import import_demonstrations

    with shown(0, quiet=quiet) as listener:
        found = import_demonstrations(
            source,
            environment,
            instruction=system_prompt(environment, style),
            count=count,
            on_progress=_reporter(listener, environment.name),
        )
    looked_at = len(found.confirmed) + len(found.refused)
    stdout.print(f"{source}: {len(found.confirmed)} of {looked_at} episodes confirmed", markup=False)
    for reason, times in found.reasons.items():
        stdout.print(f"  {times} {reason}", markup=False)
    if not quiet:
        for refused in found.refused[:_SHOWN]:
            stderr.print(f"  {refused}", markup=False)
        if len(found.refused) > _SHOWN:
            stderr.print(f"  and {len(found.refused) - _SHOWN} more")
    return list(found.confirmed)


def _reporter(listener: Listener, name: str) -> Callable[[int, int], None]:
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        seconds = time.monotonic() - began
        listener(Event(Phase.DEMONSTRATE, 0, name, done, total, seconds=seconds))

    return report
