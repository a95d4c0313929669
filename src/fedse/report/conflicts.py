"""Conflict of the sites' updates round by round."""

from __future__ import annotations

from fedse.results.exchange import Conflicts, round_conflicts
from fedse.results.groups import Group

#: Measure → what it is; each is a panel.
MEASURES = {
    "cosine_A": "cosine of the updates' A factors",
    "cosine_B": "cosine of the updates' B factors",
    "dilution": "κ: what averaging leaves of the updates",
    "error": "aggregation error, of the change (%)",
}


def group_conflicts(group: Group) -> list[Conflicts]:
    """Seed by seed of a group: round → measure → value; empty for runs whose sites do not exchange adapters.

    Raises:
        AdapterError, StorageError: if an adapter is damaged or cannot be read.
    """
    return [round_conflicts(run.layout, run.config, run.records) for run in group.counted]
