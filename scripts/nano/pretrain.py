"""Pre-train the nano model from nothing, on a CPU; two hours on two cores.

    PYTHONPATH=scripts python -m nano.pretrain OUT [--seed 0] [--shorten 1]

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
from dataclasses import asdict, dataclass, replace
from multiprocessing.queues import Queue
from pathlib import Path

import torch
from rich.progress import Progress
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from nano.corpus import Cast, batches, encode, episodes, mixture, tasks
from nano.narrators import NARRATORS
from nano.players import PLAYERS
from nano.reading import TASKS
from nano.tokenizer import train_tokenizer, with_chat_template
from nano.training import Batch, Document, Shape, Trainer, accuracy, new_model
from nano.words import Lexicon, words_of

#: Who plays: those who say nothing, or those who tell what they see.
CASTS: Mapping[str, Cast] = {"players": PLAYERS, "narrators": NARRATORS}


@dataclass(frozen=True)
class Stage:
    """A stretch of steps with one kind of documents.

    Attributes:
        steps: optimizer steps.
        length: tokens in a row.
        sizes: least and most entries of a page of a reading task.
        cast: who plays the episodes.
        share: of the documents that are episodes.
    """

    steps: int
    length: int
    sizes: tuple[int, int]
    cast: str
    share: float


@dataclass(frozen=True)
class Part:
    """Stages under one rise and fall of the learning rate."""

    learning_rate: float
    stages: tuple[Stage, ...]

    @property
    def steps(self) -> int:
        """Optimizer steps of all its stages."""
        return sum(stage.steps for stage in self.stages)


#: First short pages and few games, then longer ones and more; then, three times over, games told by narrators.
PARTS = (
    Part(3e-3, (Stage(2400, 512, (3, 14), "players", 0.12), Stage(400, 1024, (6, 24), "players", 0.4))),
    *(Part(1.5e-3, (Stage(steps, 2048, (4, 24), "narrators", 0.7),)) for steps in (900, 900, 800)),
)
#: Tokens in a step.
BATCH = 4096
#: Episodes of each player that the vocabulary and the words of the tasks come from.
_EPISODES = 400
_TASKS = 20_000


def produce(queue: Queue[Batch], vocabulary: str, known: Sequence[str], seed: int, parts: Sequence[Part]) -> None:
    """Put one batch a step into the queue; runs in a process of its own."""
    tokenizer = Tokenizer.from_str(vocabulary)
    lexicon = Lexicon(known, random.Random(f"documents {seed}"))
    for stage in (stage for part in parts for stage in part.stages):
        documents = mixture(tokenizer, lexicon, stage.sizes, CASTS[stage.cast], stage.share)
        for batch in itertools.islice(batches(documents, BATCH // stage.length, stage.length), stage.steps):
            queue.put(batch)


def held_out(tokenizer: Tokenizer, known: Sequence[str]) -> Mapping[str, list[Document]]:
    """Documents of every kind that are not trained on, by kind."""
    lexicon = Lexicon(known, random.Random("checks"))
    found = {
        make.__name__: encode(tokenizer, [make(lexicon, lexicon.rng.randint(3, 8)) for _ in range(12)])
        for make in dict.fromkeys(TASKS)
    }
    for who, cast in CASTS.items():
        for name in sorted(cast):
            told = itertools.islice(episodes(name, lexicon.rng, cast), 6)
            found[f"{name} {who}"] = encode(tokenizer, list(told))
    return found


def train(
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    known: Sequence[str],
    *,
    seed: int,
    parts: Sequence[Part],
    log: Path,
) -> None:
    """Train in place, and write a line of JSON every 25 steps."""
    total = sum(part.steps for part in parts)
    checks = held_out(tokenizer, known)
    context = multiprocessing.get_context("spawn")
    queue: Queue[Batch] = context.Queue(8)
    producer = context.Process(target=produce, args=(queue, tokenizer.to_str(), known, seed, parts), daemon=True)
    producer.start()
    began = time.monotonic()
    step = 0
    with log.open("w") as lines, Progress() as progress:
        bar = progress.add_task("pre-training", total=total)
        for part in parts:
            trainer = Trainer(
                model,
                learning_rate=part.learning_rate,
                steps=part.steps,
                # Compiled, the plain kernels are faster on a CPU for short rows, the fused ones for long ones.
                attention="sdpa" if max(stage.length for stage in part.stages) > 1024 else "eager",
            )
            for _ in range(part.steps):
                loss, right = trainer.train(queue.get())
                step += 1
                progress.update(bar, advance=1, description=f"loss {loss:.2f}")
                if step % 25 and step != total:
                    continue
                line = {"step": step, "loss": round(loss, 4), "accuracy": round(right, 4)}
                line["seconds"] = round(time.monotonic() - began, 1)
                if step % 500 == 0 or step == total:
                    line |= {kind: round(accuracy(model, found), 3) for kind, found in checks.items()}
                print(json.dumps(line), file=lines, flush=True)
    producer.join()


def main() -> None:
    """Make the tokenizer, train the model, and write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shorten", type=int, default=1, help="take so many times fewer steps, to try it out")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    rng = random.Random(f"corpus {options.seed}")
    pages = [
        text
        for name in sorted(PLAYERS)
        for conversation in itertools.islice(episodes(name, rng, PLAYERS), _EPISODES)
        for _, text in conversation
    ]
    known = [word for word in words_of(pages) if 2 < len(word) < 12]
    drawn = itertools.islice(tasks(Lexicon(known, rng), (3, 10)), _TASKS)
    shape = Shape()
    tokenizer = train_tokenizer(pages + [text for made in drawn for _, text in made], shape.vocabulary)
    with_chat_template(tokenizer).save_pretrained(options.out)
    model = new_model(shape, options.seed)
    parts = [
        replace(part, stages=tuple(replace(each, steps=each.steps // options.shorten) for each in part.stages))
        for part in PARTS
    ]
    train(model, tokenizer, known, seed=options.seed, parts=parts, log=options.out / "training.jsonl")
    model.config.dtype = torch.bfloat16
    model.config._attn_implementation = "sdpa"
    model.save_pretrained(options.out)
    with (options.out / "model.safetensors").open("rb") as weights:
        digest = hashlib.file_digest(weights, "sha256").hexdigest()
    made = {"seed": options.seed, "shape": asdict(shape), "parts": [asdict(part) for part in parts], "sha256": digest}
    (options.out / "fedse.json").write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
