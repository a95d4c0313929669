"""From the commands shown to a short sequence of actions.

Uses nothing but the commands, the goal, what is carried, and two rules that the instruction tells: what no command
makes can be fetched, and ``planks`` and ``wool`` stand for their kinds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil

_COMMAND = re.compile(r"craft ([0-9]+) (.+) using ([0-9]+ .+)")
_PIECE = re.compile(r"([0-9]+) (.+)")

#: Ingredient that stands for its kinds → what bears its name and is no kind of it.
GENERIC: Mapping[str, frozenset[str]] = {"planks": frozenset(), "wool": frozenset({"white wool"})}


@dataclass(frozen=True, slots=True)
class Command:
    """A crafting command: it makes ``count`` of ``output`` and uses up ``inputs``, pairs of a name and a count."""

    output: str
    count: int
    inputs: tuple[tuple[str, int], ...]

    @property
    def text(self) -> str:
        """The command as an action."""
        return f"craft {self.count} {self.output} using {listed(self.inputs)}"


@dataclass(frozen=True, slots=True)
class Fetch:
    """A step of a plan: get something that no command makes."""

    #: name, count: what, and how many
    name: str
    count: int
    user: Command  #: the command that needs it; of several the last to be carried out
    wanted: int  #: how many of that command's output are to be made

    @property
    def action(self) -> str:
        """The step as an action."""
        return f"get {self.count} {self.name}"


@dataclass(frozen=True, slots=True)
class Craft:
    """A step of a plan: carry out a command."""

    command: Command  #: the command, kinds filled in
    #: turn, turns: this is which of how many times in a row
    turn: int
    turns: int
    user: Command | None  #: the command that needs the output, of several the last; ``None`` if the output is the goal

    @property
    def action(self) -> str:
        """The step as an action."""
        return self.command.text


Step = Fetch | Craft


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a choice of commands comes to."""

    order: Sequence[str]  #: everything needed, ingredients before what is made of them
    missing: Mapping[str, int]  #: thing → how many have to be fetched or crafted beyond what is carried
    turns: Mapping[str, int]  #: thing → actions spent on itself
    commands: Mapping[str, Command]  #: craftable thing → its command

    @property
    def length(self) -> int:
        """Actions in all."""
        return sum(self.turns.values())


def listed(things: Sequence[tuple[str, int]]) -> str:
    """Counted things as the game writes them: ``2 wheat, 1 cocoa beans``."""
    return ", ".join(f"{count} {name}" for name, count in things)


def parse_command(line: str) -> Command | None:
    """A command from its line; ``None`` for a line that is none."""
    match = _COMMAND.fullmatch(line)
    pieces = [_PIECE.fullmatch(piece) for piece in match[3].split(", ")] if match else []
    if not match or not all(pieces):
        return None
    return Command(match[2], int(match[1]), tuple((piece[2], int(piece[1])) for piece in pieces if piece))


def plan(
    commands: Sequence[Command], goal: str, carried: Mapping[str, int], *, fetch_first: bool
) -> Sequence[Step] | None:
    """The steps that craft a goal once, or ``None`` if the commands do not lead there.

    Where there is a choice, of a command or of a kind, it falls on what makes the plan shortest, and among equals on
    what is listed first.  All kinds are tried; commands are exchanged one at a time as long as that shortens the plan.

    Args:
        commands: the commands shown.
        goal: the item to craft.
        carried: thing → how many are in the inventory.
        fetch_first: fetch everything before the first craft; else each thing when a craft needs it.
    """
    makers: dict[str, list[Command]] = {}
    for command in commands:
        makers.setdefault(command.output, []).append(command)
    if goal not in makers:
        return None
    found = (_shortest(ways, goal, carried) for ways in _with_kinds(makers, goal))
    best = min((demand for demand in found if demand is not None), key=lambda demand: demand.length, default=None)
    if best is None:
        return None
    steps = list(_steps(best))
    return sorted(steps, key=lambda step: isinstance(step, Craft)) if fetch_first else steps


def _with_kinds(makers: Mapping[str, list[Command]], goal: str) -> Iterator[dict[str, list[Command]]]:
    """The commands that the goal may need, once for every choice of the kinds that generic ingredients stand for."""
    ways: dict[str, list[Command]] = {}
    kinds: dict[str, list[str]] = {}
    waiting = [goal]
    while waiting:
        name = waiting.pop()
        if name in ways or name in kinds:
            continue
        if name in makers:
            ways[name] = makers[name]
            waiting += [used for command in makers[name] for used, _ in command.inputs]
        elif name in GENERIC:
            kinds[name] = [kind for kind in makers if kind.endswith(f" {name}") and kind not in GENERIC[name]]
            waiting += kinds[name]
    # Without a kind the ingredient stays as it is, and the commands that need it cannot be carried out.
    for choice in product(*(options or [name] for name, options in kinds.items())):
        meaning = dict(zip(kinds, choice, strict=True))
        yield {
            name: [
                replace(command, inputs=tuple((meaning.get(used, used), count) for used, count in command.inputs))
                for command in options
            ]
            for name, options in ways.items()
        }


def _shortest(ways: Mapping[str, Sequence[Command]], goal: str, carried: Mapping[str, int]) -> _Demand | None:
    chosen = {name: commands[0] for name, commands in ways.items()}
    best = _demand(chosen, goal, carried)
    while True:
        trials = [
            _demand({**chosen, name: command}, goal, carried)
            for name in (ways if best is None else best.order)
            for command in ways.get(name, ())[1:]
        ]
        trial = min((demand for demand in trials if demand is not None), key=lambda demand: demand.length, default=None)
        if trial is None or (best is not None and trial.length >= best.length):
            return best
        best, chosen = trial, dict(trial.commands)


def _demand(chosen: Mapping[str, Command], goal: str, carried: Mapping[str, int]) -> _Demand | None:
    """What these commands come to; ``None`` if one needs its own output, or something that cannot be had."""
    order = _ordered(chosen, goal)
    if order is None:
        return None
    wanted: Counter[str] = Counter()
    missing: dict[str, int] = {}
    turns: dict[str, int] = {}
    for name in reversed(order):
        missing[name] = 1 if name == goal else max(0, wanted[name] - carried.get(name, 0))
        command = chosen.get(name)
        turns[name] = min(missing[name], 1) if command is None else ceil(missing[name] / command.count)
        for used, count in command.inputs if command else ():
            wanted[used] += count * turns[name]
    return _Demand(order, missing, turns, chosen)


def _ordered(chosen: Mapping[str, Command], goal: str) -> list[str] | None:
    """Everything that a goal needs, each thing after its ingredients; ``None`` if that is impossible."""
    order: list[str] = []
    finished: dict[str, bool] = {}

    def visit(name: str) -> bool:
        if name in finished:
            return finished[name]
        finished[name] = False
        if name in chosen:
            if not all(visit(used) for used, _ in chosen[name].inputs):
                return False
        elif name in GENERIC:
            return False
        finished[name] = True
        order.append(name)
        return True

    return order if visit(goal) else None


def _steps(demand: _Demand) -> Iterator[Step]:
    active = [demand.commands[name] for name in demand.order if name in demand.commands and demand.turns[name]]
    for name in demand.order:
        users = [command for command in active if name in dict(command.inputs)]
        command, turns = demand.commands.get(name), demand.turns[name]
        for turn in range(1, turns + 1):
            if command is None:
                yield Fetch(name, demand.missing[name], users[-1], demand.missing[users[-1].output])
            else:
                yield Craft(command, turn, turns, users[-1] if users else None)
