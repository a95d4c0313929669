"""Adapters as folders that peft and inference servers load: ``adapter_model.safetensors`` and ``adapter_config.json``.

Equal adapters give byte-identical folders.  Folders that peft wrote are read as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError, safe_open

from fedse.adapters.checks import in_words, meta_problems, state_problems
from fedse.adapters.peft_config import adapter_of, check_settings
from fedse.adapters.state import AdapterMeta, AdapterState
from fedse.errors import AdapterError, StorageError
from fedse.storage import atomic_directory, read_json, write_json
from fedse.types import FloatArray

WEIGHTS_NAME = "adapter_model.safetensors"
CONFIG_NAME = "adapter_config.json"
SCHEMA_VERSION = 1
# safetensors writes its metadata in random order; one entry has only one order.
_METADATA_KEY = "fedse"
_REMAKE = "copy the adapter folder anew, or redo the round that wrote it"


def save_adapter(state: AdapterState, folder: Path, *, base_name: str = "") -> None:
    """Write an adapter folder, whole or not at all; one that is there is replaced.

    Args:
        state: the adapter; its weights are written as float32.
        folder: the folder to make.
        base_name: name or path of the base model, for ``base_model_name_or_path``; peft does not need it when the
            caller passes the base model.

    Raises:
        AdapterError: if the state is not a sound LoRA adapter (see :func:`fedse.adapters.checks.state_problems`).
        StorageError: if it cannot be written.
    """
    problems = state_problems(state)
    if problems:
        raise AdapterError(
            f"cannot save the adapter to {folder}: {in_words(problems)}", "check the training that made it"
        )
    with atomic_directory(folder) as scratch:
        (scratch / WEIGHTS_NAME).write_bytes(weights_bytes(state))
        write_json(scratch / CONFIG_NAME, _peft_config(state.meta, base_name))


def load_adapter(folder: Path, *, expect: AdapterMeta | None = None) -> AdapterState:
    """Read an adapter folder written by :func:`save_adapter`, or by peft.

    Args:
        folder: the adapter's folder.
        expect: what the adapter must have been made for; ``None`` accepts any base, rank and targets.

    Returns:
        The adapter.  One that peft wrote does not say which base model it is for: its ``base_model`` is empty.

    Raises:
        AdapterError: naming the file, if one is missing, damaged or truncated, if the two disagree, if it asks for
            what is not computed (:func:`fedse.adapters.peft_config.refused_settings`), or does not fit ``expect``.
    """
    weights = folder / WEIGHTS_NAME
    tensors, metadata = _read(weights)
    config = _read_config(folder / CONFIG_NAME)
    if _METADATA_KEY in metadata:
        state = AdapterState(tensors, _read_meta(weights, metadata))
        _check_config(folder / CONFIG_NAME, config, state.meta)
    else:
        state = adapter_of(tensors, config, folder / CONFIG_NAME)
    if expect is not None:
        problems = meta_problems(state.meta, expect)
        if problems:
            raise AdapterError(
                f"the adapter in {folder} does not fit: {in_words(problems)}",
                "use it with the base model and the LoRA settings that it was made with",
            )
    problems = state_problems(state)
    if problems:
        raise AdapterError(f"{weights} is no sound adapter: {in_words(problems)}", _REMAKE)
    return state


def weights_bytes(state: AdapterState) -> bytes:
    """The weights file of an adapter, which may be a part of one; see :func:`read_weights`."""
    meta = state.meta
    ours = {
        "schema_version": SCHEMA_VERSION,
        "rank": meta.rank,
        "alpha": meta.alpha,
        "target_modules": list(meta.target_modules),
        "base_model": meta.base_model,
    }
    return safetensors.numpy.save(dict(state.tensors), metadata={_METADATA_KEY: json.dumps(ours, sort_keys=True)})


def _peft_config(meta: AdapterMeta, base_name: str) -> dict[str, Any]:
    """The fields of peft's ``LoraConfig`` that matter; peft fills in its defaults for the others."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name or None,
        "r": meta.rank,
        # peft and inference servers expect a whole number where it is one.
        "lora_alpha": int(meta.alpha) if float(meta.alpha).is_integer() else meta.alpha,
        "lora_dropout": 0.0,
        "target_modules": list(meta.target_modules),
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "modules_to_save": None,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def read_weights(path: Path) -> AdapterState:
    """An adapter, or a part of one, from its weights file alone.

    Raises:
        AdapterError: if it is missing, damaged or truncated, or was not written by :func:`weights_bytes`.
    """
    tensors, metadata = _read(path)
    if _METADATA_KEY not in metadata:
        raise AdapterError(f"{path} does not say what it was made for: it was not written by fedse", _REMAKE)
    return AdapterState(tensors, _read_meta(path, metadata))


def _read(path: Path) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """The tensors of a file in float32, and its metadata."""
    if not path.is_file():
        raise AdapterError(f"{path} is missing: {path.parent} is no adapter folder", "check the path, or " + _REMAKE)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        stored = dict(safetensors.deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    except (SafetensorError, OSError) as cause:
        raise AdapterError(f"{path} is damaged or truncated: {cause}", _REMAKE) from cause
    wrong = [f"{name} is {tensor['dtype']}" for name, tensor in stored.items() if tensor["dtype"] not in _WIDENED]
    if wrong:
        raise AdapterError(
            f"{path} must hold numbers in float32, float16 or bfloat16: {in_words(wrong)}",
            "convert it to float32, or " + _REMAKE,
        )
    return {
        name: _WIDENED[tensor["dtype"]](tensor["data"]).reshape(tensor["shape"]) for name, tensor in stored.items()
    }, metadata


#: Type of a file's numbers → how its bytes become float32.  numpy has no bfloat16, which is the upper half of float32.
_WIDENED: dict[str, Callable[[bytes], FloatArray]] = {
    "F32": lambda data: np.frombuffer(data, "<f4").astype(np.float32),
    "F16": lambda data: np.frombuffer(data, "<f2").astype(np.float32),
    "BF16": lambda data: (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32),
}


def _read_meta(path: Path, metadata: dict[str, str]) -> AdapterMeta:
    try:
        ours = json.loads(metadata[_METADATA_KEY])
        version = int(ours["schema_version"])
        meta = AdapterMeta(
            rank=int(ours["rank"]),
            alpha=float(ours["alpha"]),
            target_modules=tuple(str(name) for name in ours["target_modules"]),
            base_model=str(ours["base_model"]),
        )
    except (ValueError, KeyError, TypeError) as cause:
        raise AdapterError(f"{path} has damaged metadata: {type(cause).__name__}: {cause}", _REMAKE) from cause
    if version > SCHEMA_VERSION:
        raise AdapterError(
            f"{path} was written by a newer fedse (schema {version}; this one reads up to {SCHEMA_VERSION})",
            "upgrade fedse",
        )
    return meta


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = read_json(path)
    except StorageError as cause:
        raise AdapterError(f"the adapter's configuration cannot be read: {cause.what}", _REMAKE) from cause
    if not isinstance(config, dict):
        raise AdapterError(f"{path} holds no JSON object", _REMAKE)
    return config


def _check_config(path: Path, config: dict[str, Any], meta: AdapterMeta) -> None:
    expected = _peft_config(meta, "")
    problems = [
        f"{field} is {config.get(field)!r} instead of {expected[field]!r}"
        for field in ("peft_type", "r", "lora_alpha", "target_modules")
        if config.get(field) != expected[field]
    ]
    problems += [
        f"{field} is {config[field]!r}"
        for field in ("use_rslora", "rank_pattern", "alpha_pattern")
        if config.get(field)
    ]
    if problems:
        raise AdapterError(f"{path} contradicts the weights beside it: {in_words(problems)}", _REMAKE)
    check_settings(config, path)
