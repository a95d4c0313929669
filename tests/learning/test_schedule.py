from __future__ import annotations

import pytest

from fedse.learning.schedule import learning_rate_factor, round_factor


def factors(steps: int, schedule: str, warmup: float = 0.0) -> list[float]:
    return [learning_rate_factor(step, steps, schedule, warmup) for step in range(steps)]  # type: ignore[arg-type]


def test_cosine_starts_at_the_peak_and_falls_along_half_a_cosine() -> None:
    assert factors(4, "cosine") == pytest.approx([1.0, 0.85355, 0.5, 0.14645], abs=1e-5)


def test_constant_stays() -> None:
    assert factors(3, "constant") == [1.0, 1.0, 1.0]


def test_warmup_rises_to_the_peak_before_the_schedule_begins() -> None:
    assert factors(8, "constant", warmup=0.5) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert factors(6, "cosine", warmup=0.3) == pytest.approx([0.5, 1.0, 1.0, 0.85355, 0.5, 0.14645], abs=1e-5)


def test_one_step_is_made_at_the_peak() -> None:
    assert factors(1, "cosine") == factors(1, "cosine", warmup=0.5) == [1.0]


def test_the_peak_falls_from_round_to_round_if_it_is_to() -> None:
    assert [round_factor(round, 4, "constant") for round in (1, 2, 3, 4)] == [1.0] * 4
    falling = [round_factor(round, 4, "cosine") for round in (1, 2, 3, 4)]
    assert falling[0] == 1.0
    assert falling[2] == pytest.approx(0.5)
    assert falling == sorted(falling, reverse=True)
    assert falling[-1] > 0
