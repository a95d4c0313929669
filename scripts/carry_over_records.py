"""Carry the records of runs over from the layout in which server and sites shared one folder; to be run once.

    python scripts/carry_over_records.py results

Each argument is a folder with packed suites, packed runs, or both, at any depth.  What is carried over already stays as
it is, so a script that was interrupted can be started again.

* Files move below ``server/`` and ``sites/<site>/`` (:mod:`fedse.runs.layout`).
* ``method.sharing``, ``aggregator``, ``server_lr`` and ``restart`` become ``method.strategy`` and ``method.options``.
  Options that change nothing are left out, but for a ``server_lr`` that the suite names.  A run with pooled experience
  becomes a run of one site, ``all``, that has every environment.
* Adapters crossed as float32, which ``exchange.codec`` says.
* In ``metrics.jsonl`` the figures of a pooled update become those of site ``all``.  ``scalars`` says what the weighted
  mean was told.  No other figure changes.
* ``exchange.json`` stays as it is.  Its traffic was in sizes of adapter folders and not of messages, so readers leave
  it out.

A cell gets the configuration that its suite gives it now, with the number of workers that it was run with.  The script
stops if that is not the run that was recorded.  A run whose name says its method, as those of ``fedse run --method``
do, gets the options that the method names.  The script also stops at a run that was never packed: from its adapters and
its experience no run of the new layout could go on.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedse.config import RunConfig
from fedse.runs.layout import RunFolder
from fedse.settings import build_config, derive_config, dump_config, flat_settings, method_names, read_method
from fedse.settings.yaml_text import dump_yaml, parse_yaml
from fedse.storage import atomic_directory, atomic_write
from fedse.suites.loading import dump_suite, parse_suite

#: The keys of the old ``method`` section that became a strategy, with their defaults.
OLD: Mapping[str, Any] = {"sharing": "federated", "aggregator": "mean", "server_lr": 1.0, "restart": False}
#: The site that has all environments where experience was pooled.
ALL = "all"
#: What a packed run had at its root.
ROOT_FILES = ("config.yaml", "exchange.json", "metrics.jsonl", "versions.json")


def new_config(old: Mapping[str, Any]) -> RunConfig:
    """The configuration of a run, from the data of its old one."""
    method = {**OLD, **old["method"]}
    sharing, aggregator, server_lr, restart = (method.pop(key) for key in OLD)
    options = {}
    if sharing == "federated" and server_lr != 1:
        options["server_lr"] = _number(server_lr)
    if restart:
        options["restart"] = True
    clients = [{**client, "site": ALL} if sharing == "pooled" else client for client in old["clients"]]
    method |= {"strategy": _strategy(sharing, aggregator), "options": options}
    return build_config(None, {**old, "clients": clients, "method": method, "exchange": {"codec": "fp32"}})


def as_of_its_method(config: RunConfig) -> RunConfig:
    """The configuration with those options, too, that the method in the run's name sets to what holds anyway."""
    for name in method_names():
        if config.name.endswith(f"-{name}"):
            resolved = derive_config(config, read_method(name).set)
            if _effective(resolved) == _effective(config):
                return resolved
    return config


def new_settings(old: Mapping[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """The settings of a model or a method of a suite.

    Args:
        old: its settings.
        base: the old ``method`` section that they are applied to.
    """
    flat = flat_settings(old)
    said = {key: flat.pop(f"method.{key}") for key in OLD if f"method.{key}" in flat}
    method = {**OLD, **base, **said}
    new: dict[str, Any] = {}
    if said.get("sharing") == "pooled":
        new["clients.*.site"] = ALL
    if "sharing" in said or ("aggregator" in said and method["sharing"] == "federated"):
        new["method.strategy"] = _strategy(method["sharing"], method["aggregator"])
    if said.get("sharing", "federated") != "federated":
        new["method.options"] = {}
    if "server_lr" in said and method["sharing"] == "federated":
        new["method.options.server_lr"] = _number(said["server_lr"])
    if "restart" in said and said["restart"] != base.get("restart", False):
        new["method.options.restart"] = said["restart"]
    return new | flat


def new_record(old: Mapping[str, Any], config: RunConfig) -> dict[str, Any]:
    """A line of ``metrics.jsonl``."""
    clients, scalars = dict(old["clients"]), {}
    if ALL in config.sites:
        update = {"train": old["pooled"], "outcome": "ok"} if old["pooled"] else {}
        clients = dict(sorted({ALL: update, **clients}.items()))
    if config.method.strategy == "weighted_mean":
        scalars = {
            site: {"examples": float(told["train"]["examples"])}
            for site, told in sorted(clients.items())
            if told.get("outcome") == "ok"
        }
    kept = {key: value for key, value in old.items() if key != "pooled"}
    return kept | {"clients": clients, "scalars": scalars}


def carry_suite(root: Path) -> None:
    """Carry a suite over, and every cell that is in its folder."""
    data = _read_yaml(root / "suite.yaml")
    base = data["config"]["method"]
    if not OLD.keys() & base.keys():
        return
    for entry in (*data["models"], *data["methods"], *data["ablations"]):
        entry["set"] = new_settings(entry["set"], base)
    data["config"] = new_config(data["config"]).model_dump(mode="json")
    suite = parse_suite(dump_yaml(data), str(root / "suite.yaml"))
    for cell in suite.cells():
        folder = cell.folder(root)
        if is_old_run(folder):
            found = new_config(_read_yaml(folder / "config.yaml"))
            if _effective(found) != _effective(cell.config.model_copy(update={"workers": found.workers})):
                sys.exit(f"{folder} was not run as its suite says; nothing was changed there")
            carry_run(folder, cell.config.model_copy(update={"workers": found.workers}))
    atomic_write(root / "suite.yaml", dump_suite(suite))


def carry_run(folder: Path, config: RunConfig) -> None:
    """Carry one packed run over.

    Args:
        folder: of the run.
        config: its new configuration.
    """
    clients = {client.name: client for client in config.clients}
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.dumps(new_record(json.loads(line), config)) + "\n" for line in lines]
    with atomic_directory(folder) as made:
        run = RunFolder(made)
        run.server.root.mkdir()
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            match path.relative_to(folder).parts:
                case [name] if name in ROOT_FILES:
                    target = run.server.root / name
                case ["clients", name, "evaluation" | "transfer" as kind, file] if name in clients:
                    target = run.environment(clients[name]).root / kind / file
                case _:
                    sys.exit(f"{path} is in no packed run; pack {folder} with the version that made it")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        atomic_write(run.server.config, dump_config(config))
        atomic_write(run.server.metrics, "".join(records))
    print(folder)


def is_old_run(folder: Path) -> bool:
    """Whether a folder has the records of a run in the old layout."""
    return (folder / "config.yaml").is_file() and (folder / "metrics.jsonl").is_file() and folder.name != "server"


def _old_runs(root: Path) -> Iterator[Path]:
    yield from (path.parent for path in sorted(root.rglob("config.yaml")) if is_old_run(path.parent))


def _strategy(sharing: str, aggregator: str) -> str:
    return {"federated": aggregator, "pooled": "mean", "isolated": "isolated"}[sharing]


def _number(value: float) -> float:
    """A whole number as such, as presets write it."""
    return int(value) if value == int(value) else value


def _effective(config: RunConfig) -> RunConfig:
    """Without options that say what holds anyway."""
    options = config.method.options
    kept = {
        name: value for name, value in options.items() if (name, value) not in (("server_lr", 1), ("restart", False))
    }
    return config.model_copy(update={"method": config.method.model_copy(update={"options": kept})})


def _read_yaml(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = parse_yaml(path.read_text(encoding="utf-8"))
    return data


def main() -> None:
    """Carry over all that is old below the folders that are given."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders with packed suites or runs")
    for root in parser.parse_args().folders:
        for path in sorted(root.rglob("suite.yaml")):
            carry_suite(path.parent)
        for folder in list(_old_runs(root)):
            carry_run(folder, as_of_its_method(new_config(_read_yaml(folder / "config.yaml"))))


if __name__ == "__main__":
    main()
