"""The Wordle environment: LMRL-Gym's Wordle as AgentGym serves it, over freely available words."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from fedse.environments.base import (
    Environment,
    EnvironmentSpec,
    Expert,
    PromptStyle,
    StepResult,
    TaskTraits,
    task_number,
)
from fedse.environments.forgiving import plain, shown
from fedse.environments.parts import parse_part
from fedse.environments.review import Review, Seen
from fedse.environments.wordle.engine import TRIES, Engine, Mode
from fedse.environments.wordle.expert import WordleExpert
from fedse.environments.wordle.instructions import instruction
from fedse.environments.wordle.review import offers, review
from fedse.environments.wordle.vocabulary import (
    DEFAULT_SIZE,
    PATTERNS,
    SOLVED,
    Vocabulary,
    common_words,
    part_of,
    read_words,
)
from fedse.errors import ConfigError, EnvironmentFault
from fedse.names import unknown_name
from fedse.types import Task

GREETING = "Let's start Wordle!"
#: How the answer to anything but a word of the vocabulary begins.
INVALID = "invalid word"
_SEPARATORS = re.compile(r"\W")

SPLITS: Mapping[str, Sequence[int]] = {
    "train": range(1000, 3000),
    "test": range(500),
    "paper-train": range(1000, 1955),
    "paper-test": range(25),
    # AgentTraj draws its 955 training seeds from 0..1450; which ones is not public, and 21 of them are test seeds.
    "benchmark-train": range(25, 1451),
    "benchmark-test": range(25),
}
#: Feedback pattern → answer, without and with the end of the game after it.
_ANSWERS, _LAST_ANSWERS = (
    tuple(
        StepResult(" ".join(marks) + "\n", 1.0 if number == SOLVED else 0.0, last or number == SOLVED)
        for number, marks in enumerate(PATTERNS)
    )
    for last in (False, True)
)


class Wordle(Environment):
    """Guess a five-letter word in six tries.

    Args:
        mode: ``lmrl`` draws the secret anew among the still possible words at each guess, as the original does;
            ``fixed`` draws it once, the classic game.
        size: 20, 40, 200 or 555 common words.
        vocab: a text file with one word a line, instead of the built-in words.
        part: play with a part of the words only, such as ``2/4``; see :class:`~fedse.environments.parts.Part`.
        parity: understand only words in small letters, as the original server does, and also reproduce a fault of it:
            it tells the possible words in the middle of a game.
    """

    name: ClassVar[str] = "wordle"
    agentgym: ClassVar[str] = "fedse.environments.wordle.agentgym:WordleCounterpart"

    def __init__(
        self,
        *,
        mode: Mode = "lmrl",
        size: int = DEFAULT_SIZE,
        vocab: str | None = None,
        part: str | None = None,
        parity: bool = False,
    ) -> None:
        if mode not in ("lmrl", "fixed"):
            raise ConfigError(f"wordle has no mode {mode!r}", "take 'lmrl' or 'fixed'")
        if not isinstance(parity, bool):
            raise ConfigError(f"wordle: parity must be true or false, found {parity!r}")
        if vocab is not None and size != DEFAULT_SIZE:
            raise ConfigError(f"wordle was given both vocab={vocab!r} and size={size!r}", "give one of them")
        self._parity = parity
        self._options = {"mode": mode, "size": size, "vocab": vocab, "part": part, "parity": parity}
        self._mode: Mode = mode
        self._vocabulary: Vocabulary = common_words(size) if vocab is None else read_words(Path(vocab))
        if part is not None:
            self._vocabulary = part_of(self._vocabulary, parse_part(part, option="wordle: part must be"))
        self._engine: Engine | None = None

    @property
    def spec(self) -> EnvironmentSpec:
        """Six turns, the server's own limit; only the right word gives a reward above 0.99."""
        return EnvironmentSpec(
            name=self.name,
            version=2,
            summary="Guess a five-letter word from feedback on its letters (LMRL-Gym, AgentGym).",
            max_turns=TRIES,
            success_above=0.99,
            max_response_tokens=40,
            action_rule="first",
            splits={split: len(seeds) for split, seeds in SPLITS.items()},
            options=dict(self._options),
        )

    def tasks(self, split: str) -> Sequence[Task]:
        """See :class:`~fedse.environments.base.Environment`; a task's id is the seed of the draws."""
        if split not in SPLITS:
            raise unknown_name(f"{self.name} split", split, SPLITS)
        return _tasks(split)

    def traits(self, task: Task) -> TaskTraits:
        """How the most informative guesses fare against the task's draws.

        Kind: how many letters of the opening occur in the word.  Size: the words left after the opening.  Difficulty:
        guesses up to the right one; seven if six do not do.
        """
        engine = Engine(self._vocabulary, self._mode, self._seed(task))
        marks, left = 0, 0
        while not engine.done:
            pattern = engine.guess(self._vocabulary.words[self._vocabulary.ranked(engine.candidates)[0][1]])
            if engine.tries == 1 and pattern is not None:
                marks, left = sum(mark != "b" for mark in PATTERNS[pattern]), len(engine.candidates)
        return TaskTraits(f"{marks} letters", size=left, difficulty=engine.tries if engine.won else TRIES + 1)

    def instruction(self, style: PromptStyle) -> str:
        """The rules with the vocabulary; ``full`` adds advice and an example."""
        return instruction(self._vocabulary.words, style)

    def reset(self, task: Task) -> str:
        """Open a game; the task's id is the seed of its draws."""
        return self.open(self._seed(task))

    def _seed(self, task: Task) -> int:
        seed = task_number(task.id)
        if task.environment != self.name or seed is None:
            raise EnvironmentFault(f"wordle: there is no task {task}", "a task id is a seed: 0, 1, 2, …")
        return seed

    def open(self, seed: int) -> str:
        """Begin a game whose draws follow ``seed``; return the first observation."""
        self._engine = Engine(self._vocabulary, self._mode, seed)
        return GREETING

    def step(self, action: str) -> StepResult:
        """Guess a word, written plainly or with something between the letters."""
        engine = self._engine
        if engine is None or engine.done:
            raise EnvironmentFault("wordle: there is no open game to step", "call reset with a task first")
        word = action.strip().replace(" ", "")
        if not self._parity and word not in self._vocabulary.index:
            word = _SEPARATORS.sub("", plain(action))
        pattern = engine.guess(word)
        if pattern is None:
            why = "" if self._parity else f": {shown(action)} is not in the list. Guess a word of the list."
            return StepResult(f"{INVALID}{why}", 0.0, engine.done)
        return (_LAST_ANSWERS if engine.done else _ANSWERS)[pattern]

    def use_words(self, words: Sequence[str]) -> None:
        """Play with other words, from the next game on."""
        if tuple(words) != self._vocabulary.words:
            self._vocabulary = Vocabulary(words)

    @property
    def possible_words(self) -> list[str]:
        """The words that agree with all feedback of the open game, in vocabulary order; all before the first game."""
        candidates = self._vocabulary.all if self._engine is None else self._engine.candidates
        return [self._vocabulary.words[candidate] for candidate in candidates]

    def review(self, turns: Sequence[Seen]) -> list[Review]:
        """See :mod:`fedse.environments.wordle.review`."""
        return review(turns)

    def offers(self, turns: Sequence[Seen]) -> Sequence[str]:
        """See :mod:`fedse.environments.wordle.review`."""
        return offers(turns, self._vocabulary.words)

    def expert(self, seed: int) -> Expert:
        """A player that keeps the possible words and guesses the most informative of them."""
        return WordleExpert(self._vocabulary, seed)


@functools.cache
def _tasks(split: str) -> Sequence[Task]:
    return tuple(Task(Wordle.name, str(seed)) for seed in SPLITS[split])
