"""``fedse demos``: demonstrations in AgentTraj's format, made by an expert or taken from a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from typer import Option

import fedse
from fedse.cli.console import examples, note, say
from fedse.cli.options import OPTION_HELP, EnvironmentName, Quiet, parsed_options
from fedse.cli.progress import shown
from fedse.errors import EnvironmentFault
from fedse.progress import Event, Listener, Phase
from fedse.texts import counted

EXAMPLES = examples(
    "fedse demos maze -n 215 -o maze.json",
    "fedse demos wordle -n 50 -o easy.json --option size=20 --seed 1",
    "fedse demos maze --import agenttraj/maze_train.json -o confirmed.json",
)

_DEFAULT_COUNT = 100
_SHOWN = 20  # episodes left out that are listed
_TOLD = 3  # tasks that were lost, whose faults are told


def demos(
    name: EnvironmentName,
    out: Annotated[Path, Option("--out", "-o", help="The file to write; one that is there is replaced.")],
    count: Annotated[
        int | None, Option("-n", min=1, help=f"How many; {_DEFAULT_COUNT} unless given, all with --import.")
    ] = None,
    source: Annotated[
        Path | None, Option("--import", help="Take the episodes of this AgentTraj file that succeed when replayed.")
    ] = None,
    split: Annotated[str, Option(help="The tasks that the expert shows.")] = "train",
    seed: Annotated[int, Option(min=0, help="Draws the tasks and varies the expert.")] = 0,
    options: Annotated[list[str] | None, Option("--option", metavar="KEY=VALUE", help=OPTION_HELP)] = None,
    full: Annotated[bool, Option("--full", help="Write the long instruction instead of the concise one.")] = False,
    quiet: Quiet = False,
) -> None:
    """Write demonstrations to a file in AgentTraj's conversation format (JSON).

    The expert plays tasks of the split in a drawn order, and again in other words if there are
    too few; only successes are written.  With --import nothing is played anew: every episode of
    the file is replayed, those that succeed are written, the others are counted by reason.

    A run takes such a file with `clients.*.demonstrations_file`.
    """
    from fedse.experience.agenttraj import write_agenttraj

    environment = fedse.make(name, **parsed_options(options or []))
    style: fedse.PromptStyle = "full" if full else "concise"
    try:
        instruction = fedse.system_prompt(environment, style)
        if source is None:
            written = _expert(environment, split, count or _DEFAULT_COUNT, seed, instruction, quiet=quiet)
        else:
            written = _imported(environment, source, count, instruction, quiet=quiet)
        write_agenttraj(out, written)
    finally:
        environment.close()
    turns = sum(len(trajectory.turns) for trajectory in written) / len(written)
    tasks = len({trajectory.task for trajectory in written})
    say(f"{out}: {counted(len(written), 'episode')} of {counted(tasks, 'task')}, {turns:.1f} turns on average")


def _expert(
    environment: fedse.Environment, split: str, count: int, seed: int, instruction: str, *, quiet: bool
) -> list[fedse.Trajectory]:
    tasks = list(environment.tasks(split))
    fedse.python_random(seed, "demos", environment.name, split).shuffle(tasks)
    lost: list[EnvironmentFault] = []

    def tell_of(fault: EnvironmentFault) -> None:
        lost.append(fault)
        if len(lost) <= _TOLD:
            note(fault.what, style="yellow")

    with shown(0, quiet=quiet) as listener:
        tell = _reporter(listener, environment.name)
        found = fedse.demonstrate(
            environment,
            tasks,
            count,
            instruction=instruction,
            seed=seed,
            on_progress=tell,
            on_lost=tell_of,
        )
    if len(lost) > _TOLD:
        note(f"{counted(len(lost), 'task')} lost to faults", style="yellow")
    if len(found) < count:
        wanted = counted(count, "demonstration")
        what = f"the expert of {environment.name} made {len(found)} of {wanted} of split {split!r}"
        raise EnvironmentFault(what, f"fedse env check {environment.name} shows what is wrong")
    return found


def _imported(
    environment: fedse.Environment, source: Path, count: int | None, instruction: str, *, quiet: bool
) -> list[fedse.Trajectory]:
    from fedse.sites.demonstrations import import_demonstrations

    with shown(0, quiet=quiet) as listener:
        tell = _reporter(listener, environment.name)
        found = import_demonstrations(source, environment, instruction=instruction, count=count, on_progress=tell)
    say(
        f"{source}: {len(found.confirmed)} of {counted(len(found.confirmed) + len(found.refused), 'episode')} confirmed"
    )
    for reason, times in found.reasons.items():
        say(f"  {times} {reason}")
    if not quiet:
        for refused in found.refused[:_SHOWN]:
            note(f"  {refused}")
        if len(found.refused) > _SHOWN:
            note(f"  and {len(found.refused) - _SHOWN} more")
    return list(found.confirmed)


def _reporter(listener: Listener, name: str) -> Callable[[int, int], None]:
    began = time.monotonic()
    return lambda done, total: listener(
        Event(Phase.DEMONSTRATE, 0, name, done, total, seconds=time.monotonic() - began)
    )
