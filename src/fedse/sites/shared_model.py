"""The model that all clients of a process share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fedse.adapters.state import AdapterState
from fedse.agent import Renderer, renderer_for
from fedse.config import RolloutConfig, RunConfig
from fedse.errors import ConfigError
from fedse.learning.loss import check_packing
from fedse.models.base import BaseModel, load_base
from fedse.models.lora import LoraModel
from fedse.rollout.endpoint.player import EndpointPlayer
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
    def load(cls, config: RunConfig, *, folder: Path | None = None) -> SharedModel:
        """Load the base model of a run and put a LoRA adapter on it.

        Args:
            config: the run.
            folder: in which adapters are handed to an endpoint, unless the configuration names one; default: a
                temporary one.

        Raises:
            ModelError: if the base model cannot be loaded.
            ModelError, AdapterError, ConfigError: as :meth:`on`.
        """
        return cls.on(load_base(config.model), config, folder=folder)

    @classmethod
    def on(cls, base: BaseModel, config: RunConfig, *, folder: Path | None = None) -> SharedModel:
        """Put a LoRA adapter on a base model that is not yet used, and see whether a run can train and play it.

        This is where a model is taken or refused, whoever asks: a run, an evaluation, a game, or a dry run.

        Args:
            base: the model.
            config: the run.
            folder: see :meth:`load`.

        Raises:
            ModelError: if it would not be trained and played as what it is.
            AdapterError: if it cannot be adapted as configured.
            ConfigError: if the key of the endpoint that plays is not there.
        """
        renderer = renderer_for(base.tokenizer)
        check_packing(base.model)
        lora = LoraModel(base, config.lora)
        return cls(lora, renderer, _player(lora, renderer, config.rollout, folder))

    def initial_adapter(self, config: RunConfig) -> AdapterState:
        """The adapter that a run begins with, whatever is loaded now: a function of the seed and the settings."""
        return self.lora.initial_state(derive_seed(config.seed, "adapter"))


def _player(lora: LoraModel, renderer: Renderer, config: RolloutConfig, folder: Path | None) -> Player:
    endpoint = config.endpoint
    if endpoint.url is None:
        return TorchPlayer(lora, renderer, config)
    key = None if endpoint.api_key_env is None else os.environ.get(endpoint.api_key_env)
    if endpoint.api_key_env is not None and not key:
        raise ConfigError(
            f"the environment variable {endpoint.api_key_env}, which rollout.endpoint.api_key_env names, is not set",
            f"set it to the key of {endpoint.url}",
        )
    names = dict.fromkeys(name for name in (lora.base.name, lora.base.model.name_or_path) if name)
    return EndpointPlayer(endpoint.url, config, renderer, names=tuple(names), fits=lora.load, folder=folder, key=key)
