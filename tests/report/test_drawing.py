from __future__ import annotations

from matplotlib.figure import Figure

from fedse.report.drawing import Curve, draw_curves, draw_stack


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
