"""Whether a fast way of computing a model computes that model: the one place where a base model is taken or refused.

Rollouts and local updates have ways of their own through a model.  Whether they hold for a family of models is not
read off its name or its configuration.  Each way is tried on the loaded model, on two short texts with a common
beginning, and compared with the model's own forward pass.  That costs about a hundred tokens, once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import PreTrainedModel

from fedse.errors import FedseError, ModelError
from fedse.models.plain import embedding_rows, output_embedding, scaled
from fedse.seeding import numpy_generator

#: Tokens that both texts begin with, and tokens of each text.
_SHARED, _LENGTH = 8, 20
#: Compared are the predictions of so many tokens at the end of each text.
COMPARED = 2
#: How far logits may be off by rounding, see :func:`_off`: of a whole way, and of the output embedding alone.  On
#: texts without sense two ways in bfloat16 were up to 12 % apart; with positions or sequences mixed up it is 100 %.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.3}
_HEAD_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 1e-2}
_MEND = "take a base model of another family: docs/models.md lists what works, as Llama, Qwen2, Qwen3 and Mistral do"

#: Computes the logits, shape (2, COMPARED, vocabulary), that predict the last tokens of two texts, shape (2, length),
#: of which so many tokens are common.
Way = Callable[[torch.Tensor, int], torch.Tensor]


#: Model → names of the ways that computed the same.
_AGREEING: WeakKeyDictionary[PreTrainedModel, set[str]] = WeakKeyDictionary()


@torch.no_grad()
def check_agreement(model: PreTrainedModel, name: str, way: Way) -> None:
    """Make sure that a way of computing a model gives what the model gives.

    A way that agreed once is not tried again.  A model whose weights are not finite is not judged: what follows from
    that is told where it happens.

    Args:
        model: in evaluation mode; an adapter on it may be of any value.
        name: who computes that way, for the error; names the way.
        way: see :data:`Way`.

    Raises:
        ModelError: if the results differ, the way does not take the model, or the logits are not the output embedding
            of the final hidden states.
    """
    agreeing = _AGREEING.setdefault(model, set())
    if name in agreeing:
        return
    texts = _texts(model).to(model.device)
    own = _own_logits(model, texts)
    if not bool(own.isfinite().all()):
        return
    if kinds := _other_kinds(model):  # their state crosses sequences, which need not show on a few tokens
        raise _refused(model, f"some of its layers are no attention over tokens ({', '.join(kinds)})")
    try:
        other = way(texts, _SHARED)
    except FedseError:
        raise
    except Exception as cause:  # a family can fail in any way
        raise _refused(model, f"{name} cannot compute it ({type(cause).__name__}: {cause})") from cause
    off = _off(other, own)
    if not off <= _tolerance(model, _TOLERANCE):  # NaN is refused, too
        raise _refused(model, f"{name} computes other logits than its own forward pass, by {off:.1%} of their spread")
    agreeing.add(name)


def _own_logits(model: PreTrainedModel, texts: torch.Tensor) -> torch.Tensor:
    """What the model's own forward pass, without any of ours, predicts of the last tokens; see :data:`Way`."""
    head, passed = output_embedding(model), []
    hook = head.register_forward_hook(lambda _, given, __: passed.append(given[0]))
    try:
        logits = model(input_ids=texts, use_cache=False).logits
    except Exception as cause:
        raise _refused(model, f"its own forward pass fails ({type(cause).__name__}: {cause})") from cause
    finally:
        hook.remove()
    compared = slice(-COMPARED - 1, -1)
    own: torch.Tensor = logits[:, compared].float()
    if not passed or _off(head(scaled(model, passed[-1][:, compared])), own) > _tolerance(model, _HEAD_TOLERANCE):
        raise _refused(model, "it changes its logits after the output embedding, as by soft-capping")
    return own


def _tolerance(model: PreTrainedModel, tolerances: dict[torch.dtype, float]) -> float:
    return tolerances[torch.float32 if model.dtype == torch.float32 else torch.bfloat16]


def _texts(model: PreTrainedModel) -> torch.Tensor:
    """Two texts of ordinary tokens with a common beginning."""
    rows = embedding_rows(model)
    config = model.config.get_text_config()
    special = {getattr(config, f"{kind}_token_id", None) for kind in ("pad", "bos", "eos")}
    generator = numpy_generator("agreement", rows)
    drawn = [index for index in generator.integers(0, rows, 4 * _LENGTH).tolist() if index not in special]
    beginning, drawn = drawn[:_SHARED], drawn[_SHARED:]
    rest = _LENGTH - _SHARED
    return torch.tensor([beginning + drawn[:rest], beginning + drawn[rest : 2 * rest]])


def _off(found: torch.Tensor, expected: torch.Tensor) -> float:
    """How far logits are off, as a share of their spread: root mean squares."""
    spread = expected - expected.mean(dim=-1, keepdim=True)
    return float((found.float() - expected).square().mean().sqrt() / spread.square().mean().sqrt().clamp_min(1e-30))


def _other_kinds(model: PreTrainedModel) -> list[str]:
    """Kinds of layers that are no attention, as far as the configuration tells them."""
    config = model.config.get_text_config()
    kinds: Any = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or ()
    return sorted({str(kind) for kind in kinds if "attention" not in str(kind) or str(kind) == "linear_attention"})


def _refused(model: PreTrainedModel, why: str) -> ModelError:
    return ModelError(f"{type(model).__name__} cannot be used: {why}", _MEND)
