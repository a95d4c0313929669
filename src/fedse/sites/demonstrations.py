"""Demonstrations from elsewhere: episodes of AgentTraj files, replayed before they are believed.

Such files tell what was said, not what came of it, and were made on other versions of the environments.  Only an
episode that succeeds here, action by action, becomes a trajectory; observations and rewards are those of the replay.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from fedse.agent.parsing import format_response, parse_response
from fedse.agent.renderers import Renderer
from fedse.environments.agentgym.counterpart import counterpart_of
from fedse.environments.base import Environment
from fedse.errors import ConfigError, EnvironmentFault
from fedse.experience.agenttraj import Conversation, read_agenttraj
from fedse.messages.report import task_digest
from fedse.rollout.episode import Episode, EpisodeRequest
from fedse.storage import storage_errors
from fedse.texts import counted
from fedse.types import Source, StopReason, Task, Trajectory

#: Reasons of one file that a message quotes.
_QUOTED = 3


class Refusal(StrEnum):
    """Why an episode of a file was not confirmed."""

    OTHER_ENVIRONMENT = "of another environment"
    UNKNOWN_TASK = "unknown task"
    HELD_OUT = "held out for testing"
    FAILURE = "failed in the replay"
    CUT_OFF = "ends before a success"
    TURN_LIMIT = "longer than the turn limit"
    CONTEXT = "longer than the context"
    FAULT = "fault of the environment"


@dataclass(frozen=True, slots=True)
class Refused:
    """One episode that was not confirmed.

    Attributes:
        item_id: the episode's name in the file.
        reason: why.
        detail: what happened, with texts of the environment.
    """

    item_id: str
    reason: Refusal
    detail: str

    def __str__(self) -> str:
        return f"{self.item_id}: {self.reason.value}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Imported:
    """What a file gave.

    Attributes:
        path: the file.
        digest: SHA-256 of its content, so that a report can tell which file it was.
        confirmed: episodes that succeeded in the replay, in the order of the file, with source ``IMPORTED``.
        refused: the others that were looked at, in the order of the file.
    """

    path: Path
    digest: str
    confirmed: tuple[Trajectory, ...]
    refused: tuple[Refused, ...]

    @property
    def reasons(self) -> Mapping[str, int]:
        """Reason → how many episodes were refused for it."""
        return dict(sorted(Counter(refused.reason.value for refused in self.refused).items()))


def import_demonstrations(
    path: Path,
    environment: Environment,
    *,
    instruction: str,
    count: int | None = None,
    held_out: Collection[str] = (),
    renderer: Renderer | None = None,
    thoughts: bool = True,
    longest: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Replay the episodes of an AgentTraj file and keep those that succeed.

    Args:
        path: a file in AgentTraj's format.
        environment: an instance of its own.
        instruction: the system message that the trajectories record, in place of the file's.
        count: stop after so many confirmed episodes.
        held_out: digests of tasks that must not be learnt from.
        renderer: renders token records, if given.
        thoughts: whether they are taken over.
        longest: tokens that an episode may have where a renderer counts them.
        on_progress: told (episodes looked at, episodes in the file).

    Raises:
        StoreError, StorageError: if the file is missing, damaged or of another format.
        ConfigError: if no episode could be confirmed.
        EnvironmentFault: if the environment cannot even begin a task of its own, or if fewer than ``count`` episodes
            (without ``count``, none) could be confirmed and some were lost to its faults.
    """
    conversations = read_agenttraj(path)
    with storage_errors("read", path):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    forbidden = frozenset(held_out)
    confirmed: list[Trajectory] = []
    refused: list[Refused] = []
    for number, conversation in enumerate(conversations, start=1):
        if count is not None and len(confirmed) >= count:
            break
        result = _replay(environment, conversation, forbidden, instruction, thoughts=thoughts)
        if renderer and isinstance(result, Trajectory):
            result = _rendered(result, renderer, conversation, longest)
        if isinstance(result, Refused):
            refused.append(result)
        else:
            confirmed.append(result)
        if on_progress:
            on_progress(number, len(conversations))
    if not conversations:
        raise ConfigError(f"{path} holds no episodes", "fedse demos writes such files")
    faults = [bad for bad in refused if bad.reason is Refusal.FAULT]
    if faults and len(confirmed) < (count or 1):
        raise EnvironmentFault(
            f"{path}: {counted(len(confirmed), 'episode')} confirmed and {len(faults)} lost to faults, as {faults[0]}",
            f"mend the environment (fedse env check {environment.name}), or take these episodes out of the file",
        )
    if refused and not confirmed:
        quoted = "".join(f"\n  - {bad}" for bad in refused[:_QUOTED])
        raise ConfigError(
            f"{path}: of {counted(len(refused), 'episode')} none could be confirmed in {environment.name}:{quoted}",
            "check that the file belongs to this environment, and the environment's options",
        )
    return Imported(path, digest, tuple(confirmed), tuple(refused))


def _replay(
    environment: Environment,
    conversation: Conversation,
    held_out: frozenset[str],
    instruction: str,
    *,
    thoughts: bool,
) -> Trajectory | Refused:
    """Play an episode's replies again, in the reply format of our own instruction."""

    def refuse(reason: Refusal, detail: str) -> Refused:
        return Refused(conversation.item_id, reason, detail)

    prefix = f"{environment.name}_"
    if not conversation.item_id.startswith(prefix):
        return refuse(Refusal.OTHER_ENVIRONMENT, f"its item_id does not begin with {prefix!r}")
    said = [message.content for message in conversation.messages if message.role == "assistant"]
    seen = next((message.content for message in conversation.messages if message.role == "user"), "")
    task = counterpart_of(environment).imported_task(conversation.item_id.removeprefix(prefix), seen)
    if task is None:
        return refuse(Refusal.UNKNOWN_TASK, "nothing says which task it was")
    if task_digest(task) in held_out:
        return refuse(Refusal.HELD_OUT, f"{task} is a task of the test split")
    if unknown := _unknown(environment, task):
        return refuse(Refusal.UNKNOWN_TASK, unknown)
    episode = Episode(environment, EpisodeRequest(task, 0), instruction=instruction, turns=environment.spec.max_turns)
    episode.start()
    for reply in said:
        if episode.stop is not None:
            break
        episode.reply(_our_form(environment, reply, thoughts=thoughts))
    if episode.stop is None:
        return refuse(Refusal.CUT_OFF, f"after {counted(len(said), 'turn')} it says {episode.observation!r}")
    trajectory = episode.trajectory(source=Source.IMPORTED)
    if trajectory.success:
        return trajectory
    if trajectory.stop is StopReason.ERROR:
        return refuse(Refusal.FAULT, trajectory.error)
    reason = Refusal.TURN_LIMIT if trajectory.stop is StopReason.TURN_LIMIT else Refusal.FAILURE
    return refuse(reason, f"after {counted(len(trajectory.turns), 'turn')} it says {trajectory.final_observation!r}")


def _rendered(
    trajectory: Trajectory, renderer: Renderer, conversation: Conversation, longest: int | None
) -> Trajectory | Refused:
    """The trajectory with its tokens, if they are not too many."""
    tokens = renderer.render(trajectory)
    if longest is not None and len(tokens.ids) > longest:
        return Refused(
            conversation.item_id, Refusal.CONTEXT, f"{counted(len(tokens.ids), 'token')}, of {longest} at most"
        )
    return replace(trajectory, tokens=tokens)


def _unknown(environment: Environment, task: Task) -> str:
    """What the environment says of a task that it does not have; empty if it has it, and has begun it.

    Raises:
        EnvironmentFault: if it cannot begin a task of its own either.
    """
    try:
        environment.reset(task)
    except EnvironmentFault:
        environment.reset(environment.tasks("train")[0])  # which is there; else it is the environment that is broken
        try:
            environment.reset(task)  # the fault may have passed
        except EnvironmentFault as fault:
            return fault.what
    return ""


def _our_form(environment: Environment, reply: str, *, thoughts: bool) -> str:
    """The reply as our instruction asks for it; unchanged if it breaks the form, so that the same happens as there."""
    parsed = parse_response(reply, environment.spec.action_rule)
    return reply if parsed.error is not None else format_response(parsed.thought if thoughts else "", parsed.action)
