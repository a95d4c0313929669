"""``fedse env``: the catalogue of environments, and the tools that check them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from fedse.cli.console import examples, stdout

app = typer.Typer(no_args_is_help=True, help="List, describe, check and replay environments.")

_SHOWN = 20  # differences listed for each file
_Name = Annotated[str, typer.Argument(help="A name from `fedse env ls`.")]


@app.command("ls", epilog=examples("fedse env ls"))
def list_environments() -> None:
    """List the installed environments."""
    from fedse.environments import environment_names, make

    table = Table("name", "train", "test", "turns", "what it is", box=None, pad_edge=False)
    for name in environment_names():
        environment = make(name)
        spec = environment.spec
        environment.close()
        counts = [str(spec.splits[split]) for split in ("train", "test")]
        table.add_row(name, *counts, str(spec.max_turns), spec.summary)
    stdout.print(table)


@app.command(epilog=examples("fedse env show maze"))
def show(name: _Name) -> None:
    """Show an environment's facts, options, instruction and a first observation."""
    from fedse.agent import system_prompt
    from fedse.cli import episode
    from fedse.environments import make

    environment = make(name)
    spec = environment.spec
    facts = {
        "environment": f"{spec.name}, version {spec.version}",
        "what it is": spec.summary,
        "tasks": ", ".join(f"{count} {split}" for split, count in spec.splits.items()),
        "success": f"reward of the last step above {spec.success_above:g}",
        "limits": f"{spec.max_turns} turns of at most {spec.max_response_tokens} tokens",
        "options": ", ".join(f"{option}={value}" for option, value in spec.options.items()) or "none",
    }
    for label, value in facts.items():
        stdout.print(Text.assemble((f"{label:<13}", "bold"), value))
    task = environment.tasks("train")[0]
    stdout.print(Text(f"\nWhat an agent sees of the task {task.id}", style="bold"))
    episode.show_instruction(system_prompt(environment, "concise"))
    episode.show_observation(environment.reset(task))
    environment.close()


@app.command(epilog=examples("fedse env check maze"))
def check(name: _Name) -> None:
    """Check that an environment keeps the contract; exit with 1 if it does not."""
    from fedse.environments import make
    from fedse.environments.checking import check_environment

    problems = check_environment(lambda: make(name))
    for problem in problems:
        stdout.print(Text.assemble(("FAIL ", "bold red"), str(problem)))
    if problems:
        raise typer.Exit(1)
    stdout.print(Text.assemble(("OK ", "green"), f"{name} keeps the contract"))


@app.command(epilog=examples("fedse env replay recordings/maze.jsonl.gz"))
def replay(
    files: Annotated[list[Path], typer.Argument(help="Recorded episodes (*.jsonl.gz), one a line.")],
) -> None:
    """Replay recordings of the original environments and count the differences; exit with 1 if there are any."""
    from fedse.environments.replay import replay_file

    differences = 0
    for file in files:
        report = replay_file(file)
        count = len(report.differences)
        found = "1 difference" if count == 1 else f"{count} differences"
        line = f"{file}: {report.env}, {report.episodes} episodes, {report.steps} steps, {found}"
        stdout.print(line, markup=False, style="red" if count else "green")
        for difference in report.differences[:_SHOWN]:
            stdout.print(f"  {difference}", markup=False)
        if count > _SHOWN:
            stdout.print(f"  and {count - _SHOWN} more")
        differences += count
    if differences:
        raise typer.Exit(1)
