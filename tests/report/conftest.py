from __future__ import annotations

import pytest

from fedse.report import figures


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of a page are drawn, but neither laid out nor made into SVG, which takes three quarters of a page's time.

    For tests of a page's words and numbers.
    """
    from matplotlib.figure import Figure as Drawing

    def sketch(figure: figures.Figure, kind: str) -> bytes:
        figure.draw(Drawing().add_subplot())
        return b"<svg></svg>"

    monkeypatch.setattr(figures, "_saved", sketch)
