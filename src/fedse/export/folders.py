"""Adapter folders for peft and merged models for transformers, each with its model card."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Literal

from fedse.adapters.files import CONFIG_NAME, WEIGHTS_NAME, save_adapter
from fedse.config import ModelConfig
from fedse.errors import ModelError, StorageError, boundary
from fedse.export.card import CARD_NAME, model_card
from fedse.export.origin import Origin, loadable_base
from fedse.storage import atomic_directory, read_json, share, storage_errors, write_json

SCHEMA_VERSION = 1
#: Says what an exported folder was made from, and what was written into it: a folder that holds nothing else may be
#: written anew.
NOTE_NAME = "fedse.json"


def export_adapter(origin: Origin, folder: Path, *, base: str | None = None) -> None:
    """Write an adapter as a folder that ``peft.AutoPeftModelForCausalLM`` loads, with a model card.

    The folder has no tokenizer: peft would resize the embeddings of a base model to it.

    Args:
        origin: the adapter and its run.
        folder: made, or written anew if it is an earlier export that nobody has changed.
        base: the base model in the adapter's configuration; by default a Hugging Face id or an absolute path.

    Raises:
        AdapterError: if the adapter is not sound.
        ModelError: if the base model is not on this machine, and ``base`` is not given.
        StorageError: if something else is in the folder, or it cannot be written.
    """
    name = origin.run.config.model.name
    called = base if base is not None else loadable_base(name) or name
    with _exported(origin, folder, "adapter") as scratch:
        made = scratch / "adapter"
        save_adapter(origin.adapter, made, base_name=called)
        for file in (WEIGHTS_NAME, CONFIG_NAME):
            (made / file).rename(scratch / file)
        made.rmdir()


def export_merged(origin: Origin, folder: Path) -> None:
    """Write the base model with the adapter merged into it, its tokenizer and chat template, and a model card.

    Plain transformers loads the folder.  The sum is formed in float32 and rounded once to the dtype of the run's
    configuration or, where that is ``auto``, of the base model's own files.  Computed on the CPU; takes the memory of
    the base model twice.  The folder is made, or written anew as by :func:`export_adapter`.

    Raises:
        ModelError: if the base model cannot be loaded or saved.
        AdapterError: if the adapter does not fit it.
        StorageError: if something else is in the folder, or it cannot be written.
    """
    from fedse.models.base import load_base
    from fedse.models.lora import LoraModel

    config = origin.run.config
    with _exported(origin, folder, "merged") as scratch:
        base = load_base(config.model.model_copy(update={"device": "cpu", "dtype": _dtype(config.model)}))
        lora = LoraModel(base, config.lora)
        lora.load(origin.adapter)
        with boundary(ModelError, f"cannot save {config.model.name!r} merged"), lora.merged():
            base.model.save_pretrained(scratch)
            base.tokenizer.save_pretrained(scratch)
        share(scratch)


def _dtype(model: ModelConfig) -> Literal["float32", "bfloat16"]:
    if model.dtype != "auto":
        return model.dtype
    place = loadable_base(model.name)
    if place is None:
        return "float32"  # as the tiny model is made
    from transformers import AutoConfig

    with boundary(ModelError, f"cannot read the configuration of {model.name!r}"):
        stored = AutoConfig.from_pretrained(place).dtype
    # Half precision of other kinds has less range than training had; bfloat16 is what such a model was run in.
    return "float32" if stored is None or str(stored) == "torch.float32" else "bfloat16"


@contextmanager
def _exported(origin: Origin, folder: Path, kind: Literal["adapter", "merged"]) -> Iterator[Path]:
    """A folder to fill, which becomes ``folder`` with a card and a note of where it is from."""
    _check_target(folder)
    with atomic_directory(folder) as scratch:
        yield scratch
        (scratch / CARD_NAME).write_text(model_card(origin, kind), encoding="utf-8")
        config, version = origin.run.config, metadata.version("fedse")
        note = {"schema_version": SCHEMA_VERSION, "kind": kind, "fedse": version, "run": config.name}
        note |= {"seed": config.seed, "round": origin.round, "client": origin.client, "adapter": origin.adapter.digest}
        write_json(scratch / NOTE_NAME, {**note, "files": _digests(scratch)})


def _check_target(folder: Path) -> None:
    """Only an earlier export may be replaced, and only as it was written: licence, history and notes are the user's."""
    with storage_errors("read", folder):
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
    try:
        found = read_json(folder / NOTE_NAME, schema_version=SCHEMA_VERSION)
    except StorageError:
        found = {}
    if "kind" not in found:
        raise StorageError(f"{folder} holds something else than an export", "choose another folder, or an empty one")
    written = found.get("files", {})
    with storage_errors("read", folder):
        own = [name for name, digest in _digests(folder).items() if name != NOTE_NAME and written.get(name) != digest]
    if own:
        raise StorageError(
            f"{folder} holds what this export did not write, or what was changed since, as {own[0]}",
            "choose another folder with -o; that one is left as it is",
        )


def _digests(folder: Path) -> dict[str, str]:
    """Path below the folder → SHA-256, of all that is not a folder; of a link that of its target's name."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[path.relative_to(folder).as_posix()] = hashlib.sha256(str(path.readlink()).encode()).hexdigest()
        elif not path.is_dir():
            with path.open("rb") as stream:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found
