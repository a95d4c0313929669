"""Settings of the whole test run, and the toy environment."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is imported: the tiny model's matrices are too small to share between threads, and on a busy machine
# threads that wait for each other cost minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# No test may depend on the hub.
os.environ["HF_HUB_OFFLINE"] = "1"

# A deadline in wall-clock time would make a slow machine look like a fault.
settings.register_profile("fedse", deadline=None)
settings.load_profile("fedse")


@pytest.fixture(scope="session")
def toy_distribution(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for ``sys.path`` that declares toy environments and strategies, as a third-party package does."""
    folder = tmp_path_factory.mktemp("distribution")
    info = folder / "toy_environment-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-environment\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        """[fedse.environments]
toy = helpers.toy_environment:Toy
whispering = helpers.toy_environment:Whispering
[fedse.strategies]
median = helpers.own_strategies:Median
"""
    )
    return folder


@pytest.fixture
def toy(toy_distribution: Path) -> Iterator[None]:
    """The toy environments and strategies are installed for the length of a test."""
    sys.path.append(str(toy_distribution))
    yield
    sys.path.remove(str(toy_distribution))


@pytest.fixture(scope="module")
def warm_workers() -> Iterator[None]:
    """Worker processes are forked from one that has loaded PyTorch, which takes five seconds, once and for all tests.

    For tests of what workers do; that they start as they do outside the tests, other tests show.
    """
    warm = multiprocessing.get_context("forkserver")
    # pytest as well: every worker imports the main module of the process that asked for it.
    warm.set_forkserver_preload(["fedse.federation.runtimes.workers", "fedse.suites.workers", "scipy.stats", "pytest"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda method=None: warm)
        yield
