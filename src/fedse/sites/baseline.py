"""Taking over the evaluation of the base model from another run, where both would play the same episodes.

Before round 1 every run plays the held-out tasks with the initial adapter, whose B factors are zero: with the bare base
model.  Runs of one model and seed that differ in their method or in the shape of their adapters play the very same
episodes there, and one of them is enough.  Episodes that one run lost to faults another may well play, so an evaluation
with such is not taken over.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedse.adapters.files import load_adapter
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.runs.folder import read_config
from fedse.runs.identity import base_play
from fedse.runs.layout import EnvironmentFolder, RunFolder
from fedse.runs.phases import PhaseReport, complete, completed
from fedse.storage import atomic_write, storage_errors


def adopt_baseline(
    config: RunConfig, name: str, folder: RunFolder, donors: Iterable[Path], *, adapter: AdapterState
) -> None:
    """Copy the base model's held-out episodes of an environment from the first run folder that has the same.

    An evaluation that is complete stays as it is.  What is copied took this run no time, and its marker says so.

    Args:
        config: the run that is to have them.
        name: of the environment at its site.
        folder: of the run, which has its ``versions.json``.
        donors: run folders on the same machine; they may be missing, unfinished or at work.
        adapter: the initial adapter, which knows the fingerprint of the run's base model; a model's name may mean a
            folder whose weights were replaced.

    Raises:
        RunError, AdapterError: if a donor's files are damaged.
        ConfigError: if its configuration is not valid.
        StorageError: if a file cannot be read or written.
    """
    client = next(client for client in config.clients if client.name == name)
    ours = folder.environment(client)
    for donor in map(RunFolder, donors):
        if ours.evaluation_marker(0).exists():
            return
        if (
            donor.server.config.is_file()
            and _same_versions(donor, folder)
            and _same_base(donor, adapter.meta.base_model)
        ):
            other = read_config(donor.server)
            for twin in other.clients:
                if twin.name == name and base_play(config, client) == base_play(other, twin):
                    _adopt(donor.environment(twin), ours, adapter.digest)


def _adopt(theirs: EnvironmentFolder, ours: EnvironmentFolder, adapter: str) -> None:
    marker = theirs.evaluation_marker(0)
    if not marker.exists():
        return
    report = completed(marker)
    if report.metrics["errors"]:
        return
    with storage_errors("read", theirs.evaluation(0)):
        content = theirs.evaluation(0).read_bytes()
    atomic_write(ours.evaluation(0), content)
    complete(ours.evaluation_marker(0), PhaseReport(report.metrics, seconds=0.0, ended=report.ended, adapter=adapter))


def _same_versions(donor: RunFolder, folder: RunFolder) -> bool:
    """Another version of a library may round otherwise, and so play otherwise."""
    theirs, ours = donor.server.versions, folder.server.versions
    if not (theirs.is_file() and ours.is_file()):
        return False
    with storage_errors("read", theirs):
        return theirs.read_bytes() == ours.read_bytes()


def _same_base(donor: RunFolder, base_model: str) -> bool:
    initial = donor.server.global_adapter(0)
    return initial.is_dir() and load_adapter(initial).meta.base_model == base_model
