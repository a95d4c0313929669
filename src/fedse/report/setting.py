"""What was run: the settings of the methods, what they have in common and where they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedse.config import ClientConfig
from fedse.report.markup import Html, element, table
from fedse.results.groups import Group, method_settings
from fedse.results.reading import Run
from fedse.settings import dump_config

_NONE = "–"
_MOST_COLUMNS = 4
_NOT_SETTINGS = ("seeds", "software")
_SHARING = {
    "federated": "adapters; {method.aggregator}, server step {method.server_lr:g}",
    "pooled": "experience; one adapter is trained on that of all sites",
    "isolated": "nothing; each site goes on from its own adapter",
}


def setting(groups: Sequence[Group]) -> Html:
    """Settings in short, what differs between the groups, and a whole configuration of each."""
    columns = [_summary(group) for group in groups]
    common = {name: text for name, text in columns[0].items() if all(column[name] == text for column in columns)}
    caption = "Configuration in short" if len(groups) == 1 else "What all have in common"
    heading = groups[0].label if len(groups) == 1 else "all"
    parts = [table(["", heading], [[name, text] for name, text in common.items()], caption=caption, numbers_from=2)]
    own = [[name, *(column[name] for column in columns)] for name in _NOT_SETTINGS if name not in common]
    if differing := [*own, *_differing(groups)]:
        parts.append(_by_group(groups, differing))
    for group in groups:
        run = group.runs[0]
        label = group.label if len(group.runs) == 1 else f"{group.label_of(run)} (the others differ in the seed)"
        folders = element("p", f"In {', '.join(str(other.layout.root) for other in group.runs)}", class_="note")
        content = Html.join([folders, element("pre", dump_config(run.config), tabindex="0")])
        parts.append(element("details", element("summary", f"{label}: whole configuration"), content))
    return Html.join(parts)


def _by_group(groups: Sequence[Group], differing: Sequence[Sequence[str]]) -> Html:
    """A column for each of a few groups, a row for each of many."""
    labels = [group.label for group in groups]
    caption = "Settings that differ"
    if len(groups) <= _MOST_COLUMNS:
        return table(["", *labels], differing, caption=caption, numbers_from=len(labels) + 1)
    rows = [[label, *(row[at] for row in differing)] for at, label in enumerate(labels, start=1)]
    return table(["", *(row[0] for row in differing)], rows, caption=caption, numbers_from=len(differing) + 1)


def own_values(values: Mapping[str, float | None]) -> str:
    """Where sites have a value of their own: which, in brackets; empty if none has."""
    own = ", ".join(f"{value:g} at {site}" for site, value in values.items() if value is not None)
    return f" ({own})" if own else ""


def _summary(group: Group) -> dict[str, str]:
    config = group.runs[0].config
    method, training, lora = config.method, config.training, config.lora
    budget = f"{training.steps} steps" if training.epochs is None else f"{training.epochs:g} epochs"
    own_steps = own_values({client.name: client.steps for client in config.clients})
    batch = f"{training.batch_tokens} agent tokens" if training.batch_tokens else f"{training.batch_size} episodes"
    explores = f"from round {method.warmup_rounds + 1}" if method.explore else "never"
    history = "all rounds" if method.history else "this round only"
    tasks = "all" if config.evaluation.tasks is None else str(config.evaluation.tasks)
    return {
        "seeds": ", ".join(dict.fromkeys(str(run.config.seed) for run in group.runs)),
        "rounds": ", ".join(dict.fromkeys(_rounds(run) for run in group.runs)),
        "base model": config.model.name,
        "adapter": f"LoRA, rank {lora.rank}, alpha {lora.alpha:g}, {_listed(lora.target_modules)}",
        "sites": "; ".join(_site(client) for client in config.clients),
        "exploration": f"{explores}; filter {method.filter}; experience of {history}",
        "sharing": _SHARING[method.sharing].format(method=method),
        "local update": f"{budget} a round{own_steps}, batches of {batch}, learning rate {training.learning_rate:g}",
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
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _listed(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
