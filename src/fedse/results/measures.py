"""The numbers of a run in tidy form: one value a row, also as a table for other programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedse.config import RunConfig
from fedse.federation.evaluators import evaluators
from fedse.progress import Phase
from fedse.results.formatting import csv_text
from fedse.storage import atomic_write
from fedse.types import RoundRecord, SuccessRate

if TYPE_CHECKING:
    from fedse.results.exchange import Traffic
    from fedse.results.reading import FinishedPhase, Run

COLUMNS = ("run", "name", "seed", "round", "site", "environment", "phase", "metric", "value")
#: As the columns say.
MetricRow = tuple[str, str, int, int, str, str, str, str, float]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value of a round.

    Attributes:
        site: the client; empty for the server.
        environment: the site's environment, or the label of an evaluation; empty for the server.
        phase: where the value comes from; adapters travel in the phase ``aggregate``.
        metric: its name in ``metrics.jsonl``; parts of a mapping are joined by dots, as in ``dropped.repetition``.
        value: in the metric's own unit: counts, seconds, bytes, nats per token, rates in [0, 1].
    """

    round: int
    site: str
    environment: str
    phase: Phase
    metric: str
    value: float


def metric_rows(runs: Sequence[Run]) -> Iterator[MetricRow]:
    """Every number of the runs, one a row."""
    for run in runs:
        place, config = str(run.folder), run.config
        for value in run.measurements:
            where = (value.round, value.site, value.environment, value.phase.value)
            yield place, config.name, config.seed, *where, value.metric, value.value


def write_csv(path: Path, runs: Sequence[Run]) -> None:
    """Write every number of the runs, one a row, as CSV (RFC 4180) with a heading.

    Raises:
        StorageError: if the file cannot be written.
    """
    text = csv_text(COLUMNS, ((*row[:-1], f"{row[-1]:.10g}") for row in metric_rows(runs)))
    atomic_write(path, text.encode(errors="replace"))


def measure(
    config: RunConfig, records: Sequence[RoundRecord], phases: Sequence[FinishedPhase], sent: Traffic
) -> Iterator[Measurement]:
    """All values of a run, round by round.

    The completed phases add the evaluations' seconds and the round that is under way; ``sent`` are the bytes of the
    messages with adapters.
    """
    environments = {client.name: client.environment for client in config.clients}
    sites_of = {label: client.name for label, client in evaluators(config).items()}
    for record in records:
        for label, rate in record.evaluation.items():
            known = {"rate": rate.rate} if rate.episodes else {}
            values = _counts(rate) | {"low": rate.low, "high": rate.high} | known
            yield from _numbers(record.round, sites_of.get(label, ""), label, Phase.EVALUATE, values)
        for site, metrics in record.clients.items():
            for name, values in metrics.items():
                if name == "outcome":
                    name, values = Phase.AGGREGATE, {"accepted": values == "ok"}
                yield from _numbers(record.round, site, environments.get(site, ""), Phase(name), values)
        for site, rates in record.transfer.items():  # of a site's own adapter in every environment
            for label, rate in rates.items():
                yield from _numbers(record.round, site, label, Phase.EVALUATE, {"transfer": _counts(rate)})
        if "aggregate" in record.seconds:
            yield Measurement(record.round, "", "", Phase.AGGREGATE, "seconds", float(record.seconds["aggregate"]))
    for done in phases:
        if done.phase is Phase.EVALUATE or done.round >= len(records):
            values = {**({} if done.phase is Phase.EVALUATE else done.metrics), "seconds": done.seconds}
            yield from _numbers(done.round, done.site, environments.get(done.site, ""), done.phase, values)
    for (site, number, way), size in sent.items():
        yield Measurement(number, site, environments.get(site, ""), Phase.AGGREGATE, way, float(size))


def _counts(rate: SuccessRate) -> dict[str, float]:
    return {"successes": rate.successes, "episodes": rate.episodes, "errors": rate.errors}


def _numbers(
    number: int, site: str, environment: str, phase: Phase, metrics: Mapping[str, Any], path: str = ""
) -> Iterator[Measurement]:
    """Numbers of a mapping, also of mappings inside it; texts such as checksums are left out."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(number, site, environment, phase, value, f"{path}{name}.")
        elif isinstance(value, int | float):
            yield Measurement(number, site, environment, phase, f"{path}{name}", float(value))
