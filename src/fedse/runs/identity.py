"""When two configurations make the same run, and when they make runs of the same method.

Every field of :mod:`fedse.config` tells by its role what a difference in it means:

==========  ===========================  ============  =======================
role        fields                       another run?  another method?
==========  ===========================  ============  =======================
label       name                         no            no
machine     workers, deadline, endpoint  no            no
repetition  seed, device                 yes           no
site        clients                      yes           where both have the site
no role     all others                   yes           yes
==========  ===========================  ============  =======================

* A name is what a run is called, and workers share the work out: no result depends on either.  For how long a server
  waits for how many sites says how a run copes with faults; it may change while the run goes on.
* An endpoint that plays may move, come or go while the run goes on: a run is not lost with it.  It rounds and draws in
  its own way, so a run is repeated exactly on the same one only, if on any.
* Another device rounds differently, so its run is another one; what is done there is the same.
* A method whose sites learn alone may be one run for each site.  Runs of one method therefore need not have the same
  sites, but a site that both have must be the same in both.
* The partition divides the tasks among all sites of a run.  Every run has one, so it is compared like any setting.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from fedse.config import ClientConfig, RunConfig

_LIMITS = ("max_response_tokens", "max_context", "max_repeats")


def run_key(config: RunConfig) -> str:
    """Equal for configurations that make the same run: one may be resumed, or taken over, as the other."""
    return json.dumps(_without(config, "label", "machine"), sort_keys=True)


def run_differences(there: RunConfig, now: RunConfig) -> list[str]:
    """One line for each setting in which the configurations are not the same run; empty if they are."""
    there_, now_ = (flat(_without(config, "label", "machine")) for config in (there, now))
    return [
        f"{key}: {there_.get(key, 'nothing')} there, {now_.get(key, 'nothing')} now"
        for key in sorted(there_.keys() | now_.keys())
        if key not in there_ or key not in now_ or there_[key] != now_[key]
    ]


def method_settings(config: RunConfig) -> dict[str, Any]:
    """Dotted key → value of all that makes a method; those of a site begin with ``clients.`` and its name.

    Runs are of one method if they agree in every key that both have (:func:`method_differences`).
    """
    sections = _without(config, "label", "machine", "repetition", "site")
    sections |= {f"clients.{client.name}": client.model_dump(mode="json") for client in config.clients}
    settings: dict[str, Any] = {}
    for name, section in sections.items():
        if isinstance(section, dict):
            settings |= {f"{name}.{key}": value for key, value in section.items()}
        else:
            settings[name] = section
    return settings


def method_differences(one: RunConfig, other: RunConfig) -> Iterator[tuple[str, Any, Any]]:
    """(key, value of one, value of the other) where two runs are not of the same method; none if they are."""
    ours, theirs = method_settings(one), method_settings(other)
    return ((key, ours[key], theirs[key]) for key in ours if key in theirs and ours[key] != theirs[key])


def protocol(config: RunConfig, client: ClientConfig) -> dict[str, Any]:
    """Dotted key → value of all that decides how a site's held-out tasks are played, but for the adapter.

    Success rates can be compared where this is equal.
    """
    settings: dict[str, Any] = {
        "environment": client.environment,
        "options": dict(sorted(client.options.items())),
        "test_split": client.test_split,
        "evaluation.decoding": config.evaluation.decoding,
        "rollout.max_turns": config.turns_at(client),
        **{f"rollout.{name}": getattr(config.rollout, name) for name in _LIMITS},
    }
    if config.evaluation.decoding == "sampled":
        settings["evaluation.samples"] = config.evaluation.samples
        settings["rollout.temperature"] = config.rollout.temperature
        settings["rollout.min_p"] = config.rollout.min_p
    return settings


def base_play(config: RunConfig, client: ClientConfig) -> tuple[Any, ...]:
    """What decides the held-out episodes of the base model at a site, token by token; equal for equal episodes."""
    return (protocol(config, client), config.model, config.agent, config.rollout, config.evaluation, config.seed)


def _without(config: RunConfig, *roles: str) -> dict[str, Any]:
    """The configuration as plain data, without the fields of these roles."""
    return config.model_dump(mode="json", exclude=_fields(RunConfig, roles))


def _fields(section: type[BaseModel], roles: tuple[str, ...]) -> dict[str, Any]:
    """The fields of these roles, as ``exclude`` takes them."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("role") in roles:
            found[name] = True
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= {name: below} if (below := _fields(field.annotation, roles)) else {}
    return found


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Dotted paths → values; empty mappings and lists count as values."""
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value:
        items = {str(index): item for index, item in enumerate(value)}.items()
    else:
        return {path: value}
    return {key: leaf for name, item in items for key, leaf in flat(item, f"{path}.{name}" if path else name).items()}
