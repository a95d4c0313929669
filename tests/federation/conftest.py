"""A distribution with the toy environment, found as any third-party one is: by its entry point."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def toy_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``sys.path`` that declares the environment ``toy``."""
    folder = tmp_path_factory.mktemp("distribution")
    info = folder / "toy_environment-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-environment\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[fedse.environments]\ntoy = toy_environment:Toy\n")
    return folder


@pytest.fixture
def toy(toy_distribution: Path) -> Iterator[None]:
    """The environment ``toy`` is installed for the length of a test."""
    sys.path.append(str(toy_distribution))
    yield
    sys.path.remove(str(toy_distribution))
