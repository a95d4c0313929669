"""The adapter that a user names: by its run folder, or by its own folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedse.errors import ConfigError, RunError

if TYPE_CHECKING:
    from fedse.config import RunConfig
    from fedse.federation.layout import RunLayout
    from fedse.types import AdapterState


@dataclass(frozen=True)
class Subject:
    """An adapter, or the bare base model, with the configuration it is played under.

    Attributes:
        config: of the adapter's run, or made up around a single adapter.
        adapter: ``None`` for the base model.
        label: what to call it on the screen.
    """

    config: RunConfig
    adapter: AdapterState | None
    label: str


def find(path: Path, *, round: int | None = None, model: str | None = None) -> Subject:
    """Read an adapter and the configuration that belongs to it.

    Args:
        path: a run folder, or an adapter folder inside a run folder or anywhere else.
        round: of the run; the last completed one by default.
        model: base model of an adapter that lies in no run folder; by default the one that the adapter names.

    Raises:
        RunError: if there is no such folder, round or adapter.
        ConfigError: if an adapter outside a run folder comes without its model.
        AdapterError: if the adapter is damaged.
    """
    from fedse.federation.layout import RunLayout
    from fedse.federation.run_folder import read_config

    layout = RunLayout(path)
    if layout.config.is_file():
        return _of_run(layout, round)
    if not (path / "adapter_config.json").is_file():
        found = "an ordinary folder" if path.is_dir() else "a file" if path.exists() else "nothing"
        raise RunError(
            f"{path} is neither a run folder nor an adapter: found {found}", "fedse ls lists the run folders"
        )
    if round is not None:
        raise ConfigError(f"{path} is an adapter; it has no rounds", "leave --round out, or name the run folder")
    from fedse.federation.adapter_io import load_adapter

    adapter = load_adapter(path, expect=None)
    around = next((folder for folder in path.resolve().parents if RunLayout(folder).config.is_file()), None)
    config = read_config(RunLayout(around)) if around else _around(adapter, path, model)
    return Subject(config, adapter, str(path))


def base(model: str) -> Subject:
    """A base model without an adapter."""
    return Subject(_config(model, lora={}), None, model)


def rounds_of(root: Path) -> list[int]:
    """The rounds of a run whose global adapter is there, in order."""
    return sorted(int(folder.parent.name) for folder in root.glob("rounds/[0-9][0-9][0-9]*/global"))


def _of_run(layout: RunLayout, round: int | None) -> Subject:
    from fedse.federation.adapter_io import load_adapter
    from fedse.federation.run_folder import read_config

    rounds = rounds_of(layout.root)
    if not rounds:
        raise RunError(f"{layout.root} has no adapter yet", f"fedse run --resume --out {layout.root} makes one")
    chosen = rounds[-1] if round is None else round
    if chosen not in rounds:
        raise RunError(f"{layout.root} has no round {chosen}", f"it has the rounds {rounds[0]} to {rounds[-1]}")
    adapter = load_adapter(layout.global_adapter(chosen), expect=None)
    return Subject(read_config(layout), adapter, f"{layout.root}, round {chosen}")


def _around(adapter: AdapterState, path: Path, model: str | None) -> RunConfig:
    from fedse.federation.adapter_io import CONFIG_NAME
    from fedse.storage import read_json

    name = model or read_json(path / CONFIG_NAME).get("base_model_name_or_path")
    if not name:
        raise ConfigError(
            f"{path} lies in no run folder and does not name its base model",
            "name the model that it was trained on: --model smollm2-135m",
        )
    meta = adapter.meta
    return _config(name, {"rank": meta.rank, "alpha": meta.alpha, "target_modules": meta.target_modules})


def _config(model: str, lora: dict[str, object]) -> RunConfig:
    from fedse.config import RunConfig
    from fedse.environments import environment_names

    clients = [{"name": name, "environment": name} for name in environment_names()]
    return RunConfig.model_validate({"model": {"name": model}, "lora": lora, "clients": clients})
