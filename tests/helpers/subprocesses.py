"""Processes that the tests start."""

from __future__ import annotations

import os
from pathlib import Path

HELPERS = Path(__file__).parent


def environment(*folders: Path, **variables: str) -> dict[str, str]:
    """This process's environment, in which Python also finds ``helpers`` and what lies in ``folders``."""
    path = [str(HELPERS.parent), *map(str, folders), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)} | variables
