"""A site's work as progress events."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from fedse.progress import Event, Listener, Phase

if TYPE_CHECKING:
    from fedse.learning.update import StepReport
    from fedse.rollout.player import RolloutProgress
    from fedse.runs.phases import PhaseReport


class SiteProgress:
    """Tells a listener what one site, or one environment at a site, does.

    Args:
        listener: whom to tell.
        client: the site at work.
    """

    def __init__(self, listener: Listener, client: str) -> None:
        self._listener = listener
        self._client = client

    def demonstrations(self) -> Callable[[int, int], None]:
        """For demonstrations: (done, wanted) of the expert's, (looked at, in the file) of imported ones."""
        return lambda done, total: self._listener(Event(Phase.DEMONSTRATE, 0, self._client, done, total))

    def episodes(self, phase: Phase, round: int, note: str = "") -> Callable[[RolloutProgress], None]:
        """For rollouts."""
        return lambda progress: self._listener(
            Event(
                phase,
                round,
                self._client,
                progress.done,
                progress.total,
                successes=progress.successes,
                tokens=progress.tokens,
                seconds=progress.seconds,
                note=note,
                trouble=progress.trouble,
            )
        )

    def steps(self, round: int) -> Callable[[StepReport], None]:
        """For optimizer steps."""
        return lambda step: self._listener(
            Event(
                Phase.TRAIN,
                round,
                self._client,
                step.step,
                step.steps,
                tokens=step.tokens,
                seconds=step.seconds,
                loss=step.loss,
            )
        )

    def finished(self, phase: Phase, round: int, report: PhaseReport, note: str = "") -> None:
        """The phase is complete, now or before a resume."""
        metrics = report.metrics
        done = metrics["steps"] if phase is Phase.TRAIN else metrics["episodes"]
        self._listener(
            Event(
                phase,
                round,
                self._client,
                done,
                done,
                successes=metrics.get("successes", 0),
                errors=metrics.get("errors", 0),
                tokens=metrics.get("tokens", 0),
                seconds=report.seconds,
                loss=metrics.get("last_loss", math.nan),
                finished=True,
                note=note,
            )
        )
