"""What an ``adapter_config.json`` of peft says, and the adapter that it makes of the weights beside it.

Ranks and scalings of single layers are honoured: an adapter has one rank and one scaling here, so smaller factors are
filled up with zeros, and what is left of a layer's scaling goes into its factor B.  What else would change the
computation is refused.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedse.adapters.checks import in_words
from fedse.adapters.state import SUFFIX_A, SUFFIX_B, AdapterMeta, AdapterState
from fedse.errors import AdapterError, boundary
from fedse.types import FloatArray

_PREFIX = "base_model.model."
#: Fields that are read, or change nothing in an adapter that is made.
_TAKEN = frozenset({
    "peft_type", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern", "init_lora_weights",
    "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode",
    "target_modules", "exclude_modules", "lora_dropout", "layers_pattern",
    "megatron_core", "qalora_group_size", "eva_config", "loftq_config",
})  # fmt: skip
#: First values that leave the base model as it was.
_FIRST_VALUES = (None, True, False, "gaussian", "orthogonal", "eva")


def refused_settings(config: Mapping[str, Any]) -> list[str]:
    """What a configuration of peft asks for that is not computed here, in words; fields not known are among it."""
    problems = []
    if config.get("peft_type") != "LORA":
        problems.append(f"peft_type is {config.get('peft_type')!r} instead of 'LORA'")
    if config.get("init_lora_weights") not in _FIRST_VALUES:
        problems.append(f"init_lora_weights is {config['init_lora_weights']!r}, which changes the base model")
    for field, value in config.items():
        if field not in _TAKEN and value is not None and value is not False and value not in ([], {}, "none"):
            problems.append(f"{field} is {value!r}")
    return problems


def check_settings(config: Mapping[str, Any], path: Path) -> None:
    """Refuse what :func:`refused_settings` finds.

    Raises:
        AdapterError: naming the file and the fields.
    """
    if problems := refused_settings(config):
        raise AdapterError(
            f"{path} asks for what fedse does not compute: {in_words(problems)}",
            "take an adapter of plain LoRA on linear layers, or merge this one into its base model with peft",
        )


def adapter_of(tensors: Mapping[str, FloatArray], config: Mapping[str, Any], path: Path) -> AdapterState:
    """The adapter that peft would make of these weights; which base model it is for, it does not say.

    Args:
        tensors: weights in peft's naming.
        config: of the file.
        path: of the configuration, for errors.

    Raises:
        AdapterError: as :func:`check_settings`, or if the configuration is damaged.
    """
    check_settings(config, path)
    with boundary(AdapterError, f"{path} is damaged", "copy the adapter folder anew"):
        first = [name for name in tensors if name.endswith(SUFFIX_A) and tensors[name].ndim == 2]
        ranks = {name: tensors[name].shape[0] for name in first}
        scalings = {name: _scaling(config, name, rank) for name, rank in ranks.items()}
        rank = max(ranks.values(), default=int(config["r"]))
        [(scaling, _)] = Counter(scalings.values()).most_common(1) or [(float(config["lora_alpha"]) / rank, 0)]
        made = dict(tensors)
        for name in first:
            made[name] = np.pad(tensors[name], ((0, rank - ranks[name]), (0, 0)))
            other = name.removesuffix(SUFFIX_A) + SUFFIX_B
            if other in tensors and tensors[other].ndim == 2:
                factor = np.float32(scalings[name] / scaling)
                made[other] = np.pad(tensors[other] * factor, ((0, 0), (0, rank - ranks[name])))
        targets = {name.removesuffix(SUFFIX_A).rpartition(".")[2] for name in first}
        return AdapterState(made, AdapterMeta(rank, scaling * rank, tuple(sorted(targets)), base_model=""))


def _scaling(config: Mapping[str, Any], name: str, rank: int) -> float:
    """The factor s of a layer in W + s·B·A, by peft's rules: the first pattern that matches counts."""
    layer = name.removeprefix(_PREFIX).removesuffix(SUFFIX_A)
    patterns = config.get("alpha_pattern") or {}
    found = (alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", layer))
    alpha = float(next(found, config["lora_alpha"]))
    if not (math.isfinite(alpha) and alpha > 0):
        raise ValueError(f"lora_alpha is {alpha:g}")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
