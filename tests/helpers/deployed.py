"""Configurations that a deployment does in seconds."""

from __future__ import annotations

from fedse.config import RunConfig

SECONDS = 120.0


def small_run(**changes: object) -> RunConfig:
    """Two sites on the tiny model, one round."""
    sites = [
        {"name": name, "environment": name, "demonstrations": 1, "episodes_per_round": 1} for name in ("maze", "wordle")
    ]
    return RunConfig.model_validate(
        {
            "rounds": 1,
            "model": {"name": "tiny"},
            "lora": {"rank": 2},
            "clients": sites,
            "rollout": {"max_turns": 2, "max_response_tokens": 8},
            "training": {"steps": 1},
            "evaluation": {"tasks": 1},
            "exchange": {"deadline": SECONDS},
        }
        | changes
    )
