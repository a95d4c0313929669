"""Replace submodules of a model for the length of a block, and put the very same objects back afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn


def set_submodule(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put ``module`` where ``path`` (dotted, relative to ``root``) points; its place among its siblings stays."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


@contextmanager
def swapped(root: nn.Module, replacements: Mapping[str, nn.Module]) -> Iterator[None]:
    """Inside the block the modules at the given dotted paths are replaced; the originals come back in any case."""
    originals = {path: root.get_submodule(path) for path in replacements}
    try:
        for path, module in replacements.items():
            set_submodule(root, path, module)
        yield
    finally:
        for path, module in originals.items():
            set_submodule(root, path, module)
