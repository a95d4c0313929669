"""Pre-train the nano model from nothing, on a CPU; 42 minutes on two cores.

    PYTHONPATH=scripts python -m nano.pretrain OUT [--seed 0] [--steps 2400 400]

Writes the model in Hugging Face's layout, its tokenizer, ``training.jsonl``, and ``fedse.json`` with the settings and
the SHA-256 of the weights.  README.md beside this file tells what is in the corpus and why.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import multiprocessing
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.queues import Queue
from pathlib import Path

import torch
from rich.progress import Progress
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from nano.corpus import batches, encode, episodes, mixture, tasks
from nano.players import PLAYERS
from nano.reading import TASKS
from nano.tokenizer import train_tokenizer, with_chat_template
from nano.training import Batch, Document, Shape, Trainer, accuracy, new_model
from nano.words import Lexicon, words_of


@dataclass(frozen=True)
class Stage:
    """A part of the training: first short pages and few games, later longer pages and more games.

    Attributes:
        steps: optimizer steps.
        length: tokens in a row.
        sizes: least and most entries of a page.
        players: share of documents that are players' episodes.
    """

    steps: int
    length: int
    sizes: tuple[int, int]
    players: float


def stages(steps: Sequence[int]) -> tuple[Stage, Stage]:
    """The two stages, of so many steps each."""
    return Stage(steps[0], 512, (3, 14), 0.12), Stage(steps[1], 1024, (6, 24), 0.4)


#: Tokens in a step.
BATCH = 4096
LEARNING_RATE = 3e-3
#: Episodes of each player that the vocabulary and the words of the tasks come from.
_EPISODES = 400
_TASKS = 20_000


def produce(queue: Queue[Batch], vocabulary: str, known: Sequence[str], seed: int, plan: Sequence[Stage]) -> None:
    """Put one batch a step into the queue; runs in a process of its own."""
    tokenizer = Tokenizer.from_str(vocabulary)
    lexicon = Lexicon(known, random.Random(f"documents {seed}"))
    for stage in plan:
        documents = mixture(tokenizer, lexicon, stage.sizes, stage.players)
        for batch in itertools.islice(batches(documents, BATCH // stage.length, stage.length), stage.steps):
            queue.put(batch)


def held_out(tokenizer: Tokenizer, known: Sequence[str]) -> Mapping[str, list[Document]]:
    """Documents of every kind that are not trained on, by kind."""
    lexicon = Lexicon(known, random.Random("checks"))
    found = {
        make.__name__: encode(tokenizer, [make(lexicon, lexicon.rng.randint(3, 8)) for _ in range(12)])
        for make in dict.fromkeys(TASKS)
    }
    for name in sorted(PLAYERS):
        found[name] = encode(tokenizer, list(itertools.islice(episodes(name, lexicon.rng), 6)))
    return found


def train(
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    known: Sequence[str],
    *,
    seed: int,
    plan: Sequence[Stage],
    log: Path,
) -> None:
    """Train in place, and write a line of JSON every 25 steps."""
    total = sum(stage.steps for stage in plan)
    checks = held_out(tokenizer, known)
    context = multiprocessing.get_context("spawn")
    queue: Queue[Batch] = context.Queue(8)
    producer = context.Process(target=produce, args=(queue, tokenizer.to_str(), known, seed, plan), daemon=True)
    producer.start()
    trainer = Trainer(model, learning_rate=LEARNING_RATE, steps=total)
    began = time.monotonic()
    with log.open("w") as lines, Progress() as progress:
        bar = progress.add_task("pre-training", total=total)
        while trainer.step < total:
            loss, right = trainer.train(queue.get())
            progress.update(bar, advance=1, description=f"loss {loss:.2f}")
            if trainer.step % 25 == 0 or trainer.step == total:
                line = {"step": trainer.step, "loss": round(loss, 4), "accuracy": round(right, 4)}
                line["seconds"] = round(time.monotonic() - began, 1)
                if trainer.step % 500 == 0 or trainer.step == total:
                    line |= {kind: round(accuracy(model, found), 3) for kind, found in checks.items()}
                print(json.dumps(line), file=lines, flush=True)
    producer.join()


def main() -> None:
    """Make the tokenizer, train the model, and write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, nargs=2, default=(2400, 400))
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    rng = random.Random(f"corpus {options.seed}")
    pages = [
        text
        for name in sorted(PLAYERS)
        for conversation in itertools.islice(episodes(name, rng), _EPISODES)
        for _, text in conversation
    ]
    known = [word for word in words_of(pages) if 2 < len(word) < 12]
    drawn = itertools.islice(tasks(Lexicon(known, rng), (3, 10)), _TASKS)
    shape = Shape()
    tokenizer = train_tokenizer(pages + [text for made in drawn for _, text in made], shape.vocabulary)
    with_chat_template(tokenizer).save_pretrained(options.out)
    model = new_model(shape, options.seed)
    plan = stages(options.steps)
    train(model, tokenizer, known, seed=options.seed, plan=plan, log=options.out / "training.jsonl")
    model.config.dtype = torch.bfloat16
    model.config._attn_implementation = "sdpa"
    model.save_pretrained(options.out)
    with (options.out / "model.safetensors").open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    made = {"seed": options.seed, "shape": asdict(shape), "stages": [asdict(stage) for stage in plan], "sha256": digest}
    (options.out / "fedse.json").write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
