"""The local update of a client: a few steps of masked likelihood training of the adapter on examples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from fedse.adapters.parts import Trained, factor_of
from fedse.config import TrainingConfig
from fedse.errors import DivergenceError, TrainingError
from fedse.learning.attention import PACKED_ATTENTION
from fedse.learning.control import Control
from fedse.learning.examples import Example, Stream
from fedse.learning.loss import agent_loss, check_packing
from fedse.learning.packing import MicroBatch, batches, mixed_batches, pack, pass_batches
from fedse.learning.schedule import learning_rate_factor
from fedse.models.attention_switch import attention_implementation
from fedse.models.fused_lora import fused_lora
from fedse.models.lora import LoraModel
from fedse.seeding import derive_seed
from fedse.texts import counted

_BETAS = (0.9, 0.999)
_DIVERGED = "begin a new run with a lower training.learning_rate, or in float32 (model.dtype=float32)"


@dataclass(frozen=True, slots=True)
class StepReport:
    """What one optimizer step did.

    Attributes:
        step, steps: number of the step, from 1, and how many are planned in this update.
        loss: weighted mean negative log-likelihood per agent token of the batch, in nats.
        learning_rate: that the step was made with.
        gradient_norm: before clipping.
        tokens: of all examples trained on so far.
        seconds: since the update began.
    """

    step: int
    steps: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingStats:
    """What one local update did in some optimizer steps.

    Attributes:
        examples: that carry loss and so took part.
        tokens: of all examples trained on, once per visit.
        computed_tokens: of those, the ones that went through the model; shared beginnings count once per micro-batch.
        loss_tokens: those of them that carry loss.
        first_loss, last_loss: mean of the steps' losses over the first and the last quarter of the steps.
        seconds: wall clock.
    """

    steps: int
    examples: int
    tokens: int
    computed_tokens: int
    loss_tokens: int
    first_loss: float
    last_loss: float
    seconds: float


def planned_steps(costs: Sequence[int], size: int, config: TrainingConfig, *, seed: int) -> int:
    """Optimizer steps of one update; a part of a pass is rounded up to whole steps.

    ``costs`` and ``size`` are those of :func:`batch_costs`.  The number of batches in a pass depends on the order of
    the examples, and so on the seed.
    """
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None  # the configuration has exactly one of the two
    whole = math.floor(config.epochs)
    *before, last = (sum(1 for _ in pass_batches(costs, size, seed, number)) for number in range(whole + 1))
    return sum(before) + math.ceil(config.epochs * last) - whole * last


def batch_costs(examples: Sequence[Example], config: TrainingConfig) -> tuple[list[int], int]:
    """What each example takes of a batch, and what a batch holds: tokens with loss if so configured, else examples."""
    if config.batch_tokens is None:
        return [1] * len(examples), config.batch_size
    return [len(example.losses()) for example in examples], config.batch_tokens


def local_update(
    lora: LoraModel,
    examples: Sequence[Example],
    config: TrainingConfig,
    *,
    seed: int,
    trained: Trained | None = None,
    proximal: float = 0.0,
    control: Control | None = None,
    on_step: Callable[[StepReport], None] | None = None,
) -> TrainingStats:
    """Fine-tune the loaded adapter in place on the agent's tokens of the examples (Fed-SE, fine-tuning phase).

    Minimises the weighted mean negative log-likelihood of thought, action and end-of-turn tokens with AdamW on the
    float32 adapter.  Optimizer state and schedule start anew in each call.  The result is a function of the adapter,
    the examples and the seed; on a CPU with the same number of threads it is the same bit for bit.

    Args:
        lora: carries the adapter to start from; not inside a ``merged()`` block.
        examples: each optimizer step takes a batch of them; those without loss are left out.
        config: learning rate, budget and batch.
        seed: of the order of the examples, and of dropout.
        trained: the part of the adapter that is trained, default: all; the rest keeps its bits.
        proximal: μ of FedProx (Li et al. 2020, arXiv 1812.06127), decoupled from AdamW as its weight decay is: after
            every step θ ← θ − lr·μ·(θ − θ₀), where θ₀ is the adapter that the update began from.
        control: corrects the gradients of every step.
        on_step: called after every optimizer step; must not change the model.

    Raises:
        TrainingError: if there is nothing to learn from, or the adapter is merged.
        DivergenceError: if a loss, a gradient or a step is not finite; the adapter is left as it was before that step.
        ModelError: if the base model's architecture computes something that the fast path does not.
    """
    learnable = [example for example in examples if example.losses()]
    if not learnable:
        raise TrainingError(
            f"there is nothing to learn from: no token of {counted(len(examples), 'example')} carries loss",
            "give the client demonstrations, or explore until an episode succeeds",
        )
    if lora.is_merged:
        raise TrainingError("the adapter is merged into the base weights", "train after leaving the merged() block")
    check_packing(lora.base.model)
    started = time.perf_counter()
    costs, size = batch_costs(learnable, config)
    steps = planned_steps(costs, size, config, seed=seed)
    optimizer = _optimizer(lora, config)
    anchor = _Anchor(lora, trained or Trained(), proximal)
    losses: list[float] = []
    tokens = computed_tokens = loss_tokens = 0
    model = lora.base.model
    with fused_lora(lora), _dropout(lora, seed), attention_implementation(model, PACKED_ATTENTION):
        for step, indices in zip(range(steps), _batches(learnable, config, seed), strict=False):
            batch = pack([learnable[index] for index in indices], config.max_tokens)
            optimizer.zero_grad()
            loss = accumulate_gradients(lora, batch, config.clip)
            if control is not None:
                control.correct(lora.parameters())
            anchor.mask_gradients()
            norm = float(nn.utils.clip_grad_norm_(lora.trainable(), config.max_grad_norm))
            if not (math.isfinite(loss) and math.isfinite(norm)):
                raise DivergenceError(
                    f"step {step + 1} of {steps}: the loss is {loss} and the gradient norm {norm}", _DIVERGED
                )
            rate = config.learning_rate * learning_rate_factor(step, steps, config.schedule, config.warmup)
            _check_rate(rate * max(1.0, config.b_ratio), step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["ratio"]
            optimizer.step()
            anchor.pull(rate, config.b_ratio)
            losses.append(loss)
            tokens += sum(micro.tokens for micro in batch)
            computed_tokens += sum(micro.ids.shape[1] for micro in batch)
            loss_tokens += sum(micro.targets.shape[0] for micro in batch)
            if on_step is not None:
                on_step(StepReport(step + 1, steps, loss, rate, norm, tokens, time.perf_counter() - started))
    optimizer.zero_grad()  # gives the gradients' memory back
    quarter = math.ceil(steps / 4)
    return TrainingStats(
        steps=steps,
        examples=len(learnable),
        tokens=tokens,
        computed_tokens=computed_tokens,
        loss_tokens=loss_tokens,
        first_loss=sum(losses[:quarter]) / quarter,
        last_loss=sum(losses[-quarter:]) / quarter,
        seconds=time.perf_counter() - started,
    )


def _batches(examples: Sequence[Example], config: TrainingConfig, seed: int) -> Iterator[list[int]]:
    """Endless batches of indices of examples, with the streams' shares where these are configured."""
    costs, size = batch_costs(examples, config)
    shares = _shares(examples, config)
    if not shares:
        return batches(costs, size, seed)
    return mixed_batches(costs, [example.stream for example in examples], shares, size, seed)


def _shares(examples: Sequence[Example], config: TrainingConfig) -> dict[Stream, float]:
    """Share of each stream that has examples; empty if none is configured.

    What is configured for a stream that is empty goes to the others.
    """
    wanted = {Stream.DEMONSTRATION: config.demonstration_share, Stream.RECENT: config.recent_share}
    if all(share is None for share in wanted.values()):
        return {}
    here = {example.stream for example in examples}
    shares = {stream: share for stream, share in wanted.items() if share is not None and stream in here}
    others = [stream for stream in Stream if stream in here and stream not in shares]
    shares |= {stream: (1.0 - sum(shares.values())) / len(others) for stream in others}
    total = sum(shares.values())
    if not total:  # nothing is here but what was to have no share
        return dict.fromkeys(here, 1.0 / len(here))
    return {stream: share / total for stream, share in shares.items() if share}


class _Anchor:
    """Where an update began: what is frozen stays there, and what is trained is pulled towards it."""

    def __init__(self, lora: LoraModel, trained: Trained, proximal: float) -> None:
        self._parameters = lora.parameters()
        self._masks = {} if trained.whole else {n: _mask(trained, n, p) for n, p in self._parameters.items()}
        self._proximal = proximal
        keeps = bool(self._masks or proximal)
        self._start = {n: p.detach().clone() for n, p in self._parameters.items()} if keeps else {}

    def mask_gradients(self) -> None:
        """What is frozen has no gradient, and so no share in the norm that is clipped."""
        for name, mask in self._masks.items():
            gradient = self._parameters[name].grad
            assert gradient is not None
            gradient.mul_(mask)

    @torch.no_grad()
    def pull(self, rate: float, b_ratio: float) -> None:
        """After a step; weight decay moves what is frozen, and this takes it back."""
        for name, start in self._start.items():
            parameter = self._parameters[name]
            if self._proximal:
                pace = rate * (b_ratio if factor_of(name) == "B" else 1.0)
                parameter.lerp_(start, min(1.0, pace * self._proximal))
            if name in self._masks:
                parameter.copy_(torch.where(self._masks[name], parameter, start))


def _mask(trained: Trained, name: str, parameter: nn.Parameter) -> torch.Tensor:
    mask = torch.zeros_like(parameter, dtype=torch.bool)
    index = trained.index(name)
    if index is not None:
        mask[index] = True
    return mask


def accumulate_gradients(lora: LoraModel, batch: Sequence[MicroBatch], clip: float = 0.2) -> float:
    """Add the gradients of the batch's weighted mean loss per agent token to the adapter; returns that loss.

    The mean is over the agent tokens of the whole batch, so that it does not matter how the batch was split.
    """
    weight = sum(float(micro.weights.abs().sum(dtype=torch.float64)) for micro in batch)
    total = 0.0
    for micro in batch:
        loss = agent_loss(lora.base.model, micro.to(lora.base.device), clip) / weight
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def _check_rate(rate: float, step: int, steps: int) -> None:
    """Refuse a learning rate of which the optimizer cannot make a float32, before it has changed the adapter."""
    longest = rate / (1.0 - _BETAS[0] ** (step + 1))  # Adam's correction of the first moment lengthens early steps
    if longest > torch.finfo(torch.float32).max:
        raise DivergenceError(
            f"step {step + 1} of {steps}: the learning rate {rate:g} is more than float32 has", _DIVERGED
        )


def _optimizer(lora: LoraModel, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW over the A and the B factors, whose learning rates may differ (LoRA+: Hayou et al., arXiv 2402.12354)."""
    factors = [lora.factors(path) for path in sorted(lora.layers)]
    groups = [
        {"params": [factor_a for factor_a, _ in factors], "ratio": 1.0},
        {"params": [factor_b for _, factor_b in factors], "ratio": config.b_ratio},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=_BETAS, weight_decay=config.weight_decay)


@contextmanager
def _dropout(lora: LoraModel, seed: int) -> Iterator[None]:
    """Dropout on the adapter's inputs inside the block, as configured.

    torch's dropout knows the global generators only, so these are seeded here and put back afterwards: the caller's
    random state neither decides the masks nor moves.
    """
    if lora.config.dropout == 0:
        yield
        return
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed("dropout", seed))
        try:
            for layer in lora.layers.values():
                layer.lora_dropout.train()
            yield
        finally:
            for layer in lora.layers.values():
                layer.lora_dropout.eval()
