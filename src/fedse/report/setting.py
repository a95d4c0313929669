"""What was run: the settings of the methods, what they have in common and where they differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedse.report.markup import Html, element, table
from fedse.results.formatting import NONE
from fedse.results.groups import Group
from fedse.results.words import settings_in_words, versions_in_words
from fedse.runs.identity import method_settings
from fedse.settings import dump_config

_MOST_COLUMNS = 4
_NOT_SETTINGS = ("seeds", "software")


def setting(groups: Sequence[Group]) -> Html:
    """Settings in short, what differs between the groups, and a whole configuration of each."""
    columns = [_summary(group) for group in groups]
    common = {name: text for name, text in columns[0].items() if all(column[name] == text for column in columns)}
    caption, heading = "What all have in common", "all"
    if len(groups) == 1:
        caption, heading = "Configuration in short", groups[0].label
    parts = [table(["", heading], [[name, text] for name, text in common.items()], caption=caption, numbers_from=2)]
    own = [[name, *(column[name] for column in columns)] for name in _NOT_SETTINGS if name not in common]
    if differing := [*own, *_differing(groups)]:
        parts.append(_by_group(groups, differing))
    for group in groups:
        run = group.runs[0]
        label = group.label if len(group.runs) == 1 else f"{group.label_of(run)} (the others differ in the seed)"
        folders = element("p", f"In {', '.join(str(other.folder) for other in group.runs)}", class_="note")
        content = Html.join([folders, element("pre", dump_config(run.config), tabindex="0")])
        parts.append(element("details", element("summary", f"{label}: whole configuration"), content))
    return Html.join(parts)


def _by_group(groups: Sequence[Group], differing: Sequence[list[str]]) -> Html:
    """A column for each of a few groups, a row for each of many."""
    rows = [["", *(group.label for group in groups)], *differing]
    if len(groups) > _MOST_COLUMNS:
        rows = [list(column) for column in zip(*rows, strict=True)]
    return table(rows[0], rows[1:], caption="Settings that differ", numbers_from=len(rows[0]))


def _summary(group: Group) -> dict[str, str]:
    config = group.runs[0].config
    done = (f"{'' if run.is_complete else f'{run.rounds_done} of '}{run.config.rounds}" for run in group.runs)
    return {
        "seeds": ", ".join(dict.fromkeys(str(run.config.seed) for run in group.runs)),
        "rounds": ", ".join(dict.fromkeys(done)),
        **settings_in_words(config, config.clients),
        "software": "; ".join(dict.fromkeys(versions_in_words(run) or "unknown" for run in group.runs)),
    }


def _differing(groups: Sequence[Group]) -> list[list[str]]:
    settings = [method_settings(group.runs[0].config) for group in groups]
    keys = dict.fromkeys(key for of_group in settings for key in of_group)
    rows = {key: [_shown(of_group[key]) if key in of_group else NONE for of_group in settings] for key in keys}
    return [[key, *values] for key, values in rows.items() if len(set(values)) > 1]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(_shown(entry) for entry in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={entry}" for name, entry in value.items() if entry not in (None, {}))
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
