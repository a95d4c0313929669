"""Local updates as a run makes them: their settings in a round, and what is written down of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fedse.adapters.checks import finite_problems, in_words
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig, TrainingConfig
from fedse.errors import DivergenceError
from fedse.learning.control import Control
from fedse.learning.examples import Example
from fedse.learning.schedule import round_factor
from fedse.learning.update import StepReport, batch_costs, local_update, planned_steps
from fedse.messages import Work
from fedse.models.lora import LoraModel

_T = TypeVar("_T")


def round_settings(run: RunConfig, round: int, steps: int | None = None) -> TrainingConfig:
    """The training settings of a run, with the learning rate of a round and, if given, another budget."""
    settings = run.training
    factor = round_factor(round, run.rounds, settings.round_schedule)
    budget = {} if steps is None else {"steps": steps, "epochs": None}
    return settings.model_copy(update={"learning_rate": settings.learning_rate * factor, **budget})


def steps_for(examples: Sequence[Example], settings: TrainingConfig, *, seed: int) -> int:
    """Optimizer steps of an update with a seed on these examples; 0 without any."""
    if not examples:
        return 0
    costs, size = batch_costs(examples, settings)
    return planned_steps(costs, size, settings, seed=seed)


def fine_tune(
    lora: LoraModel,
    start: AdapterState,
    examples: Sequence[Example],
    settings: TrainingConfig,
    *,
    seed: int,
    work: Work,
    control: Control | None = None,
    on_step: Callable[[StepReport], None],
) -> tuple[AdapterState, dict[str, Any]]:
    """Load an adapter and update it on examples; without any it stays as it is.

    Args:
        lora: the model that is trained.
        start: the adapter that the update begins from.
        examples: what to learn from.
        settings: of the update.
        seed: see :func:`fedse.learning.update.local_update`.
        work: which part is trained, and how.
        control: see :func:`fedse.learning.update.local_update`.
        on_step: likewise.

    Returns:
        The updated adapter, and the metrics of the phase.

    Raises:
        AdapterError: if the adapter does not fit the model.
        DivergenceError: if the update left the finite numbers.
    """
    lora.load(start)
    metrics: dict[str, Any] = {"examples": len(examples), "steps": 0}
    if examples:
        stats = local_update(
            lora,
            examples,
            settings,
            seed=seed,
            trained=work.learned,
            proximal=work.proximal,
            control=control,
            on_step=on_step,
        )
        metrics |= {
            "steps": stats.steps,
            "tokens": stats.tokens,
            "loss_tokens": stats.loss_tokens,
            "first_loss": stats.first_loss,
            "last_loss": stats.last_loss,
        }
    updated = lora.state()
    problems = finite_problems(updated)  # the last step may have gone too far, with nothing after it to show that
    if problems:
        raise DivergenceError(
            f"the updated adapter is not finite: {in_words(problems)}",
            "begin a new run with a lower training.learning_rate",
        )
    return updated, metrics


@dataclass(frozen=True, slots=True)
class Lesson:
    """An example, and the identity of what it teaches; of attempts, which count however often they were made, none."""

    example: Example
    identity: str = ""


def distinct(items: Iterable[_T], identity: Callable[[_T], str]) -> list[_T]:
    """The items in their order, without those that have the identity of an earlier one; the empty one is none."""
    known: set[str] = set()
    found = []
    for item in items:
        if not (name := identity(item)) or name not in known:
            found.append(item)
            known.add(name)
    return found
