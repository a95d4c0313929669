"""Small runs on the tiny model and the toy environment, and what to compare of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fedse.adapters.codec import pack, unpack
from fedse.adapters.state import AdapterState
from fedse.config import RunConfig
from fedse.federation.channel import read_reply
from fedse.federation.run import run
from fedse.federation.server import strategy_of
from fedse.messages import Reply, Update
from fedse.progress import Event
from fedse.runs.folder import read_config
from fedse.runs.layout import RunFolder


def toy_client(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "environment": "toy", "demonstrations": 3, "episodes_per_round": 4} | changes


def toy_config(*clients: dict[str, Any], **changes: Any) -> RunConfig:
    """Two rounds of two clients, done in seconds; sections are merged key by key.

    Adapters cross exactly, so that tests can compare them with what they must be.
    """
    data: dict[str, Any] = {
        "rounds": 2,
        "model": {"name": "tiny", "device": "cpu"},
        "lora": {"rank": 2, "alpha": 4.0, "target_modules": ("q_proj", "v_proj")},
        "clients": list(clients) or [toy_client("alpha"), toy_client("beta")],
        "rollout": {"slots": 4, "max_context": 256},
        "training": {"steps": 2, "batch_size": 2, "learning_rate": 1e-2},
        "evaluation": {"tasks": 4},
        "exchange": {"codec": "fp32"},
    }
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return RunConfig.model_validate(data)


class StoppedError(Exception):
    """What an interrupted listener raises."""


def interrupted(config: RunConfig, folder: Path, *, after: int, resume: bool = False) -> bool:
    """Run until so many events were told; whether that was before the end."""
    told = 0

    def listen(_: Event) -> None:
        nonlocal told
        told += 1
        if told > after:
            raise StoppedError

    try:
        run(config, folder, resume=resume, listener=listen)
    except StoppedError:
        return True
    return False


def without_seconds(value: Any) -> Any:
    """JSON data without what the clock decides."""
    if isinstance(value, dict):
        return {key: without_seconds(item) for key, item in value.items() if key not in ("seconds", "ended")}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def fingerprint(folder: Path) -> dict[str, str]:
    """Path → digest of everything in a run folder that a resumed run must reproduce.

    That is all but seconds, also those in replies, and the store's own file format; the store is compared by what
    training reads from it, which the adapters show.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = str(path.relative_to(folder))
        if path.is_dir() or path.name in ("server.lock", "experience.sqlite"):
            continue
        content = path.read_bytes()
        if path.parent.name == "replies":
            content = _timeless(content)
        if path.suffix in (".json", ".jsonl"):
            lines = (
                [without_seconds(json.loads(line)) for line in content.decode().splitlines()]
                if (path.suffix == ".jsonl")
                else without_seconds(json.loads(content))
            )
            content = json.dumps(lines).encode()
        found[relative] = hashlib.sha256(content).hexdigest()
    return found


def reply(folder: Path, number: int, site: str) -> Reply:
    """What a site sent in a round."""
    server = RunFolder(folder).server
    return read_reply(strategy_of(read_config(server)), server, number, site)


def update(folder: Path, number: int, site: str) -> AdapterState:
    """The adapter that a site sent in a round."""
    answer = reply(folder, number, site).answer
    assert isinstance(answer, Update)
    return answer.adapter


def adapters(folder: Path, config: RunConfig) -> list[str]:
    """Digests of the weights of every global adapter and of every update, sites in the order of their names."""
    server = RunFolder(folder).server
    files = [server.global_adapter(number) / "adapter_model.safetensors" for number in range(config.rounds + 1)]
    sent = [update(folder, number, site) for number in range(1, config.rounds + 1) for site in sorted(config.sites)]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files] + [adapter.digest for adapter in sent]


def _timeless(data: bytes) -> bytes:
    body, arrays = unpack(data)
    return pack(without_seconds(body), arrays)
