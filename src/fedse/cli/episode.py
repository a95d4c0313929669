"""How an episode looks on the screen, in ``play`` and in ``view`` alike."""

from __future__ import annotations

from rich.text import Text

import fedse
from fedse.cli.console import stdout
from fedse.texts import counted

_VERDICTS = {True: ("success", "bold green"), False: ("failure", "bold red"), None: ("error", "bold yellow")}
_STOPS = {  # by the value of fedse.types.StopReason
    "done": "the environment ended it",
    "turn_limit": "out of turns",
    "repetition": "the agent repeated itself",
    "context_limit": "out of context",
    "error": "fault of the infrastructure",
}


def show(trajectory: fedse.Trajectory, *, instruction: bool = True) -> None:
    """Print a whole episode, turn by turn."""
    if instruction:
        show_instruction(trajectory.instruction)
    for turn in trajectory.turns:
        show_observation(turn.observation)
        stdout.print(coloured_response(turn.response))
        if turn.truncated:
            stdout.print(Text("(cut at the token limit)", style="yellow"))
        if turn.by_chance:
            stdout.print(Text("(the action was taken by chance)", style="yellow"))
    show_outcome(trajectory)


def show_instruction(text: str) -> None:
    """Print the system message."""
    stdout.print(Text(text, style="dim"))
    stdout.print()


def show_observation(text: str) -> None:
    """Print what the agent sees."""
    stdout.print(Text(text, style="cyan"))


def coloured_response(response: str) -> Text:
    """The agent's text: thought in italics, action in bold."""
    thought, mark, action = response.partition("Action:")
    return Text.assemble((thought, "italic"), (mark + action, "bold green")) if mark else Text(response, style="italic")


def show_outcome(trajectory: fedse.Trajectory) -> None:
    """Print the environment's last words and its verdict."""
    if trajectory.final_observation:
        show_observation(trajectory.final_observation)
    turns = counted(len(trajectory.turns), "turn")
    facts = f"{turns}, reward {trajectory.reward:g}, {_STOPS[trajectory.stop.value]}"
    stdout.print(Text.assemble(_VERDICTS[trajectory.success], f", {facts}"))
    if trajectory.error:
        stdout.print(Text(trajectory.error, style="yellow"))
