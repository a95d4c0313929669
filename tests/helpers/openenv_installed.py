"""Packages of others, each in a folder of its own and without the hundred packages that it asks for."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

OPENENV = "0.10.0"


def package_folder(name: str, version: str) -> Path:
    """Where a package is installed, alone; skips the test where it cannot be.

    ``FEDSE_PACKAGES`` may name a folder made by ``pip install --no-deps --target FOLDER NAME==VERSION …``.
    """
    named = os.environ.get("FEDSE_PACKAGES")
    folder = Path(named) if named else _installed(name, version)
    if folder is None or not (folder / name).is_dir():
        pytest.skip(f"{name} {version} cannot be installed here; FEDSE_PACKAGES may name a folder that has it")
    return folder


@functools.cache
def _installed(name: str, version: str) -> Path | None:
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    try:
        done = subprocess.run([*command, f"{name}=={version}"], capture_output=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return None
    return folder if done.returncode == 0 else None


def run_client(script: str, *arguments: str, timeout: float = 240) -> str:
    """What a script prints that has OpenEnv's client, as users import it."""
    pytest.importorskip("fastapi")
    pytest.importorskip("requests")
    folder = package_folder("openenv", OPENENV)
    helper = Path(__file__).with_name("openenv_stand_ins.py")
    done = subprocess.run(
        [sys.executable, "-c", f"exec(open({str(helper)!r}).read())\n{script}", *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
