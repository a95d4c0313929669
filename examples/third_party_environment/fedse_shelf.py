"""An environment for fedse in a package of its own: sort books on a shelf."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import ClassVar

from fedse import (
    ConfigError,
    Environment,
    EnvironmentFault,
    EnvironmentSpec,
    Expert,
    PromptStyle,
    StepResult,
    Task,
    TaskTraits,
    python_random,
    unknown_name,
)

SPLITS: Mapping[str, range] = {"train": range(1000), "test": range(1000, 1500)}
_SWAP = re.compile(r"swap ([1-9]) ([1-9])")


class Shelf(Environment):
    """Bring the books on a shelf into alphabetical order, two at a time.

    Args:
        books: how many books there are, 3 to 9.

    Raises:
        ConfigError: for another number.
    """

    name: ClassVar[str] = "shelf"

    def __init__(self, *, books: int = 5) -> None:
        if isinstance(books, bool) or not isinstance(books, int) or not 3 <= books <= 9:
            raise ConfigError(f"shelf: books must be a number from 3 to 9, found {books!r}")
        self._count = books
        self._books: list[str] | None = None

    @property
    def spec(self) -> EnvironmentSpec:
        """Twice as many turns as any order needs."""
        return EnvironmentSpec(
            name=self.name,
            version=1,
            summary="Sort books on a shelf by swapping two at a time.",
            max_turns=2 * self._count,
            success_above=0.5,
            max_response_tokens=48,
            action_rule="first",
            splits={split: len(seeds) for split, seeds in SPLITS.items()},
            options={"books": self._count},
        )

    def tasks(self, split: str) -> Sequence[Task]:
        """A task's id is the seed of the order in which the books stand at first."""
        if split not in SPLITS:
            raise unknown_name(f"{self.name} split", split, SPLITS)
        return [Task(self.name, str(seed)) for seed in SPLITS[split]]

    def traits(self, task: Task) -> TaskTraits:
        """Kind: whether the first book is in its place.  Size: books.  Difficulty: swaps needed."""
        books = self._shuffled(task)
        ordered = sorted(books)
        kind = "first in place" if books[0] == ordered[0] else "first elsewhere"
        return TaskTraits(kind, size=len(books), difficulty=_swaps(books))

    def instruction(self, style: PromptStyle) -> str:
        """The rules; ``full`` adds an example."""
        rules = "Sort the books on the shelf alphabetically. Places count from 1. Action: swap <place> <place>"
        return rules if style == "concise" else f"{rules}\nFor example, C A B becomes A C B by: swap 1 2"

    def reset(self, task: Task) -> str:
        """Open a task such as ``17``."""
        self._books = self._shuffled(task)
        return self._shown(self._books)

    def step(self, action: str) -> StepResult:
        """Swap two books; anything else is answered in words."""
        books = self._books
        if books is None:
            raise EnvironmentFault("shelf: there is no open episode", "call reset first")
        match = _SWAP.fullmatch(action.strip())
        places = [int(text) - 1 for text in match.groups()] if match else []
        if not places or max(places) >= len(books):
            return StepResult("I do not understand. " + self._shown(books), 0.0, False)
        first, second = places
        books[first], books[second] = books[second], books[first]
        if books == sorted(books):
            self._books = None
            return StepResult("Sorted: " + " ".join(books), 1.0, True)
        return StepResult(self._shown(books), 0.0, False)

    def expert(self, seed: int) -> Expert:  # noqa: ARG002  (there is one way to say it)
        """Selection sort: puts the first misplaced book where it belongs, by what the shelf shows."""
        return SelectionSort()

    def _shuffled(self, task: Task) -> list[str]:
        if task.environment != self.name or not any(task in self.tasks(split) for split in SPLITS):
            raise EnvironmentFault(f"shelf: there is no task {task}", "task ids are 0 to 1499")
        rng = python_random(self.name, task.id, self._count)
        books = rng.sample(string.ascii_uppercase, self._count)
        while books == sorted(books):
            rng.shuffle(books)
        return books

    @staticmethod
    def _shown(books: Sequence[str]) -> str:
        return "On the shelf: " + " ".join(books)


class SelectionSort:
    """The expert.  It reads the shelf anew in every turn."""

    def act(self, observation: str) -> tuple[str, str]:
        """The next (thought, action)."""
        books = observation.rpartition(": ")[2].split()
        ordered = sorted(books)
        place = next(place for place, book in enumerate(books) if book != ordered[place])
        found = books.index(ordered[place])
        return f"{ordered[place]} belongs at {place + 1} and is at {found + 1}.", f"swap {place + 1} {found + 1}"


def _swaps(books: Sequence[str]) -> int:
    left, count, ordered = list(books), 0, sorted(books)
    for place, book in enumerate(ordered):
        found = left.index(book)
        if found != place:
            left[place], left[found] = left[found], left[place]
            count += 1
    return count
