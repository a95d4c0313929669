from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from fedse.cli.progress import phase_line, shown
from fedse.progress import Event, Phase

EXPLORED = Event(Phase.EXPLORE, 2, "maze", done=32, total=32, successes=12, tokens=6400, seconds=16.0, finished=True)
TRAINED = Event(Phase.TRAIN, 2, "maze", done=20, total=20, tokens=9000, seconds=30.0, loss=0.25, finished=True)


def watched(events: list[Event], *, terminal: bool, quiet: bool = False) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=160, color_system=None)
    with shown(3, quiet=quiet, console=console) as listener:
        for event in events:
            listener(event)
    return console.file.getvalue()


def test_a_rollout_line_tells_client_phase_successes_and_speed() -> None:
    line = phase_line(EXPLORED, 3)
    for fact in ("round 2/3", "maze", "explore", "32/32 episodes", "12 succeeded (38 %)", "400 tokens/s", "0:16"):
        assert fact in line


def test_an_episode_that_is_lost_to_a_fault_is_no_failure() -> None:
    line = phase_line(replace(EXPLORED, done=10, total=10, successes=5, errors=5), 3)
    assert "5 succeeded (100 %)  5 lost to faults" in line
    assert "0 succeeded (–)" in phase_line(replace(EXPLORED, done=2, total=2, successes=0, errors=2), 3)


def test_a_training_line_tells_steps_and_loss() -> None:
    line = phase_line(TRAINED, 3)
    assert "20/20 steps" in line
    assert "loss 0.250" in line
    assert "succeeded" not in line


def test_a_note_stands_beside_the_figures() -> None:
    diverged = Event(Phase.TRAIN, 1, "maze", done=0, total=0, finished=True, note="diverged: the loss is nan")
    assert phase_line(diverged, 3).endswith("diverged: the loss is nan")


def test_adapters_that_one_site_plays_side_by_side_have_a_bar_each() -> None:
    visits = [
        Event(Phase.EVALUATE, 3, "maze", done, 8, finished=done == 8, note=f"adapter of {name}")
        for done in (2, 8)
        for name in ("wordle", "webshop")
    ]
    text = watched(visits, terminal=True)
    for visit in visits[2:]:
        assert phase_line(visit, 3) in text


def test_without_a_terminal_there_is_one_plain_line_per_finished_phase() -> None:
    begun = Event(Phase.EXPLORE, 2, "maze", done=8, total=32, successes=1, seconds=4.0)
    text = watched([begun, EXPLORED, TRAINED], terminal=False)
    assert text == f"{phase_line(EXPLORED, 3)}\n{phase_line(TRAINED, 3)}\n"


def test_on_a_terminal_the_bar_shows_successes_and_time_left_and_finished_phases_stay() -> None:
    begun = Event(Phase.EXPLORE, 2, "maze", done=8, total=32, successes=1, tokens=800, seconds=4.0)
    assert "8/32 episodes · 1 succeeded · 200 tokens/s · 0:12 left" in watched([begun], terminal=True)
    assert phase_line(EXPLORED, 3) in watched([begun, EXPLORED], terminal=True)


def test_the_bar_tells_faults_while_they_happen() -> None:
    begun = Event(Phase.EXPLORE, 2, "maze", done=8, total=32, successes=1, errors=3, seconds=4.0)
    assert "1 succeeded · 3 lost to faults" in watched([begun], terminal=True)


def test_quiet_shows_nothing() -> None:
    assert watched([EXPLORED, TRAINED], terminal=False, quiet=True) == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_what_holds_a_rollout_up_has_a_line_of_its_own(terminal: bool) -> None:
    held_up = replace(EXPLORED, done=8, finished=False, trouble="waits for the endpoint http://here: no connection")
    text = watched([held_up, held_up, EXPLORED], terminal=terminal)
    lines = [line for line in text.splitlines() if line.rstrip().endswith(held_up.trouble)]
    assert len(lines) == 1
    assert "maze" in lines[0]
