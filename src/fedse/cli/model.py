"""``fedse model``: the base models that fedse can fetch by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Typer

import fedse
from fedse.cli.console import examples, note, say, show_table, stderr
from fedse.models import catalogue
from fedse.names import unknown_name
from fedse.results.formatting import size
from fedse.storage import read_json

app = Typer(no_args_is_help=True, help="Fetch, list and describe base models.")

_Name = Annotated[str, Argument(help="A name from `fedse model ls`.")]
_DEFAULT = "smollm2-135m"
_BUILT = {
    "architecture": "model_type",
    "layers": "num_hidden_layers",
    "hidden size": "hidden_size",
    "vocabulary": "vocab_size",
    "context": "max_position_embeddings",
}  # what `show` calls the fields of config.json


def ensure(config: fedse.ModelConfig) -> None:
    """Fetch a run's base model if it is one of the catalogue and not yet on this machine.

    Raises:
        ModelError: if it cannot be fetched.
    """
    if any(info.name == config.name and not info.installed for info in catalogue.installed()):
        _pull(config.name)


def _pull(name: str) -> Path:
    if not stderr.is_terminal:
        return catalogue.pull(name, progress=lambda text: note(f"{name}: {text}"))
    with stderr.status(f"fetching {name}") as status:
        return catalogue.pull(name, progress=lambda text: status.update(f"{name}: {text}"))


@app.command(epilog=examples("fedse model pull", "fedse model pull smollm2-135m"))
def pull(name: _Name = _DEFAULT) -> None:
    """Fetch a base model and convert it, unless it is there already."""
    say(f"{name} is at {_pull(name)}")


@app.command("ls", epilog=examples("fedse model ls"))
def list_models() -> None:
    """List the base models that can be fetched, and which are on this machine."""
    rows = [(info.name, info.title, size(info.bytes) if info.installed else "no") for info in catalogue.installed()]
    headings = ("name", "model", "on this machine")
    show_table(headings, rows, texts=headings)


@app.command(epilog=examples("fedse model show smollm2-135m"))
def show(name: _Name = _DEFAULT) -> None:
    """Show where a base model is and how it is built."""
    known = {info.name: info for info in catalogue.installed()}
    if name not in known:
        raise unknown_name("model", name, known)
    info = known[name]
    facts = {"name": info.name, "model": info.title, "folder": str(info.folder)}
    if info.installed:
        built = read_json(info.folder / "config.json")
        facts["size"] = size(info.bytes)
        facts |= {label: built.get(field, "unknown") for label, field in _BUILT.items()}
    else:
        facts["size"] = f"not on this machine; fetch it with: fedse model pull {name}"
    for label, value in facts.items():
        say(f"{label:<13} {value if isinstance(value, str) else json.dumps(value)}")
