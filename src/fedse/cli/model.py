"""``fedse model``: the base models that fedse can fetch by itself or make of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option, Typer

import fedse
from fedse.cli.console import examples, note, say, show_table, stderr
from fedse.models import catalogue
from fedse.models.gguf_file import is_gguf
from fedse.names import unknown_name
from fedse.results.formatting import size
from fedse.storage import read_json
from fedse.texts import command

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from fedse.agent import Renderer

app = Typer(no_args_is_help=True, help="Fetch, import, list and describe base models.")

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
    """Fetch or convert a run's base model if it is one of the catalogue, or a GGUF file, and not yet made ready.

    Raises:
        ModelError: if it cannot be fetched or converted.
    """
    if any(info.name == config.name and not info.installed for info in catalogue.installed()):
        _pull(config.name)
    elif is_gguf(config.name) and catalogue.conversion(path := Path(config.name).expanduser()) is None:
        _import(path, None)


def _pull(name: str) -> Path:
    return _watched(name, lambda told: catalogue.pull(name, progress=told))


def _import(file: Path, name: str | None) -> Path:
    return _watched(file.name, lambda told: catalogue.import_file(file, name, inspect=_renderer, progress=told))


def _watched(name: str, work: Callable[[Callable[[str], None]], Path]) -> Path:
    """Do the work, and show what it tells of itself."""
    if not stderr.is_terminal:
        return work(lambda text: note(f"{name}: {text}"))
    with stderr.status(name) as status:
        return work(lambda text: status.update(f"{name}: {text}"))


def _renderer(tokenizer: PreTrainedTokenizerFast) -> Renderer:
    """What turns a chat into the tokenizer's ids; a template with which no agent can play is a ``ModelError``."""
    from fedse.agent import renderer_for

    return renderer_for(tokenizer)


@app.command(epilog=examples("fedse model pull", "fedse model pull smollm2-135m"))
def pull(name: _Name = _DEFAULT) -> None:
    """Fetch a base model and convert it, unless it is there already."""
    say(f"{name} is at {_pull(name)}")


@app.command(
    "import",
    epilog=examples("fedse model import Qwen2.5-0.5B-Instruct-Q8_0.gguf --name qwen2.5-0.5b", "fedse model ls"),
)
def import_model(
    file: Annotated[Path, Argument(help="A GGUF file of an instruction-tuned model.")],
    name: Annotated[
        str | None, Option(help="What model.name calls it.", show_default="the file's name without .gguf")
    ] = None,
) -> None:
    """Check a GGUF file and its tokenizer, and make a base model of it, unless that was done already."""
    folder = _import(file, name or file.stem)
    from transformers import PreTrainedTokenizerFast

    [info] = [info for info in catalogue.installed() if info.folder == folder]
    found = read_json(folder / catalogue.NOTE_NAME)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    end = _renderer(tokenizer).end_token
    checked = found["tokenizer"]
    facts = {
        "name": info.name,
        "model": info.title,
        "folder": folder,
        "size": f"{size(info.bytes)} in bfloat16, of weights in {', '.join(found['weights'])}",
        "architecture": found["architecture"],
        "tokenizer": f"{checked['kind']}; {checked['tokens']:,} tokens, {checked['special']} of them special",
        "checked": f"{checked['texts']} texts, {checked['ids']} ids: as by the file's own rules, and back unchanged",
        "chat": f"a turn ends with {tokenizer.convert_ids_to_tokens(end)} ({end}), a text with {checked['end']}",
    }
    _show(facts)
    say(f"\nUse it: {command('fedse run --preset quickstart --set', f'model.name={folder.name}')}")


@app.command("ls", epilog=examples("fedse model ls"))
def list_models() -> None:
    """List the base models that can be fetched or were imported, and which are on this machine."""
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
    _show(facts)


def _show(facts: dict[str, Any]) -> None:
    for label, value in facts.items():
        say(f"{label:<13} {json.dumps(value) if isinstance(value, int) else value}")
