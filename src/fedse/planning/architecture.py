"""The shapes of a base model, from its configuration alone; without torch and without weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from fedse.errors import AdapterError, ModelError, boundary
from fedse.models import catalogue
from fedse.models.gguf_file import is_gguf, read_head
from fedse.settings.yaml_text import parse_yaml
from fedse.texts import parse_json

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True)
class Architecture:
    """A decoder of the Llama kind: attention with grouped keys, a gated MLP, RMSNorm before each.

    Attributes:
        source: where the facts come from.
        layers, hidden, intermediate, vocabulary: sizes.
        heads, kv_heads, head_dim: of the attention.
        tied: the output embedding is the input embedding.
        qkv_bias, output_bias, mlp_bias: which linear layers have a bias.
        qk_norm: queries and keys are normalised per head, as in Qwen3.
        window: positions that the model was made for.
    """

    name: str
    source: str
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    window: int

    @property
    def query(self) -> int:
        """Width of all queries of a token."""
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of all keys of a token; that of its values, too."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Linear layers of one decoder layer: name → (inputs, outputs)."""
        return {
            "q_proj": (self.hidden, self.query),
            "k_proj": (self.hidden, self.key),
            "v_proj": (self.hidden, self.key),
            "o_proj": (self.query, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }

    @property
    def embedding(self) -> int:
        """Parameters of the input and the output embedding; counted once if they are one."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        layer = sum(inputs * outputs for inputs, outputs in self.linears.values()) + 2 * self.hidden
        layer += self.qkv_bias * (self.query + 2 * self.key) + self.output_bias * self.hidden
        layer += self.mlp_bias * (2 * self.intermediate + self.hidden) + self.qk_norm * 2 * self.head_dim
        return self.embedding + self.layers * layer + self.hidden

    def targets(self, wanted: str | Sequence[str]) -> tuple[str, ...]:
        """The linear layers that an adapter changes, as :class:`fedse.models.lora.LoraModel` understands the setting.

        Raises:
            AdapterError: if a name is none of the model's linear layers.
        """
        if wanted == "all-linear":
            return tuple(self.linears)
        names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
        unknown = [name for name in names if name not in self.linears]
        if unknown or not names:
            raise AdapterError(
                f"lora.target_modules names {', '.join(unknown) or 'no layer'}, which {self.name} does not have",
                f"its linear layers are {', '.join(self.linears)}; or take 'all-linear'",
            )
        return names


def architecture_of(name: str) -> Architecture:
    """The shapes of the model that a run names: from facts that come with fedse, else from the model's config.json.

    Of a model on the Hugging Face hub only that file is read, a few kilobytes; of a GGUF file that was not yet
    converted, its head.

    Raises:
        ModelError: if the model or its configuration is not there, or is of another kind.
    """
    if facts := known_facts().get(name):
        return _architecture(name, str(facts["source"]), facts)
    if is_gguf(name) and catalogue.conversion(file := Path(name).expanduser()) is None:
        from fedse.models.converting import configuration  # torch is needed here alone

        return _architecture(name, name, configuration(read_head(file)).to_dict())
    place = catalogue.resolve(name)
    path = Path(place) / "config.json"
    with boundary(ModelError, f"cannot read the configuration of {name!r}", "check the name and the network"):
        if not path.is_file():
            from huggingface_hub import hf_hub_download

            path = Path(hf_hub_download(place, "config.json"))
        facts = parse_json(path.read_bytes())
    return _architecture(name, str(path), facts)


@cache
def known_facts() -> Mapping[str, Mapping[str, Any]]:
    """The facts that come with fedse: model → field of its config.json → value."""
    file = resources.files("fedse.planning") / "architectures.yaml"
    return dict(parse_yaml(file.read_text(encoding="utf-8")))


def _architecture(name: str, source: str, facts: Mapping[str, Any]) -> Architecture:
    family = facts.get("model_type")
    if family not in _FAMILIES:
        raise ModelError(
            f"there is no memory plan for {name!r}: its architecture is {family!r}",
            f"plans are made for the architectures {', '.join(_FAMILIES)}",
        )
    with boundary(ModelError, f"{source} is no configuration of a model", "name a folder in Hugging Face layout"):
        heads = int(facts["num_attention_heads"])
        biased = bool(facts.get("attention_bias", False))
        return Architecture(
            name=name,
            source=source,
            layers=int(facts["num_hidden_layers"]),
            hidden=int(facts["hidden_size"]),
            intermediate=int(facts["intermediate_size"]),
            vocabulary=int(facts["vocab_size"]),
            heads=heads,
            kv_heads=int(facts.get("num_key_value_heads") or heads),
            head_dim=int(facts.get("head_dim") or facts["hidden_size"] // heads),
            tied=bool(facts.get("tie_word_embeddings", False)),
            qkv_bias=biased or family == "qwen2",
            output_bias=biased and family != "qwen2",
            mlp_bias=bool(facts.get("mlp_bias", False)),
            qk_norm=family == "qwen3",
            window=int(facts["max_position_embeddings"]),
        )
