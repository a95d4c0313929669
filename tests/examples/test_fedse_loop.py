from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "fedse_loop.py"


def test_the_flat_example_runs_the_whole_method_on_the_tiny_model() -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLE), "--model", "tiny", "--quick"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("before")
    assert "maze 0% [0%, 56%]" in lines[0]
    assert sum("explored 3, kept" in line for line in lines) == 4
    assert sum(line.startswith("round") and "wordle" in line and "%" in line for line in lines) == 2


def test_the_flat_example_stays_short_and_uses_the_front_door() -> None:
    lines = EXAMPLE.read_text().splitlines()
    assert len(lines) < 200
    assert [line for line in lines if re.match(r"\s*(from|import) fedse", line)] == ["import fedse"]
