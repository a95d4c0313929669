"""Diagnostics as rows of round, client, other, metric and value: a table that plotting and statistics programs read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from fedse.diagnostics.rounds import RoundDiagnostics

COLUMNS = ("round", "client", "other", "metric", "value")
Row = tuple[int, str, str, str, float]


def as_rows(rounds: Sequence[RoundDiagnostics]) -> Iterator[Row]:
    """One row per figure; ``client`` and ``other`` are empty for figures of the whole federation."""
    for found in rounds:
        if found.clients:
            yield from _update_rows(found)
        yield from _client_rows(found)


def as_csv(rounds: Sequence[RoundDiagnostics]) -> str:
    """The rows as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(as_rows(rounds))
    return text.getvalue()


def _update_rows(found: RoundDiagnostics) -> Iterator[Row]:
    yield from _conflict_rows(found)
    for factor, agreement in found.sign_agreement.items():
        yield found.round, "", "", f"sign_agreement_{factor}", agreement
    yield found.round, "", "", "gradient_heterogeneity", found.gradient_heterogeneity
    yield found.round, "", "", "aggregation_error_of_product", found.error.of_product
    yield found.round, "", "", "aggregation_error_of_update", found.error.of_update
    yield found.round, "", "", "bytes_down", found.bytes_down


def _conflict_rows(found: RoundDiagnostics) -> Iterator[Row]:
    for part, conflict in found.conflicts.items():
        yield found.round, "", "", f"cosine_mean_{part}", conflict.mean_cosine
        yield found.round, "", "", f"cosine_lowest_{part}", conflict.lowest_cosine
        yield found.round, "", "", f"opposed_{part}", conflict.opposed
        yield found.round, "", "", f"dilution_{part}", conflict.dilution
        yield found.round, "", "", f"heterogeneity_{part}", conflict.heterogeneity
        for j, client in enumerate(found.clients):
            for k, other in enumerate(found.clients[:j]):
                yield found.round, client, other, f"cosine_{part}", float(conflict.cosines[j, k])


def _client_rows(found: RoundDiagnostics) -> Iterator[Row]:
    for client, count in found.bytes_up.items():
        yield found.round, client, "", "bytes_up", count
    for client, buffer in found.buffers.items():
        yield found.round, client, "", "buffer_episodes", buffer.episodes
        yield found.round, client, "", "buffer_demonstrations", buffer.demonstrations
        yield found.round, client, "", "buffer_fresh", buffer.fresh
        yield found.round, client, "", "buffer_tasks", buffer.tasks
        yield found.round, client, "", "buffer_turns", buffer.turns
    for client, bins in found.lengths.items():
        for length in bins:
            turns = f"{length.shortest}-{length.longest}_turns"
            yield found.round, client, "", f"episodes_{turns}", length.episodes
            yield found.round, client, "", f"successes_{turns}", length.successes
            yield found.round, client, "", f"reward_{turns}", length.reward
