"""Any text is an action: at least 10,000 of them for every game, the same ones in every run."""

from __future__ import annotations

import math
import random

import pytest

from fedse.environments import environment_names, make
from fedse.environments.base import StepResult
from fedse.seeding import python_random

ACTIONS = 10_000
#: Pieces of each game's language; actions are put together from them.
PIECES = {
    "maze": ["move", "up", "down", "left", "right", " ", "\n", ".", "Move", ","],
    "wordle": ["crane", "s h i r e", "a", "z", " ", "é", "Ａ", "\n", "zzzzz", "aaaaaa"],
    "textcraft": [
        "get",
        "craft",
        "inventory",
        "using",
        " ",
        ",",
        "1",
        "0",
        "²",
        "99999999999999999999",
        "oak log",
        "planks",
        *["minecraft:stick", "None", "-3", "stick", "  "],
    ],
    "webshop": [
        "search",
        "click",
        "[",
        "]",
        "buy now",
        "back to search",
        "< prev",
        "next >",
        "description",
        "lamp",
        "<r>",
        *["<a>", " ", "\n", "b0", "features", "reviews", "\\", "(", "blue"],
    ],
}
#: Characters that trip up careless code.
STRANGE = "\x00\t\r\n \u2028\u200b\u202eßİıﬁ²٣𝟚Ωé'\"\\/[]{}()<>%$#|^*+?.~`\ud800\udfff🧭"


def texts(rng: random.Random, name: str) -> str:
    """An action: pieces of the language, strange characters, or both; sometimes long."""
    if rng.random() < 0.002:
        return rng.choice([*PIECES[name], *STRANGE]) * 20_000
    parts = [
        rng.choice(PIECES[name]) if rng.random() < 0.85 else rng.choice(STRANGE) * rng.randrange(1, 4)
        for _ in range(rng.randrange(8))
    ]
    return "".join(parts) if rng.random() < 0.5 else " ".join(parts)


@pytest.mark.parametrize("name", sorted(PIECES.keys() & set(environment_names())))
def test_any_text_is_answered_in_words(name: str) -> None:
    rng = python_random("actions", name)
    environment = make(name)
    tasks = environment.tasks("test")
    fresh = True
    for _ in range(ACTIONS):
        if fresh:
            environment.reset(rng.choice(tasks))
        action = texts(rng, name)
        result = environment.step(action)
        assert isinstance(result, StepResult)
        assert isinstance(result.observation, str)
        assert isinstance(result.reward, float)
        assert math.isfinite(result.reward)
        assert isinstance(result.done, bool)
        fresh = result.done or rng.random() < 0.05
