"""Which model families fedse trains and plays: the table of ``docs/models.md``.

    python scripts/model_families.py             # tries all and writes the table
    python scripts/model_families.py --check     # fails if it would change
    python scripts/model_families.py llama lfm2  # prints the rows of some

Of each family of transformers a small random model, set as the published ones are, goes through what a run does:
it is loaded, or refused in words.  One that is loaded is trained and plays.  The gradients of that training and the
log-probabilities of the tokens that it plays must be those of the model's own forward pass; else the script fails.
"""

from __future__ import annotations

import re
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

import fedse
from fedse.errors import FedseError
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.packing import pack
from fedse.learning.update import accumulate_gradients
from fedse.models.attention_switch import attention_implementation
from fedse.models.base import BaseModel
from fedse.models.tiny import tiny_tokenizer
from fedse.sites.shared_model import SharedModel

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
_TABLE = re.compile(r"(<!-- families -->\n).*?(<!-- end of families -->)", re.DOTALL)
_HEAD = "| model type | published as | trained and played |\n|---|---|---|\n"
_SMALL = {
    "vocab_size": 280,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {"num_key_value_heads": 2}
_HEADS = {"head_dim": 16}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
_LATENT = {
    "num_key_value_heads": 4,
    "head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "n_routed_experts": 4,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    **_EXPERTS,
}
_WINDOW = {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 0}


@dataclass(frozen=True)
class Family:
    """A model type of transformers.

    Attributes:
        kind: its ``model_type``.
        published: models of it.
        settings: what differs from the default configuration, as in the published models where it matters.
    """

    kind: str
    published: str
    settings: dict[str, Any] = field(default_factory=dict)

    def configuration(self, **more: Any) -> PreTrainedConfig:
        """A small one."""
        made: PreTrainedConfig = CONFIG_MAPPING[self.kind](**_SMALL | self.settings | more)
        return made


FAMILIES = (
    Family("llama", "Llama 2 and 3, SmolLM and SmolLM2, Vicuna", _GROUPED),
    Family("qwen2", "Qwen2, Qwen2.5", _GROUPED),
    Family("qwen2_moe", "Qwen1.5-MoE", _GROUPED | _EXPERTS | {"num_experts": 4, "shared_expert_intermediate_size": 16}),
    Family("qwen3", "Qwen3", _GROUPED | _HEADS),
    Family("qwen3_moe", "Qwen3-MoE", _GROUPED | _HEADS | _EXPERTS | {"num_experts": 4}),
    Family("qwen3_next", "Qwen3-Next", _GROUPED | _HEADS | _EXPERTS | {"num_experts": 4}),
    Family("mistral", "Mistral 7B, Mistral Nemo", _GROUPED),
    Family("ministral", "Ministral", _GROUPED | _HEADS),
    Family("mixtral", "Mixtral", _GROUPED | {"num_local_experts": 4}),
    Family("gemma", "Gemma", _GROUPED | _HEADS),
    Family("gemma2", "Gemma 2", _GROUPED | _HEADS),
    Family("gemma3_text", "Gemma 3 (text)", _GROUPED | _HEADS),
    Family("gemma4_text", "Gemma 4 (text)", _GROUPED | _HEADS | {"vocab_size_per_layer_input": 280}),
    Family("phi", "Phi-1.5, Phi-2"),
    Family("phi3", "Phi-3, Phi-4, Phi-4-mini", _GROUPED),
    Family("phimoe", "Phi-3.5-MoE", _GROUPED | {"num_local_experts": 4}),
    Family("smollm3", "SmolLM3", _GROUPED),
    Family(
        "granite",
        "Granite 3",
        _GROUPED
        | {
            "logits_scaling": 8.0,
            "attention_multiplier": 0.02,
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.2,
        },
    ),
    Family("granitemoe", "Granite 3 MoE", _GROUPED | {"logits_scaling": 8.0, "num_local_experts": 4}),
    Family("olmo", "OLMo"),
    Family("olmo2", "OLMo 2", _GROUPED),
    Family("olmo3", "OLMo 3", _GROUPED),
    Family("olmoe", "OLMoE", {"num_experts": 4, "num_experts_per_tok": 2}),
    Family("deepseek_v2", "DeepSeek-V2", _LATENT),
    Family("deepseek_v3", "DeepSeek-V3, DeepSeek-R1", _LATENT),
    Family("stablelm", "StableLM 2", _GROUPED),
    Family("nemotron", "Nemotron 3 and 4, Minitron", _GROUPED),
    Family("nemotron_h", "Nemotron-H", _GROUPED),
    Family("cohere", "Command R", _GROUPED | {"logit_scale": 0.0625}),
    Family("cohere2", "Command R7B", _GROUPED | _HEADS | {"logit_scale": 0.25}),
    Family("glm", "GLM-4-9B", _GROUPED | _HEADS),
    Family("glm4", "GLM-4-0414", _GROUPED | _HEADS),
    Family("starcoder2", "StarCoder2", _GROUPED),
    Family("helium", "Helium", _GROUPED | _HEADS),
    Family("exaone4", "EXAONE 4", _GROUPED),
    Family("ernie4_5", "ERNIE 4.5", _GROUPED | _HEADS),
    Family("hunyuan_v1_dense", "Hunyuan", _GROUPED | _HEADS),
    Family("seed_oss", "Seed-OSS", _GROUPED | _HEADS),
    Family("apertus", "Apertus", _GROUPED),
    Family("gpt_neox", "GPT-NeoX, Pythia"),
    Family("gpt2", "GPT-2"),
    Family("opt", "OPT", {"ffn_dim": 96, "word_embed_proj_dim": 64}),
    Family("bloom", "BLOOM"),
    Family("gpt_oss", "gpt-oss", _GROUPED | _HEADS | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    Family("llama4_text", "Llama 4 (text)", _GROUPED | _HEADS | {"num_local_experts": 2}),
    Family("lfm2", "LFM2", _GROUPED | {"layer_types": ["conv", "conv", "full_attention", "conv"]}),
    Family("jamba", "Jamba", _GROUPED | {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}),
    Family("falcon_h1", "Falcon-H1", _GROUPED | _HEADS),
    Family("mamba", "Mamba"),
    Family("minimax", "MiniMax-Text-01", _GROUPED | _HEADS | {"num_local_experts": 2}),
    Family("recurrent_gemma", "RecurrentGemma", _GROUPED | _HEADS),
    Family("diffllama", "DiffLlama", _GROUPED),
)


def row(family: Family) -> str:
    """A family's line of the table."""
    try:
        shared = _taken(family.configuration())
    except FedseError as refused:
        words = f"no: {_reason(refused.what)}"
    else:
        _train(shared)
        _play(shared)
        words = f"yes{_window(family)}"
    return f"| `{family.kind}` | {family.published} | {words} |\n"


def table(families: tuple[Family, ...] = FAMILIES) -> str:
    """The table of some families."""
    return _HEAD + "".join(row(family) for family in families)


def _taken(configuration: PreTrainedConfig) -> SharedModel:
    """A random model, taken as a run takes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(configuration).eval().requires_grad_(False)
    base = BaseModel(model=model, tokenizer=tiny_tokenizer(), fingerprint="random", name=configuration.model_type)
    rollout = ("rollout.max_context=2048", "rollout.max_turns=2", "rollout.max_response_tokens=24")
    return SharedModel.on(base, fedse.load_config("tiny", overrides=rollout))


def _reason(what: str) -> str:
    """An error without numbers, which differ from machine to machine, and without foreign exceptions."""
    return re.sub(
        r"^\w+ cannot be used: |, by \S+ of their spread| \(\w+(Error|Exception)?: .*\)$", "", what, flags=re.DOTALL
    )


def _window(family: Family) -> str:
    """What is said of a family that can have a sliding window."""
    try:
        _taken(family.configuration(**_WINDOW))
    except FedseError as refused:
        if "a sliding window of 64 tokens" not in refused.what:
            raise
        return ", within its sliding window"
    return ""


def _train(shared: SharedModel) -> None:
    """Learn from demonstrations, with the gradients of the model's own forward pass."""
    environment = fedse.make("wordle")
    tasks, instruction = environment.tasks("train")[:2], fedse.system_prompt(environment, "concise")
    shown = fedse.demonstrate(environment, tasks, 2, instruction=instruction, seed=0, renderer=shared.renderer)
    examples = [fedse.Example.of(episode) for episode in shown]
    lora, generator = shared.lora, np.random.default_rng(0)
    fresh = lora.initial_state(0)
    drawn = {name: generator.normal(0, 0.05, one.shape).astype(np.float32) for name, one in fresh.tensors.items()}
    lora.load(fedse.AdapterState(drawn, fresh.meta))
    with attention_implementation(lora.base.model, PACKED_ATTENTION):
        accumulate_gradients(lora, pack(examples, 4096))
    ours = _gradients(lora)
    losses = []
    for episode in shown:
        assert episode.tokens is not None
        ids, mask = torch.tensor([episode.tokens.ids]), torch.from_numpy(episode.tokens.mask())
        logits = lora.base.model(input_ids=ids).logits[0, :-1]
        losses.append(functional.cross_entropy(logits.float(), ids[0, 1:], reduction="none")[mask[1:]])
    torch.cat(losses).mean().backward()
    _compare("gradients", ours, _gradients(lora))
    stats = fedse.local_update(lora, examples, fedse.TrainingConfig(steps=12, batch_size=2, learning_rate=5e-3), seed=0)
    assert stats.last_loss < stats.first_loss, f"{lora.base.name}: the loss does not fall: {stats}"


def _gradients(lora: fedse.LoraModel) -> torch.Tensor:
    """Of all factors of the adapter, taken away from it."""
    found = []
    for parameter in lora.trainable():
        assert parameter.grad is not None, f"{lora.base.name}: a factor takes no part"
        found.append(parameter.grad.flatten())
        parameter.grad = None
    return torch.cat(found)


def _play(shared: SharedModel) -> None:
    """Play with the trained adapter; the tokens' log-probabilities are those of the model's own forward pass."""
    environment = fedse.make("wordle")
    rules = fedse.Rules(lambda: fedse.make("wordle"), fedse.system_prompt(environment, "concise"), greedy=False)
    requests = [fedse.EpisodeRequest(task, number) for number, task in enumerate(environment.tasks("test")[:3])]
    [episodes] = shared.player.play(shared.lora.state(), [fedse.Play(requests, rules)])
    for episode in episodes:
        tokens = episode.tokens
        assert tokens is not None
        assert tokens.logprobs is not None
        ids = torch.tensor([tokens.ids])
        with torch.no_grad():
            logits = shared.lora.base.model(input_ids=ids).logits[0, :-1].float() / tokens.temperature
        expected = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0][
            torch.from_numpy(tokens.mask())[1:]
        ]
        _compare(f"{shared.lora.base.name}: log-probabilities", torch.tensor(tokens.logprobs), expected)


def _compare(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    off = float((found - expected).abs().max() / expected.abs().max())
    assert off < 1e-3, f"{what} are off by {off:.1e} of the largest"


def main() -> int:
    """Write the table, or with ``--check`` tell whether it would change, or print some rows."""
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    names = [word for word in sys.argv[1:] if not word.startswith("-")]
    if names:
        print(table(tuple(family for family in FAMILIES if family.kind in names)), end="")
        return 0
    page = PAGE.read_text()
    fresh = _TABLE.sub(lambda match: match[1] + table() + match[2], page)
    if "--check" in sys.argv:
        return int(page != fresh)
    PAGE.write_text(fresh)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
