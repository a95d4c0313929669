"""Forward passes over the slots: takes each slot's new tokens, draws what comes after its last one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from fedse.models.agreement import COMPARED, check_agreement
from fedse.models.attention_switch import attention_implementation
from fedse.models.plain import scaled
from fedse.models.rows import filled_up
from fedse.rollout.schedule import Draw
from fedse.rollout.torch.cache import ATTENTION_NAME, SlotCache, SlotPlan, planned
from fedse.rollout.torch.masked import MaskedCache
from fedse.rollout.torch.sampling import draw


class SlotDecoder:
    """Owns the cache of one rollout and knows how long every slot's history is.

    It is a :class:`~fedse.rollout.schedule.Decoder`.  The model must run under the attention function
    :data:`~fedse.rollout.torch.cache.ATTENTION_NAME`.  On a CPU with the kernel, what it draws for a history depends on
    that history alone: not on the others in a pass, nor on the number of threads.  (In bfloat16 on processors with AMX
    last bits do depend on them: there oneDNN splits the sums of wide layers by the number of rows.)

    Args:
        model: plays.
        slots: histories side by side.
        context: tokens that a history may come to have.
        min_p: of sampling; see :func:`~fedse.rollout.torch.sampling.draw`.
    """

    def __init__(self, model: PreTrainedModel, slots: int, context: int, *, min_p: float = 0.0) -> None:
        self._model = model
        self._body = model.get_decoder()  # type: ignore[no-untyped-call]
        self._head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self._device = model.device
        self._context = context
        self._min_p = min_p
        self.cache = _cache(model, slots, context)
        self.lengths = [0] * slots

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """Give ``target`` the first ``length`` positions of ``source``'s history."""
        self.cache.copy_slot(source, target, length)
        self.lengths[target] = length

    @torch.inference_mode()
    def decode(self, pieces: Sequence[tuple[int, Sequence[int]]], draws: Sequence[Draw]) -> list[tuple[int, float]]:
        """See :meth:`fedse.rollout.schedule.Decoder.decode`, and :meth:`forward` for errors."""
        logits = self._forward(pieces, [one.piece for one in draws]) if draws else self._forward(pieces, [0])
        return draw(logits, draws, self._min_p)

    @torch.inference_mode()
    def forward(self, pieces: Sequence[tuple[int, Sequence[int]]]) -> torch.Tensor:
        """Append tokens to slots; the pieces are those of :meth:`fedse.rollout.schedule.Decoder.decode`.

        Returns:
            Logits after the last token of every piece, in order, shape (pieces, vocabulary), the model's dtype.

        Raises:
            ModelError: if the model needs something else than plain causal attention.
        """
        return self._forward(pieces, range(len(pieces)))

    def _forward(self, pieces: Sequence[tuple[int, Sequence[int]]], asked: Sequence[int]) -> torch.Tensor:
        """Append tokens; logits after the pieces ``asked``, shape (asked, vocabulary)."""
        tokens = [token for _, new in pieces for token in new]
        counts = np.array([len(new) for _, new in pieces])
        ends = counts.cumsum()
        slots = [slot for slot, _ in pieces]
        pasts = np.array([self.lengths[slot] for slot in slots])
        if int((pasts + counts).max()) > self._context:
            raise IndexError(f"a history of {int((pasts + counts).max())} tokens; there is room for {self._context}")
        plan = SlotPlan(self.cache, np.stack((ends - counts, counts, np.array(slots), pasts), axis=1), self._context)
        self.cache.begin(plan)
        filling = [0] * (filled_up(len(tokens)) - len(tokens))
        positions = np.concatenate((np.arange(len(tokens)) + np.repeat(pasts - ends + counts, counts), filling))
        with planned(plan):
            hidden = self._body(
                input_ids=torch.tensor([tokens + filling], device=self._device),
                position_ids=torch.from_numpy(positions.astype(np.int64)).to(self._device).unsqueeze(0),
                past_key_values=self.cache,
                use_cache=True,
            ).last_hidden_state[0]
        for slot, new in pieces:
            self.lengths[slot] += len(new)
        rows = [int(ends[piece]) - 1 for piece in asked]
        rows += rows[:1] * (filled_up(len(rows)) - len(rows))
        logits: torch.Tensor = self._head(scaled(self._model, hidden[torch.tensor(rows, device=self._device)]))
        return logits[: len(asked)]


def check_slots(model: PreTrainedModel, context: int) -> None:
    """Make sure that slots give what the model gives; see :func:`fedse.models.agreement.check_agreement`.

    Args:
        model: see there.
        context: tokens that a slot may come to hold.  A sliding window must hold them all.
    """

    def played(texts: torch.Tensor, shared: int) -> torch.Tensor:
        first, second = texts.tolist()
        read = len(first) - COMPARED  # at once; what follows, token by token
        with attention_implementation(model, ATTENTION_NAME):
            decoder = SlotDecoder(model, 2, context)
            decoder.forward([(0, first[:shared])])
            decoder.copy(0, 1, shared)
            steps = [slice(shared, read), *(slice(at, at + 1) for at in range(read, len(first) - 1))]
            logits = [decoder.forward([(0, first[step]), (1, second[step])]) for step in steps]
        return torch.stack(logits, dim=1)

    check_agreement(model, f"a rollout of up to {context} tokens", played)


def _cache(model: PreTrainedModel, slots: int, context: int) -> SlotCache:
    """The kernel's on a CPU where numba is there, else that of torch's own operations."""
    if model.device.type == "cpu" and model.dtype in (torch.float32, torch.bfloat16):
        try:
            from fedse.rollout.torch.kernel import KernelCache
        except ImportError:  # numba has no wheel for every Python and system
            pass
        else:
            return KernelCache(model.config, slots, context, model.dtype)
    return MaskedCache(model.config, slots, context, device=model.device, dtype=model.dtype)
