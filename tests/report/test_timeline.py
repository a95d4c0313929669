from __future__ import annotations

from pathlib import Path

import pytest

from fedse.progress import Phase
from fedse.report.timeline import timeline
from fedse.results.reading import read_run
from fedse.runs.records import append_record
from fedse.types import RoundRecord
from helpers.report_runs import SECONDS, begin, config, finish_phase

CLIENTS = [{"name": "west", "environment": "maze"}, {"name": "east", "environment": "wordle"}]
ROUND = [
    ("west", 0, Phase.DEMONSTRATE),
    ("east", 0, Phase.DEMONSTRATE),
    ("west", 1, Phase.EXPLORE),
    ("west", 1, Phase.TRAIN),
]


def folder_with(root: Path, ends: list[float]) -> Path:
    """A run whose phases were marked at these times, in the order of ``ROUND``."""
    layout = begin(root, config(clients=CLIENTS))
    for (site, round, phase), end in zip(ROUND, ends, strict=True):
        finish_phase(layout, site, round, phase, {}, ended=end)
    append_record(layout.server, RoundRecord(0, {}, {}, "digest", {}))
    return root


def test_phases_lie_where_the_clock_has_them(tmp_path: Path) -> None:
    found = timeline(read_run(folder_with(tmp_path, [1001.0, 1003.0, 1005.0, 1010.0])))
    assert found.by_clock
    assert [(span.kind, span.start, span.end) for span in found.sites["west"]] == [
        (Phase.DEMONSTRATE, 0.0, 1.0),
        (Phase.EXPLORE, 3.0, 5.0),
        (Phase.TRAIN, 7.0, 10.0),
    ]
    assert [span.start for span in found.sites["east"]] == [2.0]
    assert found.seconds == 10.0


def test_a_copy_without_its_times_puts_the_phases_in_a_row(tmp_path: Path) -> None:
    found = timeline(read_run(folder_with(tmp_path, [1000.0] * 4)))
    assert not found.by_clock
    assert [span.start for span in found.sites["west"]] == [0.0, 1.0, 3.0]
    assert found.seconds == sum(SECONDS[phase] for site, _, phase in ROUND if site == "west")


def test_a_pause_of_all_sites_is_cut_out(tmp_path: Path) -> None:
    ends = [1001.0, 1002.0, 1004.0, 1004.0 + 3600 + SECONDS[Phase.TRAIN]]
    found = timeline(read_run(folder_with(tmp_path, ends)))
    assert found.by_clock
    [(start, seconds)] = found.pauses
    assert (start, seconds) == pytest.approx((4.0, 3600.0))
    assert found.seconds == pytest.approx(7.0)
