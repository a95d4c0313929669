"""All figures of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from fedse.report import charts_results, charts_sites
from fedse.report.figures import Figure
from fedse.report.study import Study
from fedse.results.standings import Standing


def all_figures(study: Study, standings: Sequence[Standing]) -> dict[str, list[Figure]]:
    """Part of the report → its figures; no two have one name.  A part without data has none.

    What goes on at the sites is drawn for the methods of a suite, not for its ablations, of which there are many.

    Raises:
        AdapterError, StorageError: if an adapter is damaged or cannot be read.
    """
    ablations = {group.label for group in study.ablations}
    of_methods = [found for found in standings if found.group.label not in ablations]
    of_ablations = [found for found in standings if found.group.label in ablations]
    parts = {
        "differences": charts_results.difference_figures(of_methods, "difference"),
        "success": charts_results.success_figures(study.methods),
        "ablations": [
            *charts_results.difference_figures(of_ablations, "ablation"),
            *charts_results.ablation_figures(study.ablations, study.references),
        ],
        "bytes": charts_results.bytes_figures(standings),
        "transfer": charts_results.transfer_figures(study.groups),
        "conflict": charts_sites.conflict_figures(study.methods),
        "exploration": charts_sites.exploration_figures(study.methods),
        "loss": charts_sites.loss_figures(study.methods),
        "experience": charts_sites.store_figures(study.methods),
        "timeline": charts_sites.timeline_figures(study.methods),
        "traffic": charts_sites.traffic_figures(study.methods),
    }
    taken: Counter[str] = Counter()
    for figures in parts.values():
        for at, figure in enumerate(figures):
            taken[figure.name] += 1  # labels that differ in punctuation only make one name
            if taken[figure.name] > 1:
                figures[at] = replace(figure, name=f"{figure.name}--{taken[figure.name]}")
    return parts
