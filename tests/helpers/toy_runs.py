"""Small runs on the tiny model and the toy environment, and what to compare of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fedse.config import RunConfig
from fedse.runs.layout import RunLayout


def toy_client(name: str, **changes: Any) -> dict[str, Any]:
    return {"name": name, "environment": "toy", "demonstrations": 3, "episodes_per_round": 4} | changes


def toy_config(*clients: dict[str, Any], **changes: Any) -> RunConfig:
    """Two rounds of two clients, done in seconds; sections are merged key by key."""
    data: dict[str, Any] = {
        "rounds": 2,
        "model": {"name": "tiny", "device": "cpu"},
        "lora": {"rank": 2, "alpha": 4.0, "target_modules": ("q_proj", "v_proj")},
        "clients": list(clients) or [toy_client("alpha"), toy_client("beta")],
        "rollout": {"slots": 4, "max_context": 256},
        "training": {"steps": 2, "batch_size": 2, "learning_rate": 1e-2},
        "evaluation": {"tasks": 4},
    }
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return RunConfig.model_validate(data)


def without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_seconds(item) for key, item in value.items() if key != "seconds"}
    return [without_seconds(item) for item in value] if isinstance(value, list) else value


def fingerprint(folder: Path) -> dict[str, str]:
    """Path → digest of everything in a run folder that a resumed run must reproduce: all but seconds and the store's
    own file format; the store is compared by what training reads from it, which the adapters show."""
    found = {}
    for path in sorted(folder.rglob("*")):
        relative = str(path.relative_to(folder))
        if path.is_dir() or path.name in ("run.lock", "experience.sqlite"):
            continue
        content = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            lines = (
                [without_seconds(json.loads(line)) for line in content.decode().splitlines()]
                if (path.suffix == ".jsonl")
                else without_seconds(json.loads(content))
            )
            content = json.dumps(lines).encode()
        found[relative] = hashlib.sha256(content).hexdigest()
    return found


def adapters(folder: Path, config: RunConfig) -> list[str]:
    """Digests of the weights of every global adapter and of every update, clients in the order of their names."""
    layout = RunLayout(folder)
    names = sorted(client.name for client in config.clients)
    folders = [layout.global_adapter(round) for round in range(config.rounds + 1)]
    folders += [layout.update(round, name) for round in range(1, config.rounds + 1) for name in names]
    return [hashlib.sha256((path / "adapter_model.safetensors").read_bytes()).hexdigest() for path in folders]
