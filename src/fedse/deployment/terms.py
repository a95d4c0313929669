"""What a server proposes, and what a site makes of it: its own settings win, and its limits hold."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fedse.config import ClientConfig, RunConfig
from fedse.deployment.files import SiteFile, is_address
from fedse.errors import ConfigError
from fedse.models.catalogue import CATALOGUE, NANO

#: Base models that come with fedse or that it fetches by itself, checked by their hash.
BUILT_IN = ("tiny", NANO, *CATALOGUE)


def agreed(proposal: RunConfig, site: SiteFile) -> RunConfig:
    """The run as the site takes part in it.

    Args:
        proposal: the run as the server describes it; of other sites than this one nothing is used.
        site: what the site decides.

    Returns:
        The proposal with this site's environments alone and its own settings in them, on its own device and endpoint.

    Raises:
        ConfigError: listing all that the site refuses: an environment that it does not have, a base model that it does
            not load, numbers beyond its limits, paths and addresses.
    """
    proposed = proposal.sites.get(site.site, ())
    entries = {entry.name: entry for entry in site.environments}
    problems = [f"site {site.site}: the server's run has no environment for it"] if not proposed else []
    problems += [
        f"environment {client.name}: the site has none of that name"
        for client in proposed
        if client.name not in entries
    ]
    clients = tuple(_merged(client, entries[client.name], site) for client in proposed if client.name in entries)
    problems += _refusals(proposal, clients, site)
    if problems:
        raise ConfigError(
            f"site {site.site} does not take part in this run:" + "".join(f"\n  - {problem}" for problem in problems),
            "agree on a run with the server's operator, or change the site's file",
        )
    model = proposal.model.model_copy(update={"device": site.device})
    return at_endpoint(proposal.model_copy(update={"clients": clients, "model": model, "workers": 1}), site)


def at_endpoint(run: RunConfig, site: SiteFile) -> RunConfig:
    """The run with its episodes played where the site's file says now, whatever was said before."""
    return run.model_copy(update={"rollout": run.rollout.model_copy(update={"endpoint": site.endpoint})})


def _merged(proposed: ClientConfig, own: ClientConfig, site: SiteFile) -> ClientConfig:
    """The site's own settings over those that were proposed; a file to read is never the server's to name."""
    ours = own.model_dump(include=own.model_fields_set)
    theirs = proposed.model_dump() | {"demonstrations_file": None, "disclose": site.disclose}
    return ClientConfig.model_validate(theirs | ours)


def _refusals(run: RunConfig, clients: tuple[ClientConfig, ...], site: SiteFile) -> Iterator[str]:
    allowed = BUILT_IN if site.models is None else site.models
    if run.model.name not in allowed:
        yield f"model.name: found {run.model.name}; this site loads {', '.join(allowed) or 'none'}"
    own = {entry.name: entry.model_fields_set for entry in site.environments}
    for client in clients:
        for key in {"environment", "options"} - own[client.name]:
            if is_address(getattr(client, key)):
                yield f"clients.{client.name}.{key}: names a file or a server; only the site's own file may do that"
    limits = site.limits
    bounds: list[tuple[str, float, int]] = [
        ("rounds", run.rounds, limits.rounds),
        ("lora.rank", max([run.lora.rank, *(client.rank or 0 for client in clients)]), limits.rank),
        ("rollout.max_context", run.rollout.max_context, limits.max_context),
        ("training.max_tokens", run.training.max_tokens, limits.max_context),
        ("rollout.slots", run.rollout.slots, limits.slots),
        ("evaluation.tasks", _evaluated(run), limits.evaluation_tasks),
        ("training.steps", sum(_steps(run, client) for client in clients), limits.steps),
    ]
    for client in clients:
        bounds += [
            (f"clients.{client.name}.{key}", getattr(client, key), getattr(limits, key))
            for key in ("demonstrations", "episodes_per_round")
        ]
    for name, asked, most in bounds:
        if asked > most:
            yield f"{name}: asks for {'all there are' if math.isinf(asked) else f'{asked:g}'}; at most {most}"


def _evaluated(run: RunConfig) -> float:
    tasks = run.evaluation.tasks
    return math.inf if tasks is None else tasks * run.evaluation.episodes_per_task


def _steps(run: RunConfig, client: ClientConfig) -> int:
    """Optimizer steps a round; for passes over the store, the most that there can be, in the last round."""
    training = run.training
    if client.steps is not None or training.epochs is None:
        return client.steps or training.steps or 0
    most = client.demonstrations + run.rounds * client.episodes_per_round
    return math.ceil(training.epochs * most / (training.batch_size if training.batch_tokens is None else 1))
