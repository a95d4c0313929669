"""OpenEnv's own client, in a folder of its own and without the hundred packages that it asks for."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

VERSION = "0.10.0"


def openenv_folder() -> Path:
    """Where it is installed; skips the test where it cannot be.

    ``FEDSE_OPENENV`` may name a folder made by ``pip install --no-deps --target FOLDER openenv==…``.
    """
    pytest.importorskip("fastapi")
    pytest.importorskip("requests")
    named = os.environ.get("FEDSE_OPENENV")
    folder = Path(named) if named else _installed()
    if folder is None or not (folder / "openenv").is_dir():
        pytest.skip(f"openenv {VERSION} cannot be installed here; FEDSE_OPENENV may name a folder that has it")
    return folder


@functools.cache
def _installed() -> Path | None:
    folder = Path(tempfile.mkdtemp(prefix="openenv-"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    try:
        done = subprocess.run([*command, f"openenv=={VERSION}"], capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return None
    return folder if done.returncode == 0 else None


def run_client(script: str, *arguments: str, timeout: float = 120) -> str:
    """What a script prints that has OpenEnv's client, as users import it."""
    helper = Path(__file__).with_name("openenv_stand_ins.py")
    done = subprocess.run(
        [sys.executable, "-c", f"exec(open({str(helper)!r}).read())\n{script}", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(openenv_folder()), *sys.path])},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
