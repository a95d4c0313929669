"""The corpus of the nano model: reading tasks, and episodes of players and narrators, as rows of tokens.

A document is a conversation in the chat template of the model; its loss is on what the assistant says.  Documents are
packed whole into rows of one length.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from fedse.agent import system_prompt
from fedse.environments import registry
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.scripted import Policy, play
from fedse.types import Source
from nano.reading import TASKS, Conversation
from nano.training import Batch, Document
from nano.words import Lexicon

#: Environment → who plays there: made from the instruction and a random generator.
Cast = Mapping[str, Callable[[str, random.Random], Policy]]

#: Environment → variants that are played, on training tasks.
VARIANTS: Mapping[str, Sequence[Mapping[str, Any]]] = {
    "babyai": ({},),
    "maze": ({}, {"max_path": 5}),
    "textcraft": ({}, {"max_depth": 2}, {"max_depth": 1}),
    "webshop": ({},),
    "wordle": ({"size": 20}, {"size": 40}),
}
#: Environment → its share of the episodes.  WebShop's are the longest, and those of TextCraft teach most.
SHARES: Mapping[str, float] = {"babyai": 0.19, "maze": 0.21, "textcraft": 0.4, "webshop": 0.12, "wordle": 0.08}
#: Players stop here, so that most episodes fit into a row.
_TURNS = 12
_CHUNK = 256
_POOL = 64


def episodes(environment: str, rng: random.Random, cast: Cast) -> Iterator[Conversation]:
    """Episodes of an environment's player or narrator, without end."""
    variants = []
    for options in VARIANTS[environment]:
        opened = registry.make(environment, **options)
        variants.append((opened, list(opened.tasks("train")), system_prompt(opened, "concise")))
    while True:
        opened, choice, instruction = rng.choice(variants)
        trajectory = play(
            opened,
            EpisodeRequest(rng.choice(choice), rng.getrandbits(32)),
            lambda _, instruction=instruction: cast[environment](instruction, rng),  # type: ignore[misc]
            instruction=instruction,
            source=Source.POLICY,
            turns=rng.randint(2, _TURNS),
        )
        found: Conversation = [("system", instruction)]
        for turn in trajectory.turns:
            found += [("user", turn.observation), ("assistant", turn.response)]
        yield found


def tasks(lexicon: Lexicon, sizes: tuple[int, int]) -> Iterator[Conversation]:
    """Reading tasks with pages of so many entries, without end."""
    while True:
        yield lexicon.rng.choice(TASKS)(lexicon, lexicon.rng.randint(*sizes))


def pieces(conversation: Conversation) -> list[tuple[str, bool]]:
    """A conversation as text pieces, split where the agent's renderer splits, and whether the agent says them."""
    found: list[tuple[str, bool]] = []
    before = ""
    for role, text in conversation:
        if role == "assistant":
            found += [(f"{before}<|im_start|>assistant\n", False), (f"{text}<|im_end|>", True)]
            before = "\n"
        else:
            before += f"<|im_start|>{role}\n{text}<|im_end|>\n"
    return found


def encode(tokenizer: Tokenizer, conversations: Sequence[Conversation]) -> list[Document]:
    """Token ids and loss mask of conversations."""
    split = [pieces(conversation) for conversation in conversations]
    flat = iter(tokenizer.encode_batch([text for parts in split for text, _ in parts], add_special_tokens=False))
    documents: list[Document] = []
    for parts in split:
        ids: list[int] = []
        said: list[bool] = []
        for _, spoken in parts:
            found = next(flat).ids
            ids += found
            said += [spoken] * len(found)
        documents.append((ids, said))
    return documents


def mixture(
    tokenizer: Tokenizer, lexicon: Lexicon, sizes: tuple[int, int], cast: Cast, share: float
) -> Iterator[Document]:
    """Documents without end; a share of them are episodes of the cast, the others reading tasks."""
    rng = lexicon.rng
    reading = tasks(lexicon, sizes)
    names = sorted(cast)
    playing = {name: episodes(name, rng, cast) for name in names}
    weights = [SHARES[name] for name in names]
    while True:
        drawn = [
            next(playing[rng.choices(names, weights)[0]]) if rng.random() < share else next(reading)
            for _ in range(_CHUNK)
        ]
        yield from encode(tokenizer, drawn)


def batches(documents: Iterator[Document], rows: int, length: int) -> Iterator[Batch]:
    """Fill rows with whole documents, the longest at hand that still fits each time; the rest of a row is padding.

    Documents longer than a row are left out.
    """
    waiting: list[Document] = []
    while True:
        ids = np.zeros((rows, length), np.uint16)
        said = np.zeros((rows, length), np.bool_)
        for row in range(rows):
            used = 0
            while document := _fitting(waiting, documents, length, length - used):
                end = used + len(document[0])
                ids[row, used:end], said[row, used:end] = document
                used = end
        yield ids, said


def _fitting(waiting: list[Document], documents: Iterator[Document], length: int, room: int) -> Document | None:
    """Take a document that fits; for a whole row the one that waits longest, so that none waits for ever."""
    while len(waiting) < _POOL:
        document = next(documents)
        if len(document[0]) <= length:
            waiting.append(document)
    fitting = [index for index, document in enumerate(waiting) if len(document[0]) <= room]
    if not fitting:
        return None
    return waiting.pop(fitting[0] if room == length else max(fitting, key=lambda each: len(waiting[each][0])))
