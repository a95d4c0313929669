"""Players without a clue: they keep to each environment's actions and look at nothing that would help them win.

The nano model learns the form of the five environments from their episodes, and no more: what a player does is drawn at
random from what it may do, whatever the goal is, and its thoughts say nothing about the task.
"""

from __future__ import annotations

import json
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping

from fedse.agent.parsing import format_response

THOUGHTS = (
    "I try this.",
    "Let me see what happens.",
    "I do not know yet.",
    "This may help.",
    "One of several ways.",
    "I look around.",
    "Why not.",
    "Something else, then.",
)


class Actor(ABC):
    """Answers observations; a :class:`fedse.rollout.scripted.Policy`."""

    def __init__(self, instruction: str, rng: random.Random) -> None:
        self.instruction = instruction
        self.rng = rng

    def act(self, observation: str) -> str:
        """A reply in the form that the instruction asks for."""
        return format_response(*self.reply(observation))

    @abstractmethod
    def reply(self, observation: str) -> tuple[str, str]:
        """Thought and action."""


class Player(Actor):
    """Acts at random, with thoughts that say nothing."""

    def reply(self, observation: str) -> tuple[str, str]:
        """Any thought, and an action."""
        return self.rng.choice(THOUGHTS), self.action(observation)

    @abstractmethod
    def action(self, observation: str) -> str:
        """The next action."""


class MazePlayer(Player):
    """Moves anywhere."""

    def action(self, observation: str) -> str:
        """One of the four moves."""
        del observation  # it does not look where it goes
        return self.rng.choice(("move up", "move down", "move left", "move right"))


class WordlePlayer(Player):
    """Says any word of the list."""

    def action(self, observation: str) -> str:
        """A word of the list, if the instruction has one."""
        words = re.search(r"list:\n([a-z ]+)\n", self.instruction)
        return self.rng.choice(words[1].split()) if words else self.rng.choice(observation.split())


class TextCraftPlayer(Player):
    """Carries out commands of the list one after another, whatever they make, fetching what they use."""

    def __init__(self, instruction: str, rng: random.Random) -> None:
        super().__init__(instruction, rng)
        self._commands: list[str] = []
        self._plan: list[str] = []

    def action(self, observation: str) -> str:
        """Fetches the next ingredient of a command, or carries it out."""
        if not self._commands:
            self._commands = re.findall(r"^craft \d+ .+ using .+$", observation, re.MULTILINE)
        if not self._plan:
            command = self.rng.choice(self._commands)
            needs = command.split(" using ")[1].split(", ")
            self._plan = [*(f"get {need}" for need in needs), command]
        return self._plan.pop(0)


class BabyAIPlayer(Player):
    """Does anything that is on offer."""

    def action(self, observation: str) -> str:
        """One of the available actions."""
        offers = re.search(r"Available actions: (\[.*\])", observation)
        return str(self.rng.choice(json.loads(offers[1]))) if offers else "check available actions"


class WebShopPlayer(Player):
    """Searches for some words of the page, opens one of the first products, clicks any options, and buys."""

    def __init__(self, instruction: str, rng: random.Random) -> None:
        super().__init__(instruction, rng)
        self._clicks = rng.randint(1, 3)
        self._page: list[str] = []

    def action(self, observation: str) -> str:
        """What fits the kind of page."""
        if "[SEP]" in observation:  # else the last action did nothing, and the page is the same
            self._page = [piece.strip() for piece in observation.split("[SEP]")]
        pieces = self._page
        products = [piece for piece in pieces if re.fullmatch(r"B0[A-Z0-9]{4,8}", piece)]
        if "Buy Now" in pieces:
            return self._on_product(pieces)
        if products:
            return f"click[{self.rng.choice(products[:3])}]"
        if "< Prev" in pieces:
            return "click[< Prev]"
        words = pieces[pieces.index("Instruction:") + 1].rstrip(".").split()
        length = min(len(words), self.rng.randint(6, 14))
        start = self.rng.randrange(len(words) - length + 1)
        return f"search[{' '.join(words[start : start + length])}]"

    def _on_product(self, pieces: list[str]) -> str:
        if self._clicks == 0:
            return "click[Buy Now]"
        self._clicks -= 1
        first = pieces.index("< Prev") + 1
        last = next(index for index, piece in enumerate(pieces) if piece.startswith("Price:"))
        return f"click[{self.rng.choice(pieces[first : last - 1] or ['Features', 'Description'])}]"


PLAYERS: Mapping[str, type[Player]] = {
    "babyai": BabyAIPlayer,
    "maze": MazePlayer,
    "textcraft": TextCraftPlayer,
    "webshop": WebShopPlayer,
    "wordle": WordlePlayer,
}
