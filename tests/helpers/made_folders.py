"""The parts of a run folder made by hand, as a run would leave them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.messages import Purpose, Reply, Update
from fedse.progress import Phase
from fedse.runs.layout import EnvironmentFolder, RunFolder
from fedse.runs.rounds import Exchange, State, save_exchange, save_round
from fedse.settings import dump_config
from fedse.storage import atomic_write, scratch_directory, write_json

VERSIONS = {"schema_version": 1, "fedse": "0.1.0", "torch": "2.13.0"}


def begin_run(folder: Path, config: RunConfig) -> RunFolder:
    run = RunFolder(folder)
    atomic_write(run.server.config, dump_config(config))
    write_json(run.server.versions, VERSIONS)
    return run


def place(run: RunFolder, site: str) -> EnvironmentFolder:
    """The environment of a site that has one."""
    return run.site(site).environment(site)


def mark(
    run: RunFolder, site: str, number: int, phase: Phase, metrics: Mapping[str, Any], seconds: float, **more: Any
) -> None:
    content = {"schema_version": 1, "metrics": dict(metrics), "seconds": seconds, "ended": time.time(), **more}
    write_json(place(run, site).marker(number, phase), content)


def keep_round(
    run: RunFolder,
    number: int,
    adapters: Mapping[str, AdapterState],
    updates: Mapping[str, AdapterState] | None = None,
    *,
    base_name: str = "",
) -> None:
    """What the server keeps of a round: its adapters, and what the sites sent."""
    replies = {
        site: Reply(site=site, purpose=Purpose.ROUND, round=number, answer=Update(adapter=sent)).encode()
        for site, sent in (updates or {}).items()
    }
    sizes = {site: len(data) for site, data in replies.items()}
    with scratch_directory(run.server.round(number)) as inbox:
        for site, data in replies.items():
            (inbox / site).write_bytes(data)
        save_round(run.server, number, State(adapters), inbox, base_name=base_name)
    save_exchange(run.server.round(number), Exchange("", {}, sizes))
