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
from fedse.config import RunConfig
from fedse.progress import Phase
from fedse.runs.folder import read_config
from fedse.runs.identity import base_play
from fedse.runs.layout import RunLayout
from fedse.runs.phases import PhaseReport, complete, completed
from fedse.storage import atomic_write, storage_errors


def adopt_baselines(config: RunConfig, layout: RunLayout, donors: Iterable[Path]) -> None:
    """Copy the base model's held-out episodes of each site from the first run folder that has the same.

    A site's evaluation that is complete already stays as it is.  What is copied took this run no time, and its marker
    says so.

    Args:
        config: the run that is to have them.
        layout: of its folder, which has its ``versions.json`` and its initial adapter.
        donors: run folders on the same machine; they may be missing, unfinished or at work.

    Raises:
        RunError, AdapterError: if a donor's files are damaged.
        ConfigError: if its configuration is not valid.
        StorageError: if a file cannot be read or written.
    """
    for donor in map(RunLayout, donors):
        if not (donor.config.is_file() and _same_versions(donor, layout) and _same_base(donor, layout)):
            continue
        other = read_config(donor)
        sites = {site.name: site for site in other.clients}
        for site in config.clients:
            twin = sites.get(site.name)
            if twin is not None and base_play(config, site) == base_play(other, twin):
                _adopt(donor, layout, site.name)


def _adopt(donor: RunLayout, layout: RunLayout, client: str) -> None:
    theirs, ours = (folder.marker(client, 0, Phase.EVALUATE) for folder in (donor, layout))
    if ours.exists() or not theirs.exists():
        return
    found = completed(theirs)
    if found.metrics["errors"]:
        return
    episodes = donor.evaluation(client, 0)
    with storage_errors("read", episodes):
        content = episodes.read_bytes()
    atomic_write(layout.evaluation(client, 0), content)
    complete(ours, PhaseReport(found.metrics, seconds=0.0))


def _same_versions(donor: RunLayout, layout: RunLayout) -> bool:
    """Another version of a library may round otherwise, and so play otherwise."""
    if not donor.versions.is_file():
        return False
    with storage_errors("read", donor.versions):
        return donor.versions.read_bytes() == layout.versions.read_bytes()


def _same_base(donor: RunLayout, layout: RunLayout) -> bool:
    """A model's name may mean a folder whose weights have been replaced."""
    if not donor.global_adapter(0).is_dir():
        return False
    theirs, ours = (load_adapter(folder.global_adapter(0)).meta.base_model for folder in (donor, layout))
    return theirs == ours
