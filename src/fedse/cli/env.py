"""``fedse env``: the catalogue of environments, the tools that check them, and the server."""

from __future__ import annotations

import json
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.text import Text
from typer import Argument, Exit, Option, Typer

import fedse
from fedse.cli import episode
from fedse.cli.console import examples, note, refuse_idle, say, stdout
from fedse.cli.options import EnvironmentOptions, parsed_options
from fedse.errors import EnvironmentFault
from fedse.texts import counted

if TYPE_CHECKING:
    from fedse.environments.base import ActionRule

app = Typer(no_args_is_help=True, help="List, describe, check, replay and serve environments.")

_SHOWN = 20  # differences listed for each file
_LONGEST_VALUE = 60
_LOOPBACK = ("127.", "localhost", "::1")
_Name = Annotated[str, Argument(help="A name from `fedse env ls`, or a server such as openenv:http://127.0.0.1:8000.")]


class Protocol(StrEnum):
    """How clients talk to a server."""

    AGENTGYM = "agentgym"
    OPENENV = "openenv"


@app.command("ls", epilog=examples("fedse env ls"))
def list_environments() -> None:
    """List the installed environments: what they are, their limits, tasks in each split, options with defaults."""
    for name in fedse.environment_names():
        try:
            environment = fedse.make(name)
        except EnvironmentFault as fault:  # one broken distribution must not hide the others
            stdout.print(Text.assemble((name, "bold"), (f"  cannot be used: {fault.what}", "red")))
            continue
        spec = environment.spec
        environment.close()
        stdout.print(Text.assemble((name, "bold"), f"  {spec.summary}"))
        limits = f"{counted(spec.max_turns, 'turn')}, {'with an expert' if environment.has_expert else 'no expert'}"
        for label, fact in {"limits": limits, "tasks": _task_counts(spec), "options": _option_list(spec)}.items():
            stdout.print(Text.assemble((f"  {label:<8} ", "dim"), fact))


def _task_counts(spec: fedse.EnvironmentSpec) -> str:
    return ", ".join(f"{count:,} {split}" for split, count in spec.splits.items())


def _option_list(spec: fedse.EnvironmentSpec) -> str:
    return ", ".join(f"{option}={_shown_value(value)}" for option, value in spec.options.items()) or "none"


def _shown_value(value: Any) -> str:
    """As one writes it after ``--set``; long lists are cut."""
    text = json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


@app.command(epilog=examples("fedse env show maze", "fedse env show maze --option max_path=5"))
def show(name: _Name, option: EnvironmentOptions = None) -> None:
    """Show an environment's facts, options, instruction and a first observation."""
    environment = fedse.make(name, **parsed_options(option or []))
    spec = environment.spec
    facts = {
        "environment": f"{spec.name}, version {spec.version}",
        "what it is": spec.summary,
        "tasks": _task_counts(spec),
        "success": f"reward of the last step above {spec.success_above:g}",
        "limits": f"{counted(spec.max_turns, 'turn')} of at most {counted(spec.max_response_tokens, 'token')}",
        "options": _option_list(spec),
        "expert": "yes" if environment.has_expert else "no",
    }
    for label, value in facts.items():
        stdout.print(Text.assemble((f"{label:<13}", "bold"), value))
    task = environment.tasks("train")[0]
    stdout.print(Text(f"\nWhat an agent sees of the task {task.id}", style="bold"))
    episode.show_instruction(fedse.system_prompt(environment, "concise"))
    episode.show_observation(environment.reset(task))
    environment.close()


@app.command(epilog=examples("fedse env check maze", "fedse env check wordle --option size=200"))
def check(name: _Name, option: EnvironmentOptions = None) -> None:
    """Check that an environment keeps the contract; exit with 1 if it does not."""
    options = parsed_options(option or [])
    fedse.make(name, **options).close()  # a wrong option is no problem of the environment's
    problems = fedse.check_environment(lambda: fedse.make(name, **options))
    for problem in problems:
        stdout.print(Text.assemble(("FAIL ", "bold red"), str(problem)))
    if problems:
        raise Exit(1)
    stdout.print(Text.assemble(("OK ", "green"), f"{name} keeps the contract"))


@app.command(epilog=examples("fedse env replay recordings/maze.jsonl.gz"))
def replay(
    files: Annotated[list[Path], Argument(help="Recorded episodes, cases or replies (*.jsonl.gz), one a line.")],
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
        seen = f"{counted(report.episodes, 'episode')}, {counted(report.steps, 'step')}"
        line = f"{file}: {report.env}, {seen}, {counted(count, 'difference')}"
        say(line, style="red" if count else "green")
        for difference in report.differences[:_SHOWN]:
            say(f"  {difference}")
        if count > _SHOWN:
            say(f"  and {count - _SHOWN} more")
        differences += count
    if differences:
        raise Exit(1)


@app.command(
    epilog=examples(
        "fedse env serve textcraft",
        "fedse env serve textcraft --protocol openenv",
        "fedse env serve wordle --port 36001 --option size=200",
        "fedse play agentgym:http://127.0.0.1:8000 --who expert",
    )
)
def serve(
    name: Annotated[str, Argument(help="A name from `fedse env ls`.")],
    host: Annotated[str, Option(help="Address to listen on; anyone who reaches it can play.")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    option: EnvironmentOptions = None,
    protocol: Annotated[Protocol, Option(help="Whose clients can play on it.")] = Protocol.AGENTGYM,
    max_episodes: Annotated[int, Option(min=1, help="Episodes open at a time.")] = 4096,
    idle: Annotated[
        float | None,
        Option(min=1, help="Seconds after which an unused episode of AgentGym's is closed.", show_default="3600"),
    ] = None,
    max_body: Annotated[int, Option(min=1, help="Largest request, in KiB.")] = 1024,
) -> None:
    """Serve an environment over AgentGym's or OpenEnv's protocol, until Ctrl-C.

    The clients of the protocol can play on it, and so can fedse: the line printed at the start is an environment's
    name.
    """
    from fedse.environments.serving import Limits, listen

    if protocol is Protocol.OPENENV:
        refuse_idle({"--idle": idle}, "with --protocol openenv, where an episode lasts as long as its connection")
    serving = import_module(f"fedse.environments.{protocol.value}.server")
    environment = fedse.make(name, **parsed_options(option or []))
    usual = Limits()
    limits = Limits(max_episodes, usual.idle_seconds if idle is None else idle, max_body * 1024)
    with listen(host, port) as listening:
        server = serving.server(environment, limits)
        say(f"{protocol.value}:{serving.address(environment, listening)}")
        if not host.startswith(_LOOPBACK):
            note("Other machines can reach this server; it asks nobody who they are.", style="yellow")
        server.run(sockets=[listening])
    environment.close()
