"""Tokens per second of fedse's decoder against llama.cpp's, with the same weights and the same number of sequences.

    python benchmarks/llama_cpp.py --bench build/bin/llama-batched-bench --gguf model-bf16.gguf [--threads 1]

Both read a prompt of their own into each sequence, and then decode all sequences side by side, in turns in one run.
llama.cpp is no Python package, so its program is named; without it there is nothing to compare with.  Take a GGUF file
in bfloat16 or float32: fedse plays with what the file's numbers stand for, in bfloat16 or float32, and llama.cpp with
the file's own kind.  `llama-quantize --allow-requantize FILE.gguf model-bf16.gguf BF16` makes one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time

import torch

from fedse.config import ModelConfig
from fedse.models.attention_switch import attention_implementation
from fedse.models.base import load_base
from fedse.rollout.schedule import PASS_TOKENS, Draw
from fedse.rollout.torch.cache import ATTENTION_NAME
from fedse.rollout.torch.decoder import SlotDecoder
from fedse.rollout.torch.prepack import prepacked

Rates = tuple[float, float]


def fedse_rates(model: torch.nn.Module, options: argparse.Namespace) -> Rates:
    """Prompt tokens and decoded tokens per second."""
    slots, prompt, reply = options.sequences, options.prompt, options.reply
    decoder = SlotDecoder(model, slots, prompt + reply)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    prompts = torch.randint(0, 1000, (slots, prompt), generator=generator).tolist()
    at_once = max(1, PASS_TOKENS // prompt)
    began = time.perf_counter()
    tokens: dict[int, int] = {}
    for first in range(0, slots, at_once):
        group = list(range(first, min(first + at_once, slots)))
        drawn = decoder.decode(
            [(slot, prompts[slot]) for slot in group], [Draw(i, None, 1.0) for i in range(len(group))]
        )
        tokens |= {slot: token for slot, (token, _) in zip(group, drawn, strict=True)}
    read = time.perf_counter()
    for _ in range(reply):
        drawn = decoder.decode([(slot, [tokens[slot]]) for slot in tokens], [Draw(i, None, 1.0) for i in range(slots)])
        tokens = dict(zip(tokens, (token for token, _ in drawn), strict=True))
    return slots * prompt / (read - began), slots * reply / (time.perf_counter() - read)


def llama_rates(options: argparse.Namespace) -> Rates:
    """The same of llama.cpp, as its own program tells them."""
    slots, prompt, reply = options.sequences, options.prompt, options.reply
    command = [options.bench, "-m", options.gguf, "-c", str(slots * (prompt + reply)), "-b", "2048", "-ub", "512"]
    command += ["-npp", str(prompt), "-ntg", str(reply), "-npl", str(slots)]
    command += ["-t", str(options.threads), "-tb", str(options.threads), "--output-format", "jsonl"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    [line] = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return float(line["speed_pp"]), float(line["speed_tg"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", help="llama.cpp's llama-batched-bench")
    parser.add_argument("--gguf", help="the model")
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--prompt", type=int, default=256, help="tokens of each prompt")
    parser.add_argument("--reply", type=int, default=32, help="tokens decoded of each sequence")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    if options.bench is None or options.gguf is None:
        print("llama.cpp is not compared with: name its llama-batched-bench with --bench, and a model with --gguf")
        return
    torch.set_num_threads(options.threads)
    base = load_base(ModelConfig(name=options.gguf, dtype=options.dtype))
    print(
        f"{options.gguf}, fedse in {base.dtype}, {options.threads} threads, {options.sequences} sequences, prompts of "
        f"{options.prompt} tokens, replies of {options.reply}"
    )
    rates: dict[str, list[Rates]] = {"fedse": [], "llama.cpp": []}
    with prepacked(base.model, options.sequences), attention_implementation(base.model, ATTENTION_NAME):
        fedse_rates(base.model, argparse.Namespace(sequences=2, prompt=32, reply=2))  # compiles the kernel
        for repeat in range(options.repeats):
            for name in rates:
                rates[name].append(fedse_rates(base.model, options) if name == "fedse" else llama_rates(options))
                read, decoded = rates[name][-1]
                print(
                    f"run {repeat + 1}  {name:<10}{read:8.0f} prompt tokens/s{decoded:8.0f} decoded tokens/s   "
                    f"(load {os.getloadavg()[0]:.1f})",
                    flush=True,
                )
    ours, theirs = ([statistics.mean(each) for each in zip(*rates[name], strict=True)] for name in rates)
    print(f"fedse / llama.cpp: {ours[0] / theirs[0]:.2f}× in reading, {ours[1] / theirs[1]:.2f}× in decoding")


if __name__ == "__main__":
    main()
