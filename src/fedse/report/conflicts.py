"""Conflict of the sites' updates round by round, from the adapters in the run folders."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from fedse.diagnostics.combined import combined_sites, starting_round, update_weights
from fedse.diagnostics.drift import FACTORS, aggregation_error, conflict, factor_gram
from fedse.federation.adapter_io import load_adapter
from fedse.federation.layout import RunLayout
from fedse.report.groups import Group
from fedse.report.reading import Run

#: Measure → what it is; each is a panel.
MEASURES = {
    "cosine_A": "cosine of the updates' A factors",
    "cosine_B": "cosine of the updates' B factors",
    "dilution": "κ: what averaging leaves of the updates",
    "error": "aggregation error, of the change (%)",
}


def group_conflicts(group: Group) -> list[Mapping[int, Mapping[str, float]]]:
    """Seed by seed of a group: round → measure → value; empty for runs whose sites do not exchange adapters.

    Raises:
        AdapterError, StorageError: if an adapter is damaged or cannot be read.
    """
    return [_of_run(run) for run in group.counted]


def _of_run(run: Run) -> dict[int, Mapping[str, float]]:
    if run.config.method.sharing != "federated" or len(run.config.clients) < 2:
        return {}
    found = {}
    for record in run.records[1:]:
        sites = combined_sites(record)
        start = starting_round(run.config, record.round)
        places = [run.layout.global_adapter(start), *(run.layout.update(record.round, site) for site in sites)]
        if len(sites) > 1 and all(place.is_dir() for place in places):
            weights = update_weights(run.config, record, sites)
            found[record.round] = _measured(run.layout, record.round, start, sites, weights)
    return found


@lru_cache(maxsize=4096)
def _measured(
    layout: RunLayout, round: int, start: int, sites: tuple[str, ...], weights: tuple[float, ...]
) -> Mapping[str, float]:
    """The measures of one round; a complete round stays as it is, and a page that follows a run asks again and again.

    Args:
        layout: of the run.
        round: from 1.
        start: the round whose global adapter the updates began from.
        sites: those whose updates were combined.
        weights: of their updates.
    """
    before = load_adapter(layout.global_adapter(start))
    updates = [load_adapter(layout.update(round, site), expect=before.meta) for site in sites]
    grams = {factor: factor_gram(before, updates, factor) for factor in FACTORS}
    values = {f"cosine_{factor}": conflict(gram).mean_cosine for factor, gram in grams.items()}
    values["dilution"] = conflict(grams["A"] + grams["B"]).dilution
    values["error"] = 100 * aggregation_error(before, updates, weights).of_update
    return {measure: value for measure, value in values.items() if math.isfinite(value)}
