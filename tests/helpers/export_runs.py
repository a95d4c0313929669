"""Run folders made by hand with real adapters of the tiny model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.config import LoraConfig, ModelConfig, RunConfig
from fedse.evaluation.rates import wilson_interval
from fedse.export import Origin
from fedse.models.base import load_base
from fedse.models.lora import LoraModel
from fedse.models.tiny import tiny_model, tiny_tokenizer
from fedse.results.reading import read_run
from fedse.runs.records import append_record
from fedse.runs.rounds import GLOBAL
from fedse.types import RoundRecord, SuccessRate
from helpers.made_folders import begin_run, keep_round

SITES = ("east", "west")


def base_folder(folder: Path) -> Path:
    """The tiny model as a user's own model folder."""
    tiny_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


@cache
def adapter(seed: int) -> AdapterState:
    """A trained-looking adapter: both factors are full."""
    lora = LoraModel(load_base(ModelConfig(name="tiny", device="cpu")), LoraConfig())
    rng = np.random.default_rng(seed)
    state = lora.initial_state(0)
    tensors = {name: rng.normal(0, 0.2, array.shape).astype(np.float32) for name, array in state.tensors.items()}
    return AdapterState(tensors, state.meta)


def rate(successes: int, episodes: int = 8) -> SuccessRate:
    return SuccessRate(successes, episodes, 0, *wilson_interval(successes, episodes))


def config(model: str, dtype: str, **changes: Any) -> RunConfig:
    environments = dict(zip(SITES, ("maze", "wordle"), strict=True))
    clients = [{"name": site, "environment": environments[site], "demonstrations": 5} for site in SITES]
    return RunConfig.model_validate(
        {"name": "made", "rounds": 2, "model": {"name": model, "dtype": dtype}, "clients": clients} | changes
    )


def made_run(folder: Path, model: str = "tiny", *, dtype: str = "auto", evaluated: bool = True, **changes: Any) -> Path:
    """A finished run: 5 demonstrations, then 4 episodes a round of which as many succeed as the round's number."""
    run = config(model, dtype, **changes)
    layout = begin_run(folder, run)
    isolated = run.method.strategy == "isolated"
    for round in range(run.rounds + 1):
        explored = {"episodes": 4, "errors": 0, "successes": round, "kept": round, "added": round}
        done = {"explore": explored} if round else {"demonstrate": {"episodes": 5, "successes": 5, "added": 5}}
        updates = {site: adapter(10 * number + round) for number, site in enumerate(SITES if round else ())}
        adapters = updates if isolated and round else {GLOBAL: adapter(round)}
        keep_round(layout, round, adapters, updates, base_name=model)
        played = {"maze": rate(2 * round), "wordle": rate(round)} if evaluated or not round else {}
        last = isolated and round == run.rounds
        transfer = {"east": {"maze": rate(4), "wordle": rate(0)}, "west": {"maze": rate(1), "wordle": rate(2)}}
        append_record(
            layout.server,
            RoundRecord(round, dict.fromkeys(SITES, done), played, "digest", {}, transfer=transfer if last else {}),
        )
    return folder


def origin(folder: Path, round: int = 2, client: str = "") -> Origin:
    run = read_run(folder)
    return Origin(run, round, client, run.adapter(round, client))
