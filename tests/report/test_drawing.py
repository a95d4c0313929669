from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from fedse.report.drawing import Curve, draw_curves, draw_stack
from fedse.report.figures import slug


def test_one_round_has_no_bar_across_the_figure() -> None:
    axes = Figure().add_subplot()
    draw_stack(axes, {"demonstrations": {0: 15.0}}, ylabel="episodes")
    low, high = axes.get_xlim()
    [bar] = axes.patches
    assert bar.get_width() < (high - low) / 4


def test_no_round_is_named_that_is_not_there() -> None:
    axes = Figure().add_subplot()
    draw_curves(axes, [Curve("maze", {0: 1.0, 20: 5.0}, 0)], ylabel="success (%)")
    low, high = axes.get_xlim()
    named = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert min(named) >= 0
    assert max(named) <= 20


@pytest.mark.parametrize("rounds", [[7, 8], [8], [1, 2, 3], [*range(1, 9)]])
def test_the_last_rounds_have_none_after_them(rounds: list[int]) -> None:
    axes = Figure().add_subplot()
    draw_curves(axes, [Curve("maze", dict.fromkeys(rounds, 50.0), 0)], ylabel="success (%)")
    draw_stack(other := Figure().add_subplot(), {"new": dict.fromkeys(rounds, 1.0)}, ylabel="episodes")
    assert list(axes.get_xticks()) == list(other.get_xticks()) == rounds


def test_methods_that_differ_by_a_plus_have_figures_of_their_own() -> None:
    assert slug("success", "Fed-SE+") == "success-fed-se-plus"
    assert slug("success", "Fed-SE") == "success-fed-se"
