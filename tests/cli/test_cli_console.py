from __future__ import annotations

import io
import math
import re

import pytest
from rich.table import Table

from fedse.cli import console
from fedse.cli.console import print_table
from fedse.results.formatting import duration, percent, rate_with_interval, size, sparkline
from fedse.types import SuccessRate


def test_rates_are_shown_with_their_interval() -> None:
    assert rate_with_interval(SuccessRate(48, 64, 0, low=0.632, high=0.840)) == "75 % [63–84]"


def test_a_rate_without_episodes_is_a_dash_and_not_zero() -> None:
    assert rate_with_interval(SuccessRate(0, 0, 3, low=math.nan, high=math.nan)) == "–"
    assert percent(math.nan) == "–"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_durations_read_like_a_clock(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(512, "512 B"), (2048, "2 KiB"), (3 << 20, "3 MiB"), (5 << 30, "5.0 GiB")])
def test_sizes_are_in_binary_units(count: int, text: str) -> None:
    assert size(count) == text


def test_a_sparkline_has_one_bar_per_rate_and_a_dot_where_there_is_none() -> None:
    assert sparkline([0.0, 0.5, 1.0, math.nan]) == "▁▅█·"


def test_a_table_in_a_pipe_is_as_wide_as_it_needs_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(*(f"environment {number}" for number in range(30)))
    table.add_row(*("word " * 20 for _ in range(30)))
    print_table(table)
    rows = [line for line in capsys.readouterr().out.splitlines() if "word" in line]
    assert len(rows) == 1
    assert rows[0].count("word") == 600


@pytest.mark.parametrize("width", [80, 40])
def test_a_narrow_terminal_cuts_no_number_and_no_path(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(
        console, "stdout", console._Console(file=shown, force_terminal=True, width=width, soft_wrap=True)
    )
    path = f"runs/{'long' * 20}-seed0"
    numbers = [f"{number}.5678e-0{number}" for number in range(1, 9)]
    rates = "75 % [63–84]"
    headings = ["run", *(f"measure of number {number}" for number in range(8)), "rate", "note"]
    console.show_table(headings, [[path, *numbers, rates, "a note of some words"]], texts=["note"])
    text = re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue())
    assert "…" not in text
    assert all(number in text for number in [*numbers, "75 %", "[63–84]"])
    assert path in "".join(line[:12] for line in text.splitlines()).replace(" ", "")
