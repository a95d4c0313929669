"""The nano model that is part of the package."""

from __future__ import annotations

import hashlib
import random
import re

import pytest
import torch
from nano.reading import TASKS
from nano.words import Lexicon

from fedse.agent import renderer_for
from fedse.config import ModelConfig
from fedse.models import catalogue
from fedse.models.base import load_base
from fedse.storage import read_json

#: Words of the environments' pages; as names of lists that do not exist.
WORDS = ("oak", "iron", "glass", "blue", "curtains", "torch", "sand", "cotton", "box", "golden", "bottle", "travel")


@pytest.fixture(scope="module")
def base():
    return load_base(ModelConfig(name="nano", device="cpu", dtype="float32"))


def test_the_weights_are_those_that_the_record_of_their_making_names():
    weights = catalogue.NANO_FOLDER / "model.safetensors"
    made = read_json(catalogue.NANO_FOLDER / "fedse.json")
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == made["sha256"]
    assert weights.stat().st_size <= 16 * 2**20


def test_it_is_listed_and_needs_no_pulling():
    [info] = [info for info in catalogue.installed() if info.name == "nano"]
    assert info.installed
    assert catalogue.pull("nano") == catalogue.NANO_FOLDER


def test_it_reads_pages_that_it_has_never_seen(base):
    """Asked for a name of a list, it says what stands behind that name, word for word, more often than not."""
    renderer = renderer_for(base.tokenizer)
    lookup = next(make for make in TASKS if make.__name__ == "lookup")
    right = asked = 0
    for seed in range(2):
        (_, system), *turns = lookup(Lexicon(WORDS, random.Random(f"test {seed}")), 4)
        ids: list[int] = []
        for (_, page), (_, answer) in zip(turns[::2], turns[1::2], strict=True):
            ids += renderer.continuation(page) if ids else renderer.opening(system, page)
            with torch.no_grad():
                made = base.model.generate(torch.tensor([ids]), max_new_tokens=60, do_sample=False)
            content = re.search(r"\d+ [a-z]+(?: [a-z]+)*(?:, \d+ [a-z]+(?: [a-z]+)*)*", answer)
            asked += 1
            right += content is not None and content[0] in renderer.decode(made[0, len(ids) :].tolist())
            ids += renderer.reply(answer)
    assert asked > 10
    assert right / asked > 0.5, f"{right} of {asked}"
