from __future__ import annotations

import pytest


@pytest.fixture
def without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here cuts the power, and waiting for the disk takes a third of the time."""
    monkeypatch.setattr("fedse.storage.os.fsync", lambda descriptor: None)
