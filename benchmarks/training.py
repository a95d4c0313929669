"""Training tokens per second: fedse's local update against TRL's SFTTrainer, alternating in one run.

    python benchmarks/training.py [--environment wordle] [--against packed] [--threads 1 --clock cpu]

Both train the same LoRA (rank 8, all linear layers) on the same base, the same expert trajectories, the same loss mask
and about the same tokens per optimizer step, once over the data.  TRL runs both of its ways, packed rows and padded
batches, without the activation checkpointing that it switches on by default; the better one counts.  A token is a token
of a trajectory: padding and whatever a path may skip do not change the count.  ``--against`` with nothing after it
measures fedse alone.

The limit is the measured rate of a large matrix product: what fedse computes, counted, would take so long at least.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import transformers

from fedse.agent import renderer_for, system_prompt
from fedse.config import LoraConfig, ModelConfig, TrainingConfig
from fedse.environments import make
from fedse.learning.examples import Example
from fedse.learning.packing import MicroBatch, pack
from fedse.learning.update import TrainingStats, local_update
from fedse.models.base import BaseModel, load_base
from fedse.models.lora import LoraModel
from fedse.processes import keep_freed_memory
from fedse.rollout.scripted import demonstrate
from fedse.rollout.torch.cache import attention_shape
from fedse.types import Trajectory

LORA = LoraConfig(rank=8, alpha=16.0)
RATE = 1e-3
ROW_TOKENS = 2048

Clock = Callable[[], float]


def trajectories(base: BaseModel, environment_name: str, prompt: str, count: int) -> list[Trajectory]:
    environment = make(environment_name)
    return demonstrate(
        environment,
        environment.tasks("train"),
        count,
        instruction=system_prompt(environment, prompt),
        seed=0,
        renderer=renderer_for(base.tokenizer),
    )


def seconds_of(work: Callable[[], object], clock: Clock) -> float:
    started = clock()
    work()
    return clock() - started


def train_fedse(
    model: ModelConfig, data: list[Trajectory], batch_size: int, clock: Clock
) -> tuple[float, TrainingStats]:
    """Seconds of the local update, and what it did; loading the base is not counted."""
    config = TrainingConfig(learning_rate=RATE, epochs=1, batch_size=batch_size, max_tokens=ROW_TOKENS)
    lora = LoraModel(load_base(model), LORA)
    examples = [Example.of(one) for one in data]
    stats: list[TrainingStats] = []
    seconds = seconds_of(lambda: stats.append(local_update(lora, examples, config, seed=0)), clock)
    return seconds, stats[0]


def train_trl(model: ModelConfig, data: list[Trajectory], batch_size: int, clock: Clock, *, packing: bool) -> float:
    """Seconds of ``trainer.train()``; loading the base and preparing the data set are not counted."""
    import datasets
    import peft
    import trl

    datasets.disable_progress_bars()
    base = load_base(model)
    # Packed rows hold as many trajectories as a batch does; the longest must fit into a row.
    records = [trajectory.tokens for trajectory in data if trajectory.tokens]
    mean = sum(len(record.ids) for record in records) / len(records)
    row = max(int(mean * batch_size), *(len(record.ids) for record in records))
    columns = {
        "input_ids": [list(record.ids) for record in records],
        "assistant_masks": [record.mask().astype(int).tolist() for record in records],
    }
    lora = peft.LoraConfig(r=LORA.rank, lora_alpha=int(LORA.alpha), target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.SFTConfig(
            output_dir=folder,
            per_device_train_batch_size=1 if packing else batch_size,
            num_train_epochs=1,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            max_length=row,
            packing=packing,
            gradient_checkpointing=False,
            bf16=base.dtype is torch.bfloat16,
            use_cpu=base.device.type == "cpu",
            save_strategy="no",
            report_to="none",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trainer = trl.SFTTrainer(
            base.model,
            arguments,
            train_dataset=datasets.Dataset.from_dict(columns),
            processing_class=base.tokenizer,
            peft_config=lora,
        )
        trainer.remove_callback(transformers.PrinterCallback)
        return seconds_of(trainer.train, clock)


def matmul_rate(base: BaseModel, clock: Clock) -> float:
    """Floating-point operations per second of a large matrix product in the base's dtype."""
    left, right = (torch.randn(2048, 2048, device=base.device).to(base.dtype) for _ in range(2))

    def product() -> float:
        return seconds_of(lambda: (left @ right).sum().item(), clock)

    product()
    return 2 * 2048**3 / statistics.median(product() for _ in range(7))


class Watched:
    """Notes the rows that local updates compute."""

    def __init__(self) -> None:
        self.rows: list[MicroBatch] = []

    def __enter__(self) -> Watched:
        def noted(*arguments: Any) -> list[MicroBatch]:
            rows = pack(*arguments)
            self.rows += rows
            return rows

        self._patch = patch("fedse.learning.update.pack", noted)
        self._patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.stop()

    def operations(self, base: BaseModel) -> float:
        """Floating-point operations that the rows need: the forward pass, and the gradients of inputs and of LoRA.

        Attention counts what each token may see, once forward and twice backward.
        """
        shape, head = attention_shape(base.model.config), base.model.get_output_embeddings()
        layers = [one for one in base.model.modules() if isinstance(one, torch.nn.Linear) and one is not head]
        frozen = sum(layer.weight.numel() for layer in layers)
        factors = LORA.rank * sum(sum(layer.weight.shape) for layer in layers)
        total = 0.0
        for row in self.rows:
            own = [end - start for start, end in row.layout.segments]
            prefix = row.layout.prefix
            looks = prefix * (prefix + 1) / 2 + sum(count * prefix + count * (count + 1) / 2 for count in own)
            total += (4 * frozen + 6 * factors) * row.ids.shape[1]
            total += 4 * head.weight.numel() * row.targets.shape[0]
            total += 12 * shape.layers * shape.heads * shape.dim * looks
        return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--environment", default="wordle")
    parser.add_argument("--prompt", default="concise", choices=("concise", "full"))
    parser.add_argument("--trajectories", type=int, default=24)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--against", nargs="*", default=["packed", "padded"], choices=("packed", "padded"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", default="wall", choices=("wall", "cpu"), help="cpu: on a busy machine, together with --threads 1"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as runs do
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    model = ModelConfig(name=options.model)
    base = load_base(model)
    data = trajectories(base, options.environment, options.prompt, options.trajectories)
    lengths = [len(one.tokens.ids) for one in data if one.tokens]
    tokens, size = sum(lengths), options.batch_size
    print(
        f"{options.model}, {base.dtype}, {base.device.type}, {options.threads} threads, {options.clock} clock\n"
        f"{options.environment}, {options.prompt} prompt: {len(data)} trajectories of {min(lengths)}–{max(lengths)} "
        f"tokens, {tokens} in all"
    )
    skipped: list[float] = []
    rates_of_work: list[float] = []

    def fedse() -> float:
        with Watched() as watched:
            seconds, stats = train_fedse(model, data, size, clock)
        skipped.append(1 - stats.computed_tokens / stats.tokens)
        rates_of_work.append(watched.operations(base) / seconds)
        return seconds

    paths: dict[str, Callable[[], float]] = {"fedse": fedse}
    for way in options.against:
        paths[f"trl {way}"] = partial(train_trl, model, data, size, clock, packing=way == "packed")
    rates: dict[str, list[float]] = {name: [] for name in paths}
    matmul: list[float] = []
    for repeat in range(options.repeats):
        matmul.append(matmul_rate(base, clock))
        for name, run in paths.items():
            rates[name].append(tokens / run())
            load = os.getloadavg()[0]
            print(f"run {repeat + 1}  {name:<11}{rates[name][-1]:8.0f} tokens/s   (load {load:.1f})", flush=True)
    means = {name: statistics.mean(values) for name, values in rates.items()}
    print(f"{skipped[0]:.0%} of the trajectories' tokens are common beginnings, which fedse computes once")
    if best := max((name for name in means if name != "fedse"), key=lambda name: means[name], default=None):
        ratio = means["fedse"] / means[best]
        print(f"fedse / {best}: {ratio:.2f}× in trajectory tokens, {ratio * (1 - skipped[0]):.2f}× in computed tokens")
    rate, limit = statistics.mean(rates_of_work), statistics.mean(matmul)
    print(
        f"fedse: {rate / 1e9:.1f} GFLOP/s; a large matrix product {limit / 1e9:.1f}; {rate / limit:.0%} of that limit"
    )


if __name__ == "__main__":
    main()
