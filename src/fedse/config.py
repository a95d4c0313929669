"""The configuration of a run: frozen pydantic models; a resolved one re-runs the same run.

Loading from YAML, presets and ``--set`` lives in :mod:`fedse.settings`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelConfig(_Section):
    """The frozen base model."""

    name: str = Field("smollm2-135m", description="'smollm2-135m', 'tiny', a Hugging Face id, or a local folder")
    device: str = Field("auto", description="'auto', 'cpu', 'cuda', 'cuda:1', …")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="of the base weights; 'auto' takes bfloat16 where the hardware multiplies it natively"
    )


class LoraConfig(_Section):
    """The adapter (fed-SE paper: r 8, alpha 16, all linear layers)."""

    rank: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | tuple[str, ...] = Field("all-linear", description="'all-linear' or module names")


class ClientConfig(_Section):
    """One site: its private environment, and how much it demonstrates and explores."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    environment: str
    options: dict[str, Any] = Field(default_factory=dict, description="options of the environment")
    train_split: str = "train"
    test_split: str = "test"
    demonstrations: int = Field(32, ge=0, description="expert episodes that seed the experience store")
    episodes_per_round: int = Field(32, ge=0, description="exploration episodes a round")


class AgentConfig(_Section):
    """How the agent is prompted."""

    prompt: Literal["concise", "full"] = "concise"


class RolloutConfig(_Section):
    """How episodes are played by the model."""

    temperature: float = Field(1.0, gt=0, description="of exploration; greedy evaluation ignores it")
    slots: int = Field(32, ge=1, description="episodes decoded side by side")
    max_context: int = Field(2048, ge=64, description="tokens of a whole episode")
    max_turns: int | None = Field(None, ge=1, description="default: the environment's own limit")
    max_response_tokens: int | None = Field(None, ge=1, description="default: the environment's own limit")


class TrainingConfig(_Section):
    """The local update: LoRA fine-tuning on a client's experience."""

    learning_rate: float = Field(1e-3, gt=0)
    epochs: float | None = Field(None, gt=0, description="passes over the store; give this or steps")
    steps: int | None = Field(None, ge=1, description="optimizer steps a round; give this or epochs")
    batch_size: int = Field(4, ge=1, description="trajectories in one optimizer step")
    max_tokens: int = Field(2048, ge=64, description="tokens in one forward pass; a batch is split to fit")
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(0.0, ge=0, lt=1, description="share of the steps with rising learning rate")
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)

    @model_validator(mode="after")
    def _one_budget(self) -> TrainingConfig:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give exactly one of training.epochs and training.steps")
        return self


class MethodConfig(_Section):
    """Which method: the parts in which Fed-SE, FedIT and the ablations differ."""

    explore: bool = Field(True, description="play episodes and learn from them (false: demonstrations only)")
    filter: Literal["success", "none"] = "success"
    history: bool = Field(True, description="keep experience of earlier rounds (false: only this round's)")
    aggregator: str = Field("mean", description="'mean' (Fed-SE) or 'weighted_mean' (FedIT)")
    server_lr: float = Field(1.0, gt=0, description="step on the mean delta; 1 is the paper")


class EvaluationConfig(_Section):
    """Success rates on held-out tasks."""

    tasks: int | None = Field(64, ge=1, description="held-out tasks per environment; none means all")
    decoding: Literal["greedy", "sampled"] = "greedy"
    samples: int = Field(1, ge=1, description="episodes per task when sampled")
    every: int = Field(1, ge=0, description="rounds between evaluations; 0: only before the first and after the last")


class RunConfig(_Section):
    """A whole run."""

    name: str = "run"
    seed: int = Field(0, ge=0)
    rounds: int = Field(3, ge=1)
    model: ModelConfig = ModelConfig()
    lora: LoraConfig = LoraConfig()
    agent: AgentConfig = AgentConfig()
    clients: tuple[ClientConfig, ...] = Field(min_length=1)
    rollout: RolloutConfig = RolloutConfig()
    training: TrainingConfig = TrainingConfig(steps=32)
    method: MethodConfig = MethodConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _unique_clients(self) -> RunConfig:
        names = [client.name for client in self.clients]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"client names must differ; found twice: {', '.join(twice)}")
        return self
