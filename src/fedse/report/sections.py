"""The parts of the page that are words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedse.config import ClientConfig
from fedse.evaluation import macro_average
from fedse.report.groups import Group, environments_of, method_settings
from fedse.report.markup import Html, element, table
from fedse.report.reading import Run
from fedse.settings import dump_config
from fedse.types import SuccessRate

_NONE = "–"


def progress(groups: Sequence[Group]) -> Html:
    """What the reader has to know first: runs that are not complete, or not independent, and what went wrong."""
    runs = [(group.label_of(run), run) for group in groups for run in group.runs]
    open_ = [
        f"{label} is not complete: {max(0, len(run.records) - 1)} of {run.config.rounds} rounds done."
        for label, run in runs
        if not run.is_complete
    ]
    twice = [
        f"{group.label} has several runs of one seed; they are pooled as if they were independent."
        for group in groups
        if len({run.config.seed for run in group.runs}) < len(group.runs)
    ]
    lost = [
        f"{label}, {environment}: {rate.errors} held-out episodes of round {record.round} were lost to faults and are "
        f"in no rate."
        for label, run in runs
        for record in run.records
        for environment, rate in record.evaluation.items()
        if rate.errors
    ]
    refused = [
        f"{label}, round {record.round}: the update of {site} was not used ({done['outcome']})."
        for label, run in runs
        for record in run.records
        for site, done in record.clients.items()
        if done.get("outcome", "ok") != "ok"
    ]
    return Html.join(element("p", text, class_="notice") for text in [*open_, *twice, *lost, *refused])


def results(groups: Sequence[Group]) -> Html:
    """Success before the first round and after the last one evaluated, for each group and, with seeds, each run."""
    rows = [row for environment in environments_of(groups) for row in _result_rows(groups, environment)]
    rows += [row for group in groups if (row := _mean_row(group, len(groups) > 1))]
    headings = ("environment", "before", "after", "change", "episodes", "rounds")
    return table(headings, rows, caption="Success on held-out tasks, with 95 % intervals")


def setting(groups: Sequence[Group]) -> Html:
    """What was run: a column for each group, then what differs between them, then each whole configuration."""
    columns = [_summary(group) for group in groups]
    rows = [[name, *(column[name] for column in columns)] for name in columns[0]]
    labels = ["", *(group.label for group in groups)]
    parts = [table(labels, rows, caption="Configuration in short", numbers_from=len(labels))]
    if differing := _differing(groups):
        parts.append(table(labels, differing, caption="Settings that differ", numbers_from=len(labels)))
    for group in groups:
        for run in group.runs:
            content = element("pre", dump_config(run.config), tabindex="0")
            parts.append(element("details", element("summary", f"{group.label_of(run)}: whole configuration"), content))
    return Html.join(parts)


def _result_rows(groups: Sequence[Group], environment: str) -> Iterator[list[str]]:
    for group in groups:
        rates = group.evaluated(environment)
        if not rates:
            continue
        pooled = len(group.runs) > 1
        label = _row_label(environment, group.label if len(groups) > 1 or pooled else "")
        yield _result_row(f"{label} ({len(group.runs)} runs pooled)" if pooled else label, rates)
        if pooled:
            for run in group.runs:
                single = {
                    record.round: record.evaluation[environment]
                    for record in run.records
                    if environment in record.evaluation
                }
                if single:
                    yield _result_row(_row_label(environment, group.label_of(run)), single)


def _result_row(label: str, rates: Mapping[int, SuccessRate]) -> list[str]:
    rounds = list(rates)
    before, after = rates[rounds[0]], rates[rounds[-1]]
    if len(rounds) == 1:
        return [label, _rate(before), _NONE, _NONE, str(before.episodes), str(rounds[0])]
    change = _NONE
    if before.episodes and after.episodes:
        change = f"{100 * (after.rate - before.rate):+.0f} points"
    return [label, _rate(before), _rate(after), change, str(after.episodes), f"{rounds[0]} → {rounds[-1]}"]


def _mean_row(group: Group, is_compared: bool) -> list[str] | None:
    """The mean over environments, where all were evaluated in the same rounds."""
    rates = {environment: group.evaluated(environment) for environment in environments_of([group])}
    rounds = sorted(set.intersection(*(set(found) for found in rates.values()))) if rates else []
    if len(rates) < 2 or not rounds:
        return None
    before, after = (
        macro_average({name: found[at] for name, found in rates.items()}) for at in (rounds[0], rounds[-1])
    )
    label = _row_label("mean of environments", group.label if is_compared else "")
    shown = [f"{100 * before:.0f} %", f"{100 * after:.0f} %", f"{100 * (after - before):+.0f} points"]
    if len(rounds) == 1:
        shown[1:] = [_NONE, _NONE]
    return [label, *shown, "", f"{rounds[0]} → {rounds[-1]}" if len(rounds) > 1 else str(rounds[0])]


def _row_label(environment: str, label: str) -> str:
    return f"{environment} · {label}" if label else environment


def _rate(rate: SuccessRate) -> str:
    if not rate.episodes:
        return _NONE
    return f"{100 * rate.rate:.0f} % [{100 * rate.low:.0f}–{100 * rate.high:.0f}]"


def _summary(group: Group) -> dict[str, str]:
    config = group.runs[0].config
    method, training, lora = config.method, config.training, config.lora
    budget = f"{training.steps} steps" if training.epochs is None else f"{training.epochs:g} epochs"
    batch = f"{training.batch_tokens} agent tokens" if training.batch_tokens else f"{training.batch_size} episodes"
    explores = f"from round {method.warmup_rounds + 1}" if method.explore else "never"
    history = "all rounds" if method.history else "this round only"
    tasks = "all" if config.evaluation.tasks is None else str(config.evaluation.tasks)
    return {
        "run folders": ", ".join(str(run.layout.root) for run in group.runs),
        "seeds": ", ".join(str(run.config.seed) for run in group.runs),
        "rounds": ", ".join(dict.fromkeys(_rounds(run) for run in group.runs)),
        "base model": config.model.name,
        "adapter": f"LoRA, rank {lora.rank}, alpha {lora.alpha:g}, {_listed(lora.target_modules)}",
        "sites": "; ".join(_site(client) for client in config.clients),
        "exploration": f"{explores}; filter {method.filter}; experience of {history}",
        "aggregation": f"{method.aggregator}, server step {method.server_lr:g}",
        "local update": f"{budget} a round, batches of {batch}, learning rate {training.learning_rate:g}",
        "evaluation": f"{tasks} tasks an environment, {config.evaluation.decoding}",
        "software": "; ".join(dict.fromkeys(_versions(run) for run in group.runs)),
    }


def _rounds(run: Run) -> str:
    return str(run.config.rounds) if run.is_complete else f"{max(0, len(run.records) - 1)} of {run.config.rounds}"


def _site(client: ClientConfig) -> str:
    options = ", ".join(f"{name}={value}" for name, value in client.options.items())
    environment = f"{client.environment}({options})" if options else client.environment
    return (
        f"{client.name}: {environment}, {client.demonstrations} demonstrations, "
        f"{client.episodes_per_round} episodes a round"
    )


def _versions(run: Run) -> str:
    known = {name: version for name, version in run.versions.items() if name != "schema_version"}
    return ", ".join(f"{name} {version}" for name, version in known.items()) or "unknown"


def _differing(groups: Sequence[Group]) -> list[list[str]]:
    settings = [method_settings(group.runs[0]) for group in groups]
    keys = dict.fromkeys(key for found in settings for key in found)
    rows = {key: [_shown(found.get(key, _NONE)) for found in settings] for key in keys if key != "name"}
    return [[key, *values] for key, values in rows.items() if len(set(values)) > 1]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_shown(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={entry}" for name, entry in value.items() if entry not in (None, {}))
    return "null" if value is None else str(value)


def _listed(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
