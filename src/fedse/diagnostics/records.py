"""Diagnostics as rows of round, client, other, metric and value: a table that plotting and statistics programs read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from fedse.diagnostics.rounds import RoundDiagnostics
from fedse.results.formatting import csv_text

COLUMNS = ("round", "client", "other", "metric", "value")
DiagnosticRow = tuple[int, str, str, str, float]


def as_csv(rounds: Sequence[RoundDiagnostics]) -> str:
    """One row per figure, with a header; ``client`` and ``other`` are empty for figures of the whole federation."""
    rows = (row for of_round in rounds for row in (*_update_rows(of_round), *_client_rows(of_round)))
    return csv_text(COLUMNS, rows)


def _update_rows(of_round: RoundDiagnostics) -> Iterator[DiagnosticRow]:
    if not of_round.clients:
        return
    for part, conflict in of_round.conflicts.items():
        yield of_round.round, "", "", f"cosine_mean_{part}", conflict.mean_cosine
        yield of_round.round, "", "", f"cosine_lowest_{part}", conflict.lowest_cosine
        yield of_round.round, "", "", f"opposed_{part}", conflict.opposed
        yield of_round.round, "", "", f"dilution_{part}", conflict.dilution
        yield of_round.round, "", "", f"heterogeneity_{part}", conflict.heterogeneity
        for j, client in enumerate(of_round.clients):
            for k, other in enumerate(of_round.clients[:j]):
                yield of_round.round, client, other, f"cosine_{part}", float(conflict.cosines[j, k])
    for factor, agreement in of_round.sign_agreement.items():
        yield of_round.round, "", "", f"sign_agreement_{factor}", agreement
    yield of_round.round, "", "", "gradient_heterogeneity", of_round.gradient_heterogeneity
    yield of_round.round, "", "", "aggregation_error_of_product", of_round.error.of_product
    yield of_round.round, "", "", "aggregation_error_of_update", of_round.error.of_update


def _client_rows(of_round: RoundDiagnostics) -> Iterator[DiagnosticRow]:
    for way, sizes in (("bytes_up", of_round.bytes_up), ("bytes_down", of_round.bytes_down)):
        for client, size in sizes.items():
            yield of_round.round, client, "", way, size
    for client, buffer in of_round.buffers.items():
        for name, value in asdict(buffer).items():
            yield of_round.round, client, "", f"buffer_{name}", value
    for client, bins in of_round.lengths.items():
        for length in bins:
            turns = f"{length.shortest}-{length.longest}_turns"
            yield of_round.round, client, "", f"episodes_{turns}", length.episodes
            yield of_round.round, client, "", f"successes_{turns}", length.successes
            yield of_round.round, client, "", f"reward_{turns}", length.reward
