"""What a site tells beside its answer.  Every field is declared here, and a site may keep back each of them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt

from fedse.messages.wire import Part
from fedse.progress import Phase
from fedse.types import Task

#: Of one task, or of a list of tasks: half of a SHA-256, as hexadecimal digits.
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
#: Reasons are words of our own, never of an environment.
_Counts = Mapping[Annotated[str, Field(pattern=r"^[a-z][a-z _]{0,39}$")], NonNegativeInt]

_P = TypeVar("_P", bound=Part)


class FileSummary(Part):
    """A file of demonstrations: the digest of its content, and how many episodes were refused for what reason."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    refused: _Counts


class PhaseSummary(Part):
    """What a phase did at a site, in numbers; a field is None where the phase has no such number."""

    episodes: NonNegativeInt | None = Field(default=None, description="episodes played or demonstrated")
    errors: NonNegativeInt | None = Field(default=None, description="episodes lost to faults of the environment")
    successes: NonNegativeInt | None = Field(default=None, description="episodes that succeeded")
    kept: NonNegativeInt | None = Field(default=None, description="episodes that the selection kept")
    dropped: _Counts | None = Field(default=None, description="reason → episodes that the selection dropped")
    added: NonNegativeInt | None = Field(default=None, description="episodes that were new to the store")
    file: FileSummary | None = Field(default=None, description="digest of a file of demonstrations, and refusals")
    turns: NonNegativeInt | None = Field(default=None, description="turns of the episodes")
    examples: NonNegativeInt | None = Field(default=None, description="trajectories that were trained on")
    steps: NonNegativeInt | None = Field(default=None, description="optimizer steps")
    tokens: NonNegativeInt | None = Field(default=None, description="tokens generated, or trained on")
    loss_tokens: NonNegativeInt | None = Field(default=None, description="tokens of the agent that were trained on")
    first_loss: float | None = Field(default=None, description="mean loss over the first quarter of the steps, in nats")
    last_loss: float | None = Field(default=None, description="mean loss over the last quarter of the steps, in nats")
    diverged: Annotated[str, Field(max_length=500)] | None = Field(default=None, description="how training diverged")
    seconds: NonNegativeFloat | None = Field(default=None, description="wall-clock time of the phase")

    def metrics(self) -> dict[str, Any]:
        """The fields that have a value, as plain data."""
        return self.model_dump(mode="json", exclude_none=True)


class TaskSummary(Part):
    """Which tasks a site has of an environment, without saying what they are."""

    held_out: tuple[Digest, ...] | None = Field(default=None, description="digests of the tasks that it is tested on")
    training: Digest | None = Field(default=None, description="digest of the list of its training tasks")


#: Field → what it tells.
FIELDS: Mapping[str, str] = {
    name: field.description or "" for part in (PhaseSummary, TaskSummary) for name, field in part.model_fields.items()
} | {
    "rates": "success rates on held-out tasks",
    "moments": "second moments of the layers' inputs in a few directions, where the strategy asks for them",
    "gradients": "how the mean gradient of the local update changed, where the strategy asks for it",
    "errors_in_words": "the words of an error, which may quote the environment",
}
#: What a site tells unless its configuration says otherwise.
DEFAULT_FIELDS = frozenset(FIELDS) - {"errors_in_words"}


class SiteReport(Part):
    """What a site tells.

    Attributes:
        phases: name of the site, or of one of its environments → phase → what the phase did.
        tasks: environment → its tasks.
    """

    phases: Mapping[str, Mapping[Phase, PhaseSummary]] = Field(default_factory=dict)
    tasks: Mapping[str, TaskSummary] = Field(default_factory=dict)

    def only(self, fields: Collection[str]) -> SiteReport:
        """The report without the fields that are not named."""
        return SiteReport(
            phases={
                name: {phase: _only(summary, fields) for phase, summary in phases.items()}
                for name, phases in self.phases.items()
            },
            tasks={name: _only(summary, fields) for name, summary in self.tasks.items()},
        )


def task_digest(task: Task) -> str:
    """The digest of a task."""
    return _digest(str(task))


def tasks_digest(tasks: Iterable[Task], traits: Iterable[object] = ()) -> str:
    """The digest of a list of tasks in its order, with a trait of each if given."""
    return _digest("\n".join([*map(str, tasks), *map(repr, traits)]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _only(summary: _P, fields: Collection[str]) -> _P:
    return type(summary).model_validate(summary.model_dump(include=set(fields)))
