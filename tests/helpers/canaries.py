"""Strings that a site must not give away, and where to look for them."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

from fedse.experience.store import ExperienceStore
from fedse.experience.trajectory_files import read_trajectories


def forms(text: str) -> Iterable[bytes]:
    """A text as it may be hidden in bytes: as it is, reversed, in wide characters, as hexadecimal digits or base64."""
    raw = text.encode()
    yield from (raw, raw[::-1], text.upper().encode(), text.encode("utf-16-le"), raw.hex().encode())
    for shift in range(3):  # of base64 only what does not depend on the neighbours
        coded = base64.b64encode(bytes(shift) + raw).rstrip(b"=")
        yield coded[4 if shift else 0 : len(coded) // 4 * 4 - 4]


def found_in(content: bytes, texts: Iterable[str]) -> list[str]:
    return [text for text in texts if any(form in content for form in forms(text))]


def names_and_bytes(folder: Path) -> bytes:
    """The names of all files in a folder, and what they hold."""
    files = [str(path.relative_to(folder)).encode() for path in folder.rglob("*")]
    return b"\n".join([*files, *(path.read_bytes() for path in folder.rglob("*") if path.is_file())])


def seen_at(folder: Path) -> set[str]:
    """All texts that sites have in their trajectories and stores."""
    trajectories = [trajectory for path in folder.rglob("*.jsonl.gz") for trajectory in read_trajectories(path)]
    for path in folder.rglob("experience.sqlite"):
        with ExperienceStore(path) as store:
            trajectories += store.trajectories()
    texts: set[str] = set()
    for trajectory in trajectories:
        texts |= {trajectory.task.id, trajectory.instruction, trajectory.final_observation, trajectory.error}
        texts |= {text for turn in trajectory.turns for text in (turn.observation, turn.response, turn.action)}
    return texts
