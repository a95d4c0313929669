"""The adapter that a user names: by its run folder, or by its own folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import fedse
from fedse.errors import ConfigError, RunError
from fedse.names import unknown_name
from fedse.storage import read_json
from fedse.texts import command

if TYPE_CHECKING:
    from fedse.results.reading import Run


@dataclass(frozen=True)
class Subject:
    """An adapter, or the bare base model (``None``), and what to call it on the screen.

    The configuration it is played under is that of the adapter's run, or made up around a single adapter.
    """

    config: fedse.RunConfig
    adapter: fedse.AdapterState | None
    label: str


def find(
    path: Path,
    *,
    number: int | None = None,
    client: str | None = None,
    environment: str | None = None,
    model: str | None = None,
) -> Subject:
    """Read an adapter and the configuration that belongs to it.

    Args:
        path: a run folder, or an adapter folder inside a run folder or anywhere else.
        number: round of the run; the last completed one by default.
        client: whose adapter to take, of a run with isolated sites.
        environment: what is to be played; where sites are isolated and a single one has it, that one is meant.
        model: base model of an adapter that lies in no run folder; by default the one that the adapter names.

    Raises:
        RunError: if there is no such folder, round or adapter.
        ConfigError: if an adapter outside a run folder comes without its model, or a run with one, if a site is named
            where all have one adapter, or none where each has its own.
        UnknownNameError, AdapterError: if there is no such client; if the adapter is damaged.
    """
    from fedse.results.reading import is_run, run_at, run_of_adapter

    if is_run(path):
        if model is not None:
            raise ConfigError(f"{path} is a run, which names its base model", "leave --model out, or name an adapter")
        return of_run(run_at(path), number, client, environment)
    if not (path / "adapter_config.json").is_file():
        found = "an ordinary folder" if path.is_dir() else "a file" if path.exists() else "nothing"
        what = f"{path} is neither a run folder nor an adapter: found {found}"
        raise RunError(what, "fedse ls lists the run folders")
    for option, value, lacks in (("--round", number, "rounds"), ("--client", client, "sites")):
        if value is not None:
            raise ConfigError(f"{path} is an adapter; it has no {lacks}", f"leave {option} out, or name the run folder")
    adapter = fedse.load_adapter(path, expect=None)
    run = None if model else run_of_adapter(path)
    return Subject(run.config if run else _around(adapter, path, model), adapter, str(path))


def base(model: str) -> Subject:
    """A base model without an adapter."""
    return Subject(_config(model, lora={}), None, model)


def of_run(run: Run, number: int | None = None, client: str | None = None, environment: str | None = None) -> Subject:
    """The adapter of a run; see :func:`find` for arguments and errors."""
    run.check_whole()
    site = _site(run, client, environment)
    rounds = run.adapter_rounds(site)
    if not rounds:
        raise RunError(
            f"{run.folder} has no adapter yet", f"{command('fedse run --resume --out', run.folder)} makes one"
        )
    chosen = rounds[-1] if number is None else number
    if chosen not in rounds:
        raise RunError(f"{run.folder} has no round {chosen}", f"it has the rounds {rounds[0]} to {rounds[-1]}")
    label = f"{run.folder}, {f'site {site}, ' if site else ''}round {chosen}"
    return Subject(run.config, run.adapter(chosen, site), label)


def _site(run: Run, client: str | None, environment: str | None) -> str:
    """The client whose adapter is meant; empty where all have one adapter."""
    from fedse.results.method import has_own_adapters

    if not has_own_adapters(run.config):
        if client is not None:
            raise ConfigError(f"all sites of {run.folder} have one adapter", "leave --client out")
        return ""
    names = [site.name for site in run.config.clients]
    if client is not None and client not in names:
        raise unknown_name("client", client, names)
    fitting = [site.name for site in run.config.clients if environment in (None, site.environment)]
    if client is None and len(fitting) != 1:
        what = f"the sites of {run.folder} are isolated: each has an adapter of its own"
        raise ConfigError(what, f"add --client: {', '.join(names)}")
    return client or fitting[0]


def _around(adapter: fedse.AdapterState, path: Path, model: str | None) -> fedse.RunConfig:
    from fedse.adapters.files import CONFIG_NAME

    name = model or read_json(path / CONFIG_NAME).get("base_model_name_or_path")
    if not name:
        what = f"{path} lies in no run folder and does not name its base model"
        raise ConfigError(what, "name the model that it was trained on: --model smollm2-135m")
    meta = adapter.meta
    return _config(name, {"rank": meta.rank, "alpha": meta.alpha, "target_modules": meta.target_modules})


def _config(model: str, lora: dict[str, object]) -> fedse.RunConfig:
    clients = [{"name": name, "environment": name} for name in fedse.environment_names()]
    return fedse.RunConfig.model_validate({"model": {"name": model}, "lora": lora, "clients": clients})
