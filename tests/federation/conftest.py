from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from fedse.learning.examples import Example
from fedse.learning.update import local_update
from fedse.models.lora import LoraModel
from fedse.sites.environment import SiteEnvironment

#: What a local update was given: the digest of its start, its examples and its steps.
LocalUpdate = tuple[str, list[Example], int | None]


@pytest.fixture
def without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power, and waiting for the disk takes a third of the time."""
    monkeypatch.setattr("fedse.storage.os.fsync", lambda descriptor: None)


@pytest.fixture
def local_updates(monkeypatch: pytest.MonkeyPatch) -> list[LocalUpdate]:
    """All local updates, as they are made."""
    found: list[LocalUpdate] = []

    def watched(lora: LoraModel, examples: Sequence[Example], settings: Any, **options: Any) -> Any:
        found.append((lora.state().digest, list(examples), settings.steps))
        return local_update(lora, examples, settings, **options)

    monkeypatch.setattr("fedse.sites.training.local_update", watched)
    return found


@pytest.fixture
def explored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of the adapters that explored, in order."""
    found: list[str] = []
    play = SiteEnvironment._play

    def watched(self: SiteEnvironment, number: int, adapter: Any, part: Any) -> Any:
        found.append(adapter.digest)
        return play(self, number, adapter, part)

    monkeypatch.setattr(SiteEnvironment, "_play", watched)
    return found
