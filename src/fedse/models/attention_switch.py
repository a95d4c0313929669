"""Choose the attention function of a model for the length of a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fedse.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def _configs(model: PreTrainedModel) -> list[Any]:
    """The configurations that the model's modules read: its own, its submodels' and their sub-configurations."""
    from transformers import PreTrainedModel

    found: dict[int, Any] = {}
    pending: list[Any] = [module.config for module in model.modules() if isinstance(module, PreTrainedModel)]
    while pending:
        config = pending.pop()
        if config is not None and id(config) not in found:
            found[id(config)] = config
            pending += [getattr(config, name, None) for name in config.sub_configs]
    return list(found.values())


@contextmanager
def attention_implementation(model: PreTrainedModel, name: str) -> Iterator[None]:
    """Inside the block every attention layer calls the function registered under ``name``; afterwards as before.

    The name is a key of transformers' ``AttentionInterface``, or "eager".

    Raises:
        ModelError: if the name is not registered, or the model does not use the attention interface.
    """
    from transformers import AttentionInterface

    if name != "eager" and name not in AttentionInterface():  # type: ignore[no-untyped-call]
        raise ModelError(
            f"no attention function is registered under {name!r}",
            "register it with transformers.AttentionInterface.register before entering the block",
        )
    if not model._can_set_attn_implementation():
        raise ModelError(
            f"{type(model).__name__} does not look its attention function up in transformers' AttentionInterface",
            "take a model family that does (Llama, Qwen2, Qwen3, Mistral, …)",
        )
    before = [(config, config._attn_implementation_internal) for config in _configs(model)]
    try:
        for config, _ in before:
            # The public setter would also descend into sub-configurations and so could not restore them one by one.
            config._attn_implementation_internal = name
        yield
    finally:
        for config, implementation in before:
            config._attn_implementation_internal = implementation
