"""All figures of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fedse.report.charts_sites import (
    bytes_figures,
    conflict_figures,
    exploration_figures,
    loss_figures,
    store_figures,
    traffic_figures,
    transfer_figures,
)
from fedse.report.charts_success import (
    ablation_figures,
    demonstration_figures,
    difference_figures,
    success_figures,
)
from fedse.report.figures import Figure
from fedse.report.study import Study
from fedse.report.timeline import timeline_figures
from fedse.results.standings import Standing


def all_figures(study: Study, standings: Sequence[Standing]) -> dict[str, list[Figure]]:
    """Part of the report → its figures; no two have one name.  A part without data has none.

    What goes on at the sites is drawn for the methods of a suite, not for its ablations, of which there are many.

    Raises:
        AdapterError, StorageError: if an adapter is damaged or cannot be read.
    """
    labels = {group.label for group in study.ablations}
    of_methods = [standing for standing in standings if standing.group.label not in labels]
    of_ablations = difference_figures([found for found in standings if found.group.label in labels], "ablation")
    parts = {
        "differences": difference_figures(of_methods, "difference"),
        "success": success_figures(study.methods),
        "demonstrations": demonstration_figures(of_methods),
        "ablations": of_ablations + ablation_figures(study.ablations, study.references),
        "bytes": bytes_figures(standings),
        "transfer": transfer_figures(study.groups),
        "conflict": conflict_figures(study.methods),
        "exploration": exploration_figures(study.methods),
        "loss": loss_figures(study.methods),
        "experience": store_figures(study.methods),
        "timeline": timeline_figures(study.methods),
        "traffic": traffic_figures(study.methods),
    }
    taken: Counter[str] = Counter()
    for figures in parts.values():
        for at, figure in enumerate(figures):
            taken[figure.name] += 1  # labels that differ in punctuation only make one name
            if taken[figure.name] > 1:
                figures[at] = replace(figure, name=f"{figure.name}--{taken[figure.name]}")
    return parts
