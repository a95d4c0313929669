"""``fedse env``: the catalogue of environments, the tools that check them, and the server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from fedse.cli.console import examples, stderr, stdout
from fedse.cli.options import parsed_options

if TYPE_CHECKING:
    from fedse.environments.base import ActionRule, EnvironmentSpec

app = typer.Typer(no_args_is_help=True, help="List, describe, check, replay and serve environments.")

_SHOWN = 20  # differences listed for each file
_LONGEST_VALUE = 60
_LOOPBACK = ("127.", "localhost", "::1")
_Name = Annotated[
    str, typer.Argument(help="A name from `fedse env ls`, or a server such as agentgym:http://127.0.0.1:8000.")
]


@app.command("ls", epilog=examples("fedse env ls"))
def list_environments() -> None:
    """List the installed environments: what they are, their limits, tasks in each split, options with defaults."""
    from fedse.environments import environment_names, make
    from fedse.errors import EnvironmentFault

    for name in environment_names():
        try:
            environment = make(name)
        except EnvironmentFault as fault:  # one broken distribution must not hide the others
            stdout.print(Text.assemble((name, "bold"), (f"  cannot be used: {fault.what}", "red")))
            continue
        spec = environment.spec
        environment.close()
        stdout.print(Text.assemble((name, "bold"), f"  {spec.summary}"))
        expert = "with an expert" if environment.has_expert else "no expert"
        _fact("limits", f"{spec.max_turns} turns, {expert}")
        _fact("tasks", _task_counts(spec))
        _fact("options", _option_list(spec))


def _fact(label: str, text: str) -> None:
    stdout.print(Text.assemble((f"  {label:<8} ", "dim"), text))


def _task_counts(spec: EnvironmentSpec) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in spec.splits.items())


def _option_list(spec: EnvironmentSpec) -> str:
    return ", ".join(f"{option}={_shown_value(value)}" for option, value in spec.options.items()) or "none"


def _shown_value(value: Any) -> str:
    """As one writes it after ``--set``; long lists are cut."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


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
        "tasks": _task_counts(spec),
        "success": f"reward of the last step above {spec.success_above:g}",
        "limits": f"{spec.max_turns} turns of at most {spec.max_response_tokens} tokens",
        "options": _option_list(spec),
        "expert": "yes" if environment.has_expert else "no",
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
    files: Annotated[list[Path], typer.Argument(help="Recorded episodes, cases or replies (*.jsonl.gz), one a line.")],
) -> None:
    """Replay recordings of the original environments and clients, and count the differences; exit with 1 if any."""
    from fedse.agent import parse_response
    from fedse.environments.agentgym.replay import replay_file

    def read(text: str, rule: ActionRule) -> tuple[str, str | None]:
        parsed = parse_response(text, rule, parity=True)
        return parsed.action, parsed.error

    differences = 0
    for file in files:
        report = replay_file(file, read)
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


@app.command(
    epilog=examples(
        "fedse env serve textcraft",
        "fedse env serve wordle --port 36001 --option size=200",
        "fedse play agentgym:http://127.0.0.1:8000 --who expert",
    )
)
def serve(
    name: Annotated[str, typer.Argument(help="A name from `fedse env ls`.")],
    host: Annotated[str, typer.Option(help="Address to listen on; anyone who reaches it can play.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    option: Annotated[
        list[str] | None, typer.Option("--option", "-o", metavar="KEY=VALUE", help="Option of the environment; repeat.")
    ] = None,
    max_episodes: Annotated[int, typer.Option(min=1, help="Episodes open at a time.")] = 4096,
    idle: Annotated[float, typer.Option(min=1, help="Seconds after which an unused episode is closed.")] = 3600.0,
    max_body: Annotated[int, typer.Option(min=1, help="Largest request, in KiB.")] = 1024,
) -> None:
    """Serve an environment over AgentGym's HTTP protocol, until Ctrl-C.

    AgentGym's own clients can play on it, and so can fedse: the line printed at the start is an environment's name.
    """
    from fedse.environments import make
    from fedse.environments.agentgym import server as serving
    from fedse.environments.agentgym.slots import Limits

    environment = make(name, **parsed_options(option or []))
    limits = Limits(episodes=max_episodes, idle_seconds=idle, body_bytes=max_body * 1024)
    with serving.listen(host, port) as listening:
        server = serving.server(environment, limits)
        stdout.print(f"agentgym:{serving.address(environment, listening)}", markup=False)
        if not host.startswith(_LOOPBACK):
            stderr.print("Other machines can reach this server; it asks nobody who they are.", style="yellow")
        server.run(sockets=[listening])
    environment.close()
