"""How many tasks a claim needs: sample sizes for the difference of two success rates."""

from __future__ import annotations

import math
from statistics import NormalDist

from fedse.errors import ConfigError

ALPHA = 0.05
POWER = 0.8


def tasks_needed_unpaired(rate: float, gain: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Tasks per method when each method plays tasks of its own.

    n = (z₁₋α/₂ √(2 p̄ (1 − p̄)) + z₁₋β √(p₁ (1 − p₁) + p₂ (1 − p₂)))² / (p₂ − p₁)² with p̄ = (p₁ + p₂) / 2, rounded up:
    the two-sided test of two proportions (Fleiss, Levin & Paik 2003, "Statistical Methods for Rates and Proportions",
    section 4.2, without continuity correction).

    Args:
        rate: success rate p₁ of the weaker method, in [0, 1).
        gain: p₂ − p₁ > 0.
        alpha: two-sided level of the test.
        power: chance 1 − β of finding the gain.

    Raises:
        ConfigError: if there is no such pair of rates.
    """
    higher = rate + gain
    if not (rate >= 0 and gain > 0 and higher <= 1):
        raise ConfigError(
            f"no method gains {100 * gain:g} points on a rate of {100 * rate:g} %", "choose rates between 0 and 100 %"
        )
    middle = (rate + higher) / 2
    null = math.sqrt(2 * middle * (1 - middle))
    alternative = math.sqrt(rate * (1 - rate) + higher * (1 - higher))
    return _tasks(null, alternative, gain, alpha, power)


def tasks_needed_paired(discordance: float, gain: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Tasks that both methods play, for McNemar's test.

    n = (z₁₋α/₂ √ψ + z₁₋β √(ψ − δ²))² / δ², rounded up (Connor 1987, Biometrics 43:207).

    Args:
        discordance: share ψ of tasks that exactly one of the methods solves.
        gain: difference δ > 0 of the success rates; at most ψ, when no task gets worse.
        alpha: two-sided level of the test.
        power: chance 1 − β of finding the gain.

    Raises:
        ConfigError: if there is no such pair of methods.
    """
    if not 0 < gain <= discordance <= 1:
        raise ConfigError(
            f"methods that differ on {100 * discordance:g} % of the tasks cannot differ by {100 * gain:g} points",
            "the discordance is at least the gain, and at most 100 %",
        )
    return _tasks(math.sqrt(discordance), math.sqrt(discordance - gain**2), gain, alpha, power)


def _tasks(null: float, alternative: float, gain: float, alpha: float, power: float) -> int:
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ConfigError(f"alpha {alpha:g} and power {power:g} must lie between 0 and 1", "0.05 and 0.8 are usual")
    quantile = NormalDist().inv_cdf
    return math.ceil(((quantile(1 - alpha / 2) * null + quantile(power) * alternative) / gain) ** 2)
