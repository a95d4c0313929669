"""Players who say truly what they see, in the experts' words, and then do anything: they can read and want nothing.

From their episodes the nano model learns to tell the goal, the walls, the commands, the prices; not what to do about
them.  What they do is drawn at random, whatever the goal is, and they never say why an action would be right.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from fedse.environments.babyai import thoughts as babyai
from fedse.environments.maze import expert as maze
from fedse.environments.maze.layouts import OPPOSITE
from fedse.environments.textcraft import expert as textcraft
from fedse.environments.textcraft.planner import Command, listed, parse_command
from fedse.environments.webshop import expert as webshop
from fedse.environments.webshop.generator import listed as enumerated
from fedse.environments.webshop.reading import Kind, View, read_page
from fedse.environments.wordle import expert as wordle
from nano.players import Actor, BabyAIPlayer

_NUMBERS = re.compile(r"goal is at position (\d+), (\d+)\. Your current position is at position (\d+), (\d+)\.")
_WALLS = {"right": "to your right", "left": "to your left", "up": "above you", "down": "below you"}


class MazeNarrator(Actor):
    """Says where the goal is, which ways are open, and where it came from; goes any open way."""

    def __init__(self, instruction: str, rng: random.Random) -> None:
        super().__init__(instruction, rng)
        self._voice = rng.choice(maze.VOICES)
        self._last: str | None = None

    def reply(self, observation: str) -> tuple[str, str]:
        """The facts, and a move."""
        voice = self._voice
        match = _NUMBERS.search(observation)
        if match is None:
            return "I see no maze.", "move up"
        goal_row, goal_column, here_row, here_column = map(int, match.groups())
        walls = [way for way, words in _WALLS.items() if words in observation]
        ways = [way for way in _WALLS if way not in walls]
        move = self.rng.choice(ways)
        up = voice.level if here_row == goal_row else "up" if goal_row < here_row else "down"
        left = voice.level if here_column == goal_column else "left" if goal_column < here_column else "right"
        thought = (
            voice.row.format(here_row, goal_row, up),
            voice.column.format(here_column, goal_column, left),
            voice.sides.format(", ".join(walls) or "none", ", ".join(ways)),
            voice.start if self._last is None else voice.came.format(maze.SIDES[OPPOSITE[self._last]]),
            voice.other.format(move),
        )
        self._last = move
        return " ".join(thought), f"move {move}"


class WordleNarrator(Actor):
    """Says what the last word got, and any word of the list."""

    def __init__(self, instruction: str, rng: random.Random) -> None:
        super().__init__(instruction, rng)
        found = re.search(r"list:\n([a-z ]+)\n", instruction)
        self._words = found[1].split() if found else ["about"]
        self._answer = rng.choice(wordle.VOICES).answer
        self._last: str | None = None

    def reply(self, observation: str) -> tuple[str, str]:
        """What was answered, and a word."""
        word = self.rng.choice(self._words)
        before = "" if self._last is None else self._answer.format(self._last, observation.strip()) + " "
        self._last = word
        return f"{before}I try {word}.", word


_GOAL = re.compile(r"Goal: craft (.+)\.")
_GOT = re.compile(r"Got (\d+) (.+)")
_CRAFTED = re.compile(r"Crafted (\d+) minecraft:(.+)")


class TextCraftNarrator(Actor):
    """Names the goal and what it needs, and carries out other commands for which everything can be had.

    It hardly ever crafts the goal: of short lists it would often do so by chance.
    """

    def __init__(self, instruction: str, rng: random.Random) -> None:
        super().__init__(instruction, rng)
        self._voice = rng.choice(textcraft.VOICES)
        self._goal = ""
        self._commands: list[Command] = []
        self._held: Counter[str] = Counter()
        self._aim: Command | None = None

    def reply(self, observation: str) -> tuple[str, str]:
        """The next ingredient of a command that was drawn, or the command."""
        self._take_in(observation)
        voice = self._voice
        makes = {command.output for command in self._commands}
        about = [voice.goal.format(self._goal)]
        if self._aim is None:
            ready = [
                command
                for command in self._commands
                if (command.output != self._goal or self.rng.random() < 0.03)
                and all(self._held[name] >= count or name not in makes for name, count in command.inputs)
            ]
            if self.rng.random() < 0.8:
                inputs = next((other.inputs for other in self._commands if other.output == self._goal), ())
                about += [voice.needs.format(listed(inputs))] if inputs else []
            if not ready and self.rng.random() < 0.7:
                raw = [pair for other in self._commands for pair in other.inputs if pair[0] not in makes]
                name, count = self.rng.choice(raw)
                return f"{' '.join(about)} {voice.fetch.format(name, count)}", f"get {count} {name}"
            if not ready or self.rng.random() < 0.1:
                return f"{about[0]} I see what I hold.", "inventory"
            self._aim = self.rng.choice(ready)
        command = self._aim
        for name, count in command.inputs:
            if self._held[name] < count:
                about.append(voice.part.format(command.count, command.output, command.count, listed(command.inputs)))
                about.append(voice.fetch.format(name, count))
                return " ".join(about), f"get {count} {name}"
        self._aim = None
        self._held -= Counter(dict(command.inputs))
        users = [other.output for other in self._commands if command.output in dict(other.inputs)]
        about.append(voice.have.format(listed(command.inputs)))
        made = voice.craft.partition(" for ")[0].format(command.output)
        return f"{' '.join(about)} {made}{f' for {self.rng.choice(users)}' if users else ''}.", command.text

    def _take_in(self, observation: str) -> None:
        opening = _GOAL.search(observation)
        if opening:
            self._goal = opening[1]
            lines = (parse_command(line) for line in observation.split("\n"))
            self._commands = [command for command in lines if command is not None]
        elif match := _GOT.fullmatch(observation) or _CRAFTED.fullmatch(observation):
            self._held[match[2].replace("_", " ")] += int(match[1])
        elif not observation.startswith("Inventory"):
            self._aim = None


_SCENE = re.compile(r"In front of you|You cannot see")
_SEEN = re.compile(r"There is an? (.+?) \d")
_OFFERED = re.compile(r'"(?:go to|pickup|toggle and go through|go through) (.+?) \d+"')
_MISSION = re.compile(r"Your goal: (.+)")


class BabyAINarrator(Actor):
    """Names the mission, says whether what it is about is in sight, and does anything else that is on offer."""

    def __init__(self, instruction: str, rng: random.Random) -> None:
        super().__init__(instruction, rng)
        self._player = BabyAIPlayer(instruction, rng)
        self._voice = rng.choice(babyai.VOICES)
        self._goal = ""

    def reply(self, observation: str) -> tuple[str, str]:
        """The facts, and an action; more often a step than one that names a thing."""
        voice = self._voice
        if match := _MISSION.search(observation):
            self._goal = match[1]
        sight = ""
        barred: Sequence[str] = ()
        if not re.search(r" then | after |, | and ", self._goal):
            wanted = babyai.EXTRAS.sub("", self._goal.partition(" next to ")[0])
            thing = set(wanted.split())
            barred = [name for name in _OFFERED.findall(observation) if thing <= set(name.split())]
            if _SCENE.search(observation):
                seen = next((name for name in _SEEN.findall(observation) if thing <= set(name.split())), None)
                sight = f"{voice.seen.format(seen) if seen else voice.unseen.format(wanted)} "
        action = self._action(observation, barred)
        done = action.replace("pickup", "pick up")
        return f"{voice.goal.format(self._goal)} {sight}{voice.decide.format(done)}", action

    def _action(self, observation: str, barred: Sequence[str]) -> str:
        """Anything on offer that names none of the barred things; more often a step than one that names a thing."""
        offers = [self._player.action(observation) for _ in range(12)]
        free = [offer for offer in offers if not any(name in offer for name in barred)] or ["check available actions"]
        steps = [offer for offer in free if not re.search(r"\d", offer)]
        return self.rng.choice(steps if steps and self.rng.random() < 0.4 else free)


#: What is said before going back and before buying, where the experts would give a reason.
_LEAVING = dict(zip(webshop.VOICES, (("Back.", "I buy it."), ("I go back.", "I take this.")), strict=True))


class WebShopNarrator(Actor):
    """Says what is wanted, what things cost, and what a page tells; opens and clicks anything."""

    def __init__(self, instruction: str, rng: random.Random) -> None:
        super().__init__(instruction, rng)
        self._voice = rng.choice(webshop.VOICES)
        self._back, self._buy = _LEAVING[self._voice]
        self._asked: tuple[str, ...] = ()
        self._clicks = rng.randint(2, 5)

    def reply(self, observation: str) -> tuple[str, str]:
        """What fits the kind of page."""
        voice = self._voice
        view = read_page(observation)
        if view is None:
            return self._back, "click[Back to Search]"
        wish = view.wish
        if view.kind is Kind.START or (view.kind is Kind.RESULTS and not view.listings):
            described = f"{wish.product} with {enumerated(wish.attributes)}" if wish.attributes else wish.product
            words = " ".join((wish.product, *wish.attributes, *wish.options.values()))
            return voice.search.format(described), f"search[{words}]"
        if view.kind is Kind.RESULTS:
            listing = self.rng.choice(view.listings)
            if wish.limit is None or not wish.affordable(listing.price):
                # The words of the experts speak of a price within the limit, which would not be true.
                return f"{listing.asin} is {listing.price}.", f"click[{listing.asin}]"
            return voice.first.format(listing.asin, listing.price, wish.limit), f"click[{listing.asin}]"
        if view.kind is Kind.TEXT:
            text = " ".join(view.pieces).lower()
            found = [attribute for attribute in self._asked if attribute in text]
            return (voice.tells.format(enumerated(found)) if found else self._back), "click[< Prev]"
        return self._on_product(view)

    def _on_product(self, view: View) -> tuple[str, str]:
        voice = self._voice
        wish = view.wish
        if self._clicks == 0:
            return self._buy, "click[Buy Now]"
        self._clicks -= 1
        chance = self.rng.random()
        untold = tuple(attribute for attribute in wish.attributes if attribute not in view.title.lower())
        if untold and chance < 0.3:
            self._asked = untold
            return voice.read.format(enumerated(untold)), "click[Features]"
        if chance < 0.35:
            return self._back, "click[< Prev]"
        first = view.pieces.index("< Prev") + 1
        last = view.pieces.index(view.title)
        name, values = "", []
        for piece in view.pieces[first:last]:
            if piece in wish.options:
                name = piece
            elif name:
                values.append((name, piece))
        if not values:
            return self._buy, "click[Buy Now]"
        # What was asked for is a fact, too; a customer who never happened on it would buy nothing right.
        asked = [(name, value) for name, value in values if wish.options.get(name) == value]
        name, value = self.rng.choice(asked if asked and self.rng.random() < 0.9 else values)
        return voice.option.format(name, value), f"click[{value}]"


NARRATORS: Mapping[str, type[Actor]] = {
    "babyai": BabyAINarrator,
    "maze": MazeNarrator,
    "textcraft": TextCraftNarrator,
    "webshop": WebShopNarrator,
    "wordle": WordleNarrator,
}
