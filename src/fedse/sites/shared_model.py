"""The model that all clients of a process share."""

from __future__ import annotations

from dataclasses import dataclass

from fedse.adapters.state import AdapterState
from fedse.agent import Renderer, renderer_for
from fedse.config import RunConfig
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.rollout.player import Player
from fedse.rollout.torch.player import TorchPlayer
from fedse.seeding import derive_seed


@dataclass(frozen=True)
class SharedModel:
    """One frozen base model with one adapter slot, and the player of it.

    Nothing is carried over from one client to the next: each loads the broadcast adapter before it plays and trains.
    """

    lora: LoraModel
    renderer: Renderer
    player: Player

    @classmethod
    def load(cls, config: RunConfig) -> SharedModel:
        """Load the base model of a run and put a LoRA adapter on it.

        Raises:
            ModelError: if the base model cannot be loaded.
            AdapterError: if it cannot be adapted as configured.
        """
        lora = LoraModel(load_base(config.model), config.lora)
        renderer = renderer_for(lora.base.tokenizer)
        return cls(lora, renderer, TorchPlayer(lora, renderer, config.rollout))

    def initial_adapter(self, config: RunConfig) -> AdapterState:
        """The adapter that a run begins with, whatever is loaded now: a function of the seed and the settings."""
        return self.lora.initial_state(derive_seed(config.seed, "adapter"))
