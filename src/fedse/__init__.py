"""Federated self-evolution of LLM agents (Fed-SE, arXiv 2512.08870).

    import fedse

    result = fedse.run(fedse.load_config("quickstart"), "runs/mine")

Everything that programs need is a name of this package.  A name is imported when it is first used, so that
``import fedse`` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedse.adapters.files import load_adapter, save_adapter
    from fedse.adapters.state import AdapterMeta, AdapterState
    from fedse.agent import renderer_for, system_prompt
    from fedse.config import LoraConfig, ModelConfig, RolloutConfig, RunConfig, TrainingConfig
    from fedse.environments import Environment, EnvironmentSpec, Expert, StepResult, make
    from fedse.environments.checking import check_environment
    from fedse.errors import FedseError
    from fedse.evaluation import success_rate
    from fedse.experience.identity import task_and_actions
    from fedse.experience.selection import select
    from fedse.federation.run import RunResult, run
    from fedse.federation.strategies import GLOBAL, Sent, State, Strategy, make_strategy, register
    from fedse.learning.examples import Example
    from fedse.learning.update import local_update
    from fedse.messages import Instruction, Reply, SiteReport, Update
    from fedse.models.base import load_base
    from fedse.models.catalogue import pull
    from fedse.models.lora import LoraModel
    from fedse.progress import Event
    from fedse.rollout.episode import EpisodeRequest
    from fedse.rollout.player import Player, Rules
    from fedse.rollout.scripted import demonstrate
    from fedse.rollout.torch.player import TorchPlayer
    from fedse.seeding import derive_seed
    from fedse.settings import load_config, method_names, preset_names
    from fedse.sites.site import Site
    from fedse.types import SuccessRate, Task, Trajectory

#: Module → the names that it gives.
_EXPORTS = {
    "fedse.adapters.files": ("load_adapter", "save_adapter"),
    "fedse.adapters.state": ("AdapterMeta", "AdapterState"),
    "fedse.agent": ("renderer_for", "system_prompt"),
    "fedse.config": ("LoraConfig", "ModelConfig", "RolloutConfig", "RunConfig", "TrainingConfig"),
    "fedse.environments": ("Environment", "EnvironmentSpec", "Expert", "StepResult", "make"),
    "fedse.environments.checking": ("check_environment",),
    "fedse.errors": ("FedseError",),
    "fedse.evaluation": ("success_rate",),
    "fedse.experience.identity": ("task_and_actions",),
    "fedse.experience.selection": ("select",),
    "fedse.federation.run": ("RunResult", "run"),
    "fedse.federation.strategies": ("GLOBAL", "Sent", "State", "Strategy", "make_strategy", "register"),
    "fedse.learning.examples": ("Example",),
    "fedse.learning.update": ("local_update",),
    "fedse.messages": ("Instruction", "Reply", "SiteReport", "Update"),
    "fedse.models.base": ("load_base",),
    "fedse.models.catalogue": ("pull",),
    "fedse.models.lora": ("LoraModel",),
    "fedse.progress": ("Event",),
    "fedse.rollout.episode": ("EpisodeRequest",),
    "fedse.rollout.player": ("Player", "Rules"),
    "fedse.rollout.scripted": ("demonstrate",),
    "fedse.rollout.torch.player": ("TorchPlayer",),
    "fedse.seeding": ("derive_seed",),
    "fedse.settings": ("load_config", "method_names", "preset_names"),
    "fedse.sites.site": ("Site",),
    "fedse.types": ("SuccessRate", "Task", "Trajectory"),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [*_HOME]  # noqa: PLE0604  # names, all of them


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("fedse")
    if name not in _HOME:
        raise AttributeError(f"module 'fedse' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
