"""Tiny GGUF files, as llama.cpp's converter would write them, and the model and tokenizer that they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from fedse.models import gguf_tokenizer

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_ARCHITECTURES: Mapping[str, tuple[Any, type, type]] = {
    "llama": (gguf.MODEL_ARCH.LLAMA, LlamaConfig, LlamaForCausalLM),
    "qwen2": (gguf.MODEL_ARCH.QWEN2, Qwen2Config, Qwen2ForCausalLM),
}
#: How Qwen2 splits text, said in another way than in the code under test.
_LETTERS, _DIGIT = r"[^\r\n\p{L}\p{N}]?\p{L}+", r"\p{N}"
_CONTRACTION, _SIGNS = r"'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])", r" ?[^\s\p{L}\p{N}]+[\r\n]*"
QWEN2_SPLIT = "|".join([_CONTRACTION, _LETTERS, _DIGIT, _SIGNS, r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


@dataclass(frozen=True)
class Made:
    """A file, and what a right conversion gives."""

    path: Path
    model: PreTrainedModel
    tokenizer: Tokenizer


def byte_level() -> Tokenizer:
    """A byte-level tokenizer with merges, which splits as Qwen2 does."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(_SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(gguf_tokenizer.PROBES * 3, trainer)
    return tokenizer


def write_gguf(
    path: Path,
    *,
    architecture: str = "qwen2",
    pre: str | None = "qwen2",
    template: str | None = TEMPLATE,
    declared: str | None = None,
    more: Callable[[gguf.GGUFWriter], None] = lambda _: None,
    seed: int = 0,
) -> Made:
    """Write a model of two layers with random weights.

    Args:
        path: of the file.
        architecture: that it has.
        pre: how its text is split, as the file says.
        template: of its chats; the file has none if it is ``None``.
        declared: the architecture that the file says it has, if another.
        more: writes what else is to be in the file.
        seed: of the weights.
    """
    tokenizer = byte_level()
    tokens = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    kind, config_class, model_class = _ARCHITECTURES[architecture]
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
    }
    config = config_class(vocab_size=len(tokens), rms_norm_eps=1e-5, tie_word_embeddings=True, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
        for name, parameter in model.named_parameters():  # fresh biases are zeros, which nobody would miss
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
    writer = gguf.GGUFWriter(path, declared or architecture)
    writer.add_name("Tiny")
    writer.add_context_length(4096)
    writer.add_block_count(2)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    if pre is not None:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in _SPECIAL else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in _merges(tokenizer)])
    writer.add_bos_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(2)
    if template is not None:
        writer.add_chat_template(template)
    names = gguf.get_tensor_name_map(kind, 2)
    for name, weight in model.state_dict().items():
        if name != "lm_head.weight":
            stem, _, suffix = name.rpartition(".")
            writer.add_tensor(f"{names.get_name(stem)}.{suffix}", _stored(architecture, name, weight.numpy()))
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return Made(path, model, tokenizer)


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [tuple(merge) for merge in json.loads(tokenizer.to_str())["model"]["merges"]]


def _stored(architecture: str, name: str, weight: np.ndarray) -> np.ndarray:
    """Llama's queries and keys are stored with the two halves of each head interleaved."""
    heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
    if architecture != "llama" or heads is None:
        return weight
    return weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def write_sentencepiece(path: Path) -> Path:
    """A file of the Llama kind whose tokenizer merges by score and spells what it does not know in bytes."""
    pieces = [
        "▁",
        *"abcdefghijklmnopqrstuvwxyz.:,",
        "th",
        "▁t",
        "he",
        "the",
        "▁the",
        "or",
        "▁n",
        "▁nor",
        "▁north",
        "nor",
    ]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces]
    kinds = [2, 3, 3, *[6] * 256, *[1] * len(pieces)]
    # The later, the less likely: "▁north" can come of "▁nor" and "th" alone.
    scores = [0.0] * 259 + [-float(at) for at in range(len(pieces))]
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_scores(scores)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + eos_token }}"
        "{% else %}{{ '[' + m.content + ']' }}{% endif %}{% endfor %}"
    )
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    for name, weight in LlamaForCausalLM(config).state_dict().items():
        if name != "lm_head.weight":
            writer.add_tensor(f"{names.get_name(name.removesuffix('.weight'))}.weight", weight.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
