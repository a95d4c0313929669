"""``fedse model``: the base models that fedse can fetch by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedse.cli.console import examples, say, show_table, stderr
from fedse.results.formatting import size

if TYPE_CHECKING:
    from fedse.config import ModelConfig
    from fedse.models.catalogue import ModelInfo

app = typer.Typer(no_args_is_help=True, help="Fetch, list and describe base models.")

_Name = Annotated[str, typer.Argument(help="A name from `fedse model ls`.")]
_DEFAULT = "smollm2-135m"


def ensure(config: ModelConfig) -> None:
    """Fetch a run's base model if it is one of the catalogue and not yet on this machine.

    Raises:
        ModelError: if it cannot be fetched.
    """
    from fedse.models import catalogue

    if any(info.name == config.name and not info.installed for info in catalogue.installed()):
        _pull(config.name)


def _pull(name: str) -> Path:
    from fedse.models import catalogue

    if not stderr.is_terminal:
        return catalogue.pull(name, progress=lambda text: stderr.print(f"{name}: {text}", markup=False))
    with stderr.status(f"fetching {name}") as status:
        return catalogue.pull(name, progress=lambda text: status.update(f"{name}: {text}"))


@app.command(epilog=examples("fedse model pull", "fedse model pull smollm2-135m"))
def pull(name: _Name = _DEFAULT) -> None:
    """Fetch a base model and convert it, unless it is there already."""
    folder = _pull(name)
    say(f"{name} is at {folder}")


@app.command("ls", epilog=examples("fedse model ls"))
def list_models() -> None:
    """List the base models that can be fetched, and which are on this machine."""
    from fedse.models import catalogue

    rows = [(info.name, info.title, size(info.bytes) if info.installed else "no") for info in catalogue.installed()]
    headings = ("name", "model", "on this machine")
    show_table(headings, rows, texts=headings)


@app.command(epilog=examples("fedse model show smollm2-135m"))
def show(name: _Name = _DEFAULT) -> None:
    """Show where a base model is and how it is built."""
    info = _find(name)
    facts = {"name": info.name, "model": info.title, "folder": str(info.folder)}
    if info.installed:
        from fedse.storage import read_json

        built = read_json(info.folder / "config.json")
        facts |= {
            "size": size(info.bytes),
            "architecture": built.get("model_type", "unknown"),
            "layers": built.get("num_hidden_layers", "unknown"),
            "hidden size": built.get("hidden_size", "unknown"),
            "vocabulary": built.get("vocab_size", "unknown"),
            "context": built.get("max_position_embeddings", "unknown"),
        }
    else:
        facts["size"] = f"not on this machine; fetch it with: fedse model pull {name}"
    for label, value in facts.items():
        say(f"{label:<13} {value if isinstance(value, str) else json.dumps(value)}")


def _find(name: str) -> ModelInfo:
    from fedse.models import catalogue
    from fedse.names import unknown_name

    known = {info.name: info for info in catalogue.installed()}
    if name not in known:
        raise unknown_name("model", name, known)
    return known[name]
