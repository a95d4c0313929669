from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "fedse_loop.py"


def test_the_flat_example_runs_the_whole_method_on_the_tiny_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--model", "tiny", "--quick"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("before")
    assert "maze 0% [0%, 56%]" in lines[0]
    assert sum("explored 3, kept" in line for line in lines) == 4
    assert sum(line.startswith("round") and "wordle" in line and "%" in line for line in lines) == 2


def test_the_flat_example_stays_short_and_uses_the_front_door() -> None:
    lines = EXAMPLE.read_text().splitlines()
    assert len(lines) < 200
    assert [line for line in lines if re.match(r"\s*(from|import) fedse", line)] == ["import fedse"]
