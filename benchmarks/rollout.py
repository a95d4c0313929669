"""Generated tokens per second: fedse's player against transformers' ``generate``, alternating in one run.

    python benchmarks/rollout.py [--environment maze] [--episodes 32] [--repeats 2]

Both play the same tasks with the same adapter, sampling at temperature 1 with the same limits, in one batch.  The naive
way is what a user would write first: all episodes in lockstep, the LoRA branches unmerged, at every turn a left-padded
batch of the whole histories given to ``generate``.  The adapter is first trained on a few demonstrations, because an
untrained model never ends its turns and every episode would be of the same length.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence

import torch
import transformers

from fedse.agent import Renderer, renderer_for, system_prompt
from fedse.config import LoraConfig, ModelConfig, RolloutConfig, TrainingConfig
from fedse.environments import EnvironmentSpec, make
from fedse.learning.examples import Example
from fedse.learning.update import local_update
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.rollout.episode import Episode, EpisodeRequest
from fedse.rollout.player import Play, Rules
from fedse.rollout.scripted import demonstrate
from fedse.rollout.torch.player import TorchPlayer


def play_naively(
    lora: LoraModel,
    renderer: Renderer,
    name: str,
    requests: Sequence[EpisodeRequest],
    spec: EnvironmentSpec,
    rules: str,
) -> tuple[int, int]:
    """Tokens generated and turns taken by lockstep ``generate`` over whole histories."""
    model, tokenizer = lora.base.model, lora.base.tokenizer
    episodes = [Episode(make(name), request, instruction=rules, turns=spec.max_turns) for request in requests]
    for episode in episodes:
        episode.start()
    histories = {id(one): renderer.opening(rules, one.observation) for one in episodes}
    tokens = turns = 0
    while running := [one for one in episodes if one.stop is None]:
        rows = [histories[id(one)] for one in running]
        width = max(len(row) for row in rows)
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in rows], device=model.device)
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
        with torch.no_grad():
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                max_new_tokens=spec.max_response_tokens,
                eos_token_id=sorted(renderer.stop_tokens),
                pad_token_id=tokenizer.pad_token_id,
            )
        for episode, row in zip(running, output[:, width:].tolist(), strict=True):
            end = next((index for index, token in enumerate(row) if token in renderer.stop_tokens), len(row) - 1)
            reply = row[: end + 1]
            tokens, turns = tokens + len(reply), turns + 1
            episode.reply(renderer.decode(reply))
            histories[id(episode)] += reply + renderer.continuation(episode.observation)
    return tokens, turns


def play_with_fedse(
    player: TorchPlayer, lora: LoraModel, name: str, requests: Sequence[EpisodeRequest], rules: str
) -> tuple[int, int]:
    """Tokens generated and turns taken by fedse's player."""
    (played,) = player.play(lora.state(), [Play(requests, Rules(lambda: make(name), rules, greedy=False))])
    records = [one.tokens for one in played if one.tokens]
    return sum(record.agent_tokens for record in records), sum(len(record.spans) for record in records)


def read_bandwidth() -> float:
    """Bytes per second that all cores read from memory together."""
    block = torch.ones(64 * 2**20)  # 256 MiB of float32, beyond any cache
    seconds = []
    for _ in range(7):
        began = time.perf_counter()
        block.sum()
        seconds.append(time.perf_counter() - began)
    return block.numel() * 4 / statistics.median(seconds)


def bandwidth_limit(lora: LoraModel, slots: int, context: int) -> float:
    """Tokens per second if a step did nothing but read all weights once and every slot's keys and values."""
    config, model = lora.base.model.config, lora.base.model
    weights = sum(one.numel() * one.element_size() for name, one in model.named_parameters() if "lora_" not in name)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head_dim
    element = torch.empty(0, dtype=lora.base.dtype).element_size()
    return slots * read_bandwidth() / (weights + slots * context * per_token * element)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--environment", default="maze")
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--slots", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--warm-up", type=int, default=16, help="optimizer steps before the measurement")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    base = load_base(ModelConfig(name=options.model))
    lora, renderer = LoraModel(base, LoraConfig()), renderer_for(base.tokenizer)
    config = RolloutConfig(slots=options.slots)
    player = TorchPlayer(lora, renderer, config)
    environment = make(options.environment)
    rules, tasks = system_prompt(environment, "concise"), environment.tasks("train")
    shown = demonstrate(environment, tasks, 4 * options.warm_up, instruction=rules, seed=0, renderer=renderer)
    local_update(
        lora, [Example.of(one) for one in shown], TrainingConfig(learning_rate=2e-3, steps=options.warm_up), seed=0
    )
    requests = [EpisodeRequest(task, seed) for seed, task in enumerate(environment.tasks("test")[: options.episodes])]
    print(
        f"{options.model}, {base.dtype}, {base.device.type}, {torch.get_num_threads()} threads; "
        f"{options.environment}: {len(requests)} episodes, {options.slots} slots"
    )
    rates: dict[str, list[float]] = {"fedse": [], "generate": []}
    for repeat in range(options.repeats):
        torch.manual_seed(repeat)  # generate draws from the global generator; fedse does not
        for name, results in rates.items():
            began = time.perf_counter()
            if name == "fedse":
                tokens, turns = play_with_fedse(player, lora, options.environment, requests, rules)
            else:
                tokens, turns = play_naively(lora, renderer, options.environment, requests, environment.spec, rules)
            seconds = time.perf_counter() - began
            results.append(tokens / seconds)
            print(
                f"run {repeat + 1}  {name:<9}{results[-1]:7.0f} tokens/s   ({tokens} tokens, {turns} turns, "
                f"{seconds:.1f} s, load {os.getloadavg()[0]:.1f})",
                flush=True,
            )
    mean = {name: statistics.mean(values) for name, values in rates.items()}
    limit = bandwidth_limit(lora, options.slots, context=512)
    print(f"fedse / generate: {mean['fedse'] / mean['generate']:.2f}×")
    print(
        f"memory bandwidth allows {limit:.0f} tokens/s at context 512; fedse reaches {mean['fedse'] / limit:.0%} of it"
    )


if __name__ == "__main__":
    main()
