"""Which code and which libraries made a run's numbers."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

#: Parts of the package that plan runs, call them, and read what they left: no number of a run depends on them.
_READERS = frozenset({"cli", "diagnostics", "export", "planning", "report", "results", "suites"})
_PACKAGES = ("fedse", "numpy", "peft", "safetensors", "torch", "transformers")


@cache
def source_digest(package: Path = Path(__file__).parent) -> str:
    """The first twelve hexadecimal digits of a SHA-256 over the modules that make a run's numbers.

    A release number does not tell two commits apart, and an installed package has no commit to ask for.

    Args:
        package: the package's folder.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package)
        if name.parts[0] not in _READERS:
            content = path.read_bytes()
            digest.update(f"{name.as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]


def software() -> dict[str, str]:
    """Name → version of what makes a run's numbers on this machine, but for the arithmetic of the model."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "source": source_digest(),
        **{package: metadata.version(package) for package in _PACKAGES},
    }
