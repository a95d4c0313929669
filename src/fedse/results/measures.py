"""The numbers of a run in tidy form: one value a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedse.config import RunConfig
from fedse.progress import Phase
from fedse.results.exchange import Traffic
from fedse.runs.evaluators import evaluators
from fedse.runs.phases import PhaseReport
from fedse.types import RoundRecord, SuccessRate

Phases = Mapping[tuple[str, int], Mapping[Phase, PhaseReport]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value.

    Attributes:
        round: 0 before the first.
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


def measure(config: RunConfig, records: Sequence[RoundRecord], phases: Phases, sent: Traffic) -> Iterator[Measurement]:
    """All values of a run, round by round.

    Args:
        config: of the run.
        records: the completed rounds.
        phases: (client, round) → reports of its completed phases; they add the evaluation's seconds and the round that
            is under way.
        sent: (client, round, metric) → bytes of adapters.
    """
    environments = {client.name: client.environment for client in config.clients}
    sites_of = evaluators(config)
    for record in records:
        for label, rate in record.evaluation.items():
            values = {
                "successes": rate.successes,
                "episodes": rate.episodes,
                "errors": rate.errors,
                "low": rate.low,
                "high": rate.high,
            }
            values |= {"rate": rate.rate} if rate.episodes else {}
            site = sites_of.get(label, "")
            for metric, value in values.items():
                yield Measurement(record.round, site, label, Phase.EVALUATE, metric, float(value))
        for site, done in record.clients.items():
            yield from _of_site(record.round, site, environments.get(site, ""), done)
        yield from _numbers(record.round, "", "", Phase.TRAIN, record.pooled)  # the server's, on all sites' experience
        for site, rates in record.transfer.items():
            yield from _transfer(record.round, site, rates)
        if "aggregate" in record.seconds:
            yield Measurement(record.round, "", "", Phase.AGGREGATE, "seconds", float(record.seconds["aggregate"]))
    for (site, round), reports in phases.items():
        for phase, report in reports.items():
            if phase is Phase.EVALUATE:
                yield Measurement(round, site, environments[site], phase, "seconds", float(report.seconds))
            elif round >= len(records):
                metrics = {**report.metrics, "seconds": report.seconds}
                yield from _numbers(round, site, environments[site], phase, metrics)
    for (site, round, way), size in sent.items():
        yield Measurement(round, site, environments[site], Phase.AGGREGATE, way, float(size))


def _of_site(round: int, site: str, environment: str, done: Mapping[str, Any]) -> Iterator[Measurement]:
    for name, metrics in done.items():
        if name == "outcome":
            accepted = float(metrics == "ok")
            yield Measurement(round, site, environment, Phase.AGGREGATE, "accepted", accepted)
        else:
            yield from _numbers(round, site, environment, Phase(name), metrics)


def _transfer(round: int, site: str, rates: Mapping[str, SuccessRate]) -> Iterator[Measurement]:
    """Success of a site's own adapter in every environment."""
    for environment, rate in rates.items():
        for metric, value in {"successes": rate.successes, "episodes": rate.episodes, "errors": rate.errors}.items():
            yield Measurement(round, site, environment, Phase.EVALUATE, f"transfer.{metric}", float(value))


def _numbers(
    round: int, site: str, environment: str, phase: Phase, metrics: Mapping[str, Any], path: str = ""
) -> Iterator[Measurement]:
    """Numbers of a mapping, also of mappings inside it; texts such as checksums are left out."""
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            yield from _numbers(round, site, environment, phase, value, f"{path}{name}.")
        elif isinstance(value, int | float):
            yield Measurement(round, site, environment, phase, f"{path}{name}", float(value))
