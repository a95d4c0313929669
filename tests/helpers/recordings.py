"""Where recordings of the original environments are found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def recording(name: str) -> Path:
    """The file of one recording; skips the test where there is none."""
    folder = os.environ.get("FEDSE_RECORDINGS")
    if not folder:
        pytest.skip("FEDSE_RECORDINGS does not name a folder with recordings of the original environments")
    path = Path(folder) / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"the folder named by FEDSE_RECORDINGS has no {path.name}")
    return path
