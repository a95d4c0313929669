"""Diagnostics as rows of round, client, other, metric and value: a table that plotting and statistics programs read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedse.diagnostics.rounds import RoundDiagnostics
from fedse.results.formatting import csv_text

COLUMNS = ("round", "client", "other", "metric", "value")
DiagnosticRow = tuple[int, str, str, str, float]


def as_rows(rounds: Sequence[RoundDiagnostics]) -> Iterator[DiagnosticRow]:
    """One row per figure; ``client`` and ``other`` are empty for figures of the whole federation."""
    for of_round in rounds:
        if of_round.clients:
            yield from _update_rows(of_round)
        yield from _client_rows(of_round)


def as_csv(rounds: Sequence[RoundDiagnostics]) -> str:
    """The rows as CSV with a header."""
    return csv_text(COLUMNS, as_rows(rounds))


def _update_rows(of_round: RoundDiagnostics) -> Iterator[DiagnosticRow]:
    yield from _conflict_rows(of_round)
    for factor, agreement in of_round.sign_agreement.items():
        yield of_round.round, "", "", f"sign_agreement_{factor}", agreement
    yield of_round.round, "", "", "gradient_heterogeneity", of_round.gradient_heterogeneity
    yield of_round.round, "", "", "aggregation_error_of_product", of_round.error.of_product
    yield of_round.round, "", "", "aggregation_error_of_update", of_round.error.of_update


def _conflict_rows(of_round: RoundDiagnostics) -> Iterator[DiagnosticRow]:
    for part, conflict in of_round.conflicts.items():
        yield of_round.round, "", "", f"cosine_mean_{part}", conflict.mean_cosine
        yield of_round.round, "", "", f"cosine_lowest_{part}", conflict.lowest_cosine
        yield of_round.round, "", "", f"opposed_{part}", conflict.opposed
        yield of_round.round, "", "", f"dilution_{part}", conflict.dilution
        yield of_round.round, "", "", f"heterogeneity_{part}", conflict.heterogeneity
        for j, client in enumerate(of_round.clients):
            for k, other in enumerate(of_round.clients[:j]):
                yield of_round.round, client, other, f"cosine_{part}", float(conflict.cosines[j, k])


def _client_rows(of_round: RoundDiagnostics) -> Iterator[DiagnosticRow]:
    for way, sizes in (("bytes_up", of_round.bytes_up), ("bytes_down", of_round.bytes_down)):
        for client, size in sizes.items():
            yield of_round.round, client, "", way, size
    for client, buffer in of_round.buffers.items():
        yield of_round.round, client, "", "buffer_episodes", buffer.episodes
        yield of_round.round, client, "", "buffer_demonstrations", buffer.demonstrations
        yield of_round.round, client, "", "buffer_fresh", buffer.fresh
        yield of_round.round, client, "", "buffer_tasks", buffer.tasks
        yield of_round.round, client, "", "buffer_turns", buffer.turns
    for client, bins in of_round.lengths.items():
        for length in bins:
            turns = f"{length.shortest}-{length.longest}_turns"
            yield of_round.round, client, "", f"episodes_{turns}", length.episodes
            yield of_round.round, client, "", f"successes_{turns}", length.successes
            yield of_round.round, client, "", f"reward_{turns}", length.reward
