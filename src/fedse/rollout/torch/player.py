"""The player that decodes here, with torch: many multi-turn episodes side by side on one model."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.adapters.state import AdapterState
from fedse.agent.renderers import Renderer
from fedse.config import RolloutConfig
from fedse.errors import ConfigError
from fedse.models.attention_switch import attention_implementation
from fedse.models.lora import LoraModel
from fedse.models.plain import context_limit
from fedse.rollout.player import Play
from fedse.rollout.schedule import Schedule
from fedse.rollout.torch.cache import ATTENTION_NAME
from fedse.rollout.torch.decoder import SlotDecoder, check_slots
from fedse.rollout.torch.prepack import check_int8, prepacked
from fedse.rollout.torch.steady import steady
from fedse.types import Trajectory


class TorchPlayer:
    """A :class:`~fedse.rollout.player.Player` on a base model with an adapter slot.

    The adapter is merged into the base weights while it plays.  Trajectories carry token records.

    Args:
        lora: the model; the adapter to play with is loaded into it and stays there.
        renderer: of the model's tokenizer.
        config: slots, limits and sampling.

    Raises:
        ConfigError: if ``max_context`` exceeds what the model was made for, or int8 weights cannot be had here.
        ModelError: if rollouts would not compute what the model computes.
    """

    def __init__(self, lora: LoraModel, renderer: Renderer, config: RolloutConfig) -> None:
        window = context_limit(lora.base.model.config)
        if window is not None and config.max_context > window:
            raise ConfigError(
                f"rollout.max_context is {config.max_context}, but {lora.base.name!r} has a context of {window} tokens",
                f"set rollout.max_context to at most {window}",
            )
        if config.weights == "int8":
            check_int8(lora.base.device)
        check_slots(lora.base.model, config.max_context)
        self._lora, self._renderer, self._config = lora, renderer, config

    def play(self, adapter: AdapterState | None, plays: Sequence[Play]) -> list[list[Trajectory]]:
        """See :meth:`fedse.rollout.player.Player.play`; a model with another attention is a ``ModelError``."""
        episodes = sum(len(play.requests) for play in plays)
        if not episodes:
            return [[] for _ in plays]
        model, slots = self._lora.base.model, min(self._config.slots, episodes)
        # A fresh adapter has a zero factor B: with it the model is the bare base model.
        self._lora.load(self._lora.initial_state(0) if adapter is None else adapter)
        with (
            self._lora.merged(),
            prepacked(model, slots, self._config.weights),
            steady(model),
            attention_implementation(model, ATTENTION_NAME),
        ):
            decoder = SlotDecoder(model, slots + len(plays), self._config.max_context, min_p=self._config.min_p)
            return Schedule(decoder, self._renderer, self._config, plays).play()
