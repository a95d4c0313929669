"""Forward passes over the slots: takes each slot's new tokens, draws what comes after its last one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from fedse.rollout.schedule import Draw
from fedse.rollout.torch.cache import Segment, SlotCache, SlotPlan
from fedse.rollout.torch.sampling import draw


class SlotDecoder:
    """Owns the cache of one rollout and knows how long every slot's history is.

    It is a :class:`~fedse.rollout.schedule.Decoder`.  The model must run under the attention function
    :data:`~fedse.rollout.torch.cache.ATTENTION_NAME`.

    Args:
        model: plays.
        slots: histories side by side.
        context: tokens that a history may come to have.
        min_p: of sampling; see :func:`~fedse.rollout.torch.sampling.draw`.
    """

    def __init__(self, model: PreTrainedModel, slots: int, context: int, *, min_p: float = 0.0) -> None:
        self._body = model.get_decoder()  # type: ignore[no-untyped-call]
        self._head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
        self._device, self._dtype = model.device, model.dtype
        self._context = context
        self._min_p = min_p
        self.cache = SlotCache(model.config, slots, device=model.device, dtype=model.dtype)
        self.lengths = [0] * slots

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """Give ``target`` the first ``length`` positions of ``source``'s history."""
        self.cache.copy_slot(source, target, length)
        self.lengths[target] = length

    def decode(self, pieces: Sequence[tuple[int, Sequence[int]]], draws: Sequence[Draw]) -> list[tuple[int, float]]:
        """See :meth:`fedse.rollout.schedule.Decoder.decode`, and :meth:`forward` for errors."""
        return draw(self.forward(pieces)[[one.piece for one in draws]], draws, self._min_p)

    @torch.inference_mode()
    def forward(self, pieces: Sequence[tuple[int, Sequence[int]]]) -> torch.Tensor:
        """Append tokens to slots; the pieces are those of :meth:`fedse.rollout.schedule.Decoder.decode`.

        Returns:
            Logits after the last token of every piece, in order, shape (pieces, vocabulary), the model's dtype.

        Raises:
            ModelError: if the model needs something else than plain causal attention.
        """
        plan = self._plan(pieces)
        self.cache.plan = plan
        tokens = [token for _, new in pieces for token in new]
        hidden = self._body(
            input_ids=torch.tensor([tokens], device=self._device),
            position_ids=plan.positions.unsqueeze(0),
            past_key_values=self.cache,
            use_cache=True,
            slot_plan=plan,
        ).last_hidden_state[0]
        ends = torch.tensor([len(new) for _, new in pieces], device=self._device).cumsum(0) - 1
        for slot, new in pieces:
            self.lengths[slot] += len(new)
        logits: torch.Tensor = self._head(hidden[ends])
        return logits

    def _plan(self, pieces: Sequence[tuple[int, Sequence[int]]]) -> SlotPlan:
        slots: list[int] = []
        positions: list[int] = []
        single: list[tuple[int, int]] = []
        segments: list[Segment] = []
        for slot, new in pieces:
            start, past = len(slots), self.lengths[slot]
            slots += [slot] * len(new)
            positions += range(past, past + len(new))
            if len(new) == 1:
                single.append((start, slot))
            else:
                seen = torch.full((len(new), past + len(new)), float("-inf"), device=self._device, dtype=self._dtype)
                segments.append(Segment(start, start + len(new), slot, seen.triu_(past + 1)))
        self.cache.reserve(max(self.lengths[slot] + len(new) for slot, new in pieces))
        return SlotPlan(
            slots=self._index(slots),
            positions=self._index(positions),
            single_rows=self._index([row for row, _ in single]),
            single_slots=self._index([slot for _, slot in single]),
            bias=self._bias([slot for _, slot in single]),
            pieces=tuple(segments),
            context=self._context,
        )

    def _bias(self, slots: Sequence[int]) -> torch.Tensor:
        used = max(slots, default=-1) + 1
        longest = max((self.lengths[slot] + 1 for slot in slots), default=0)
        if self._dtype != torch.float32:
            # Parts of the cache are copied by bmm in other dtypes, which takes longer than reading all of it.
            longest = self.cache.capacity
        # A slot that does not decode now still needs one finite score, or its unused softmax row would be NaN.
        lengths = torch.tensor([self.lengths[slot] + 1 for slot in range(used)], device=self._device)
        hidden = torch.arange(longest, device=self._device).unsqueeze(0) >= lengths.unsqueeze(1)
        bias = torch.zeros(hidden.shape, device=self._device, dtype=self._dtype)
        return bias.masked_fill_(hidden, float("-inf"))

    def _index(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)
