"""Code that may make other numbers is told apart."""

from __future__ import annotations

from pathlib import Path

from fedse.provenance import source_digest


def package(folder: Path, **changed: str) -> Path:
    for name, text in {"config": "rounds = 3", "learning/update": "step()", "cli/run": "print()"}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changed.get(path.stem, text))
    return folder


def test_the_source_is_known_by_what_makes_numbers(tmp_path: Path) -> None:
    known = source_digest(package(tmp_path / "known"))
    assert len(known) == 12
    assert source_digest(package(tmp_path / "copy")) == known
    assert source_digest(package(tmp_path / "command", run="print(1)")) == known
    assert source_digest(package(tmp_path / "update", update="step(2)")) != known
    assert source_digest(package(tmp_path / "config", config="rounds = 4")) != known


def test_a_module_that_moves_counts_as_changed(tmp_path: Path) -> None:
    moved = package(tmp_path / "moved")
    known = source_digest(package(tmp_path / "known"))
    (moved / "learning/update.py").rename(moved / "update.py")
    assert source_digest(moved) != known
