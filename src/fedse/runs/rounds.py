"""What a server keeps of a round: the strategy's state after it, and the replies of the sites."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from fedse.adapters.files import load_adapter, save_adapter
from fedse.adapters.state import AdapterState
from fedse.errors import RunError, StorageError, boundary
from fedse.runs.layout import ServerFolder
from fedse.storage import atomic_directory, atomic_write, read_json, write_json
from fedse.types import FloatArray

#: The key of the adapter that serves all sites; no site's name begins so.
GLOBAL = "_global"

_SCHEMA = 1
_STATE, _ARRAYS, _TOLD = "state.json", "state.safetensors", "told.json"
_EXCHANGE = "exchange.json"


def owner_label(owner: str) -> str:
    """Whose an adapter is, as tables show it: a site's name, or ``global``."""
    return "global" if owner == GLOBAL else owner


@dataclass(frozen=True)
class State:
    """What a server knows after a round, whatever the strategy; it is all that the next round depends on.

    Attributes:
        adapters: ``GLOBAL`` → the adapter that serves all sites; name of a site → that site's own; other names are the
            strategy's.
        arrays: further tensors, such as momentum; names that begin with ``_`` are the server's.
        numbers: further numbers.
    """

    adapters: Mapping[str, AdapterState]
    arrays: Mapping[str, FloatArray] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)

    def adapter(self, site: str = "") -> AdapterState:
        """The adapter of a site: its own if it has one, else the global one.

        Raises:
            RunError: if there is neither.
        """
        adapter = self.adapters.get(site, self.adapters.get(GLOBAL))
        if adapter is None:
            raise RunError("there is no global adapter: every site has its own", "name a site")
        return adapter


@dataclass(frozen=True)
class Exchange:
    """What a server knows of the adapters at its sites, at the end of a round.

    Attributes:
        initial: digest of the adapter that the federation begins with, which every site can make.
        held: site → the round after which the state was from which it was last sent an adapter.
        sent: site → bytes of the instructions of the round that had adapters, evaluations included.
    """

    initial: str
    held: Mapping[str, int]
    sent: Mapping[str, int]


@dataclass(frozen=True)
class Told:
    """What is known of a round before its evaluation.

    Attributes:
        clients, scalars, seconds: see :class:`fedse.types.RoundRecord`.
        exchange: what the sites have so far.
    """

    clients: Mapping[str, Mapping[str, Any]]
    scalars: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]
    exchange: Exchange


def save_round(
    folder: ServerFolder,
    number: int,
    state: State,
    replies: Path | None = None,
    *,
    told: Told | None = None,
    before: State | None = None,
    changes: Mapping[str, bytes] | None = None,
    base_name: str = "",
) -> None:
    """Write a round, whole or not at all.  One that is there is replaced, so that what the server goes on with and what
    lies on disk agree also if other sites replied this time.

    Equal adapters are written once.  What the state has from the round before is referred to, but for the global
    adapter, which every round has.

    Args:
        folder: the server's.
        number: of the round; 0 is the beginning.
        state: after the round.
        replies: folder with the bytes that each site sent, named as the site; it is moved.
        told: what the sites told.
        before: the state after the round before.
        changes: adapter of the state → its change in the round, as it is sent.
        base_name: name of the base model, for peft.

    Raises:
        AdapterError: if an adapter is not sound.
        StorageError: if a file cannot be written.
    """
    places: dict[str, str] = {}
    if before is not None:
        for name, place in _read(folder, number - 1)["adapters"].items():
            if (
                name != GLOBAL
                and name in state.adapters
                and state.adapters[name].digest == before.adapters[name].digest
            ):
                places[name] = place if place.startswith("../") else f"../{number - 1:03d}/{place}"
    with atomic_directory(folder.round(number)) as scratch:
        written: dict[str, str] = {}
        for name in sorted(state.adapters.keys() - places.keys(), key=lambda name: (name != GLOBAL, name)):
            adapter = state.adapters[name]
            if adapter.digest not in written:
                written[adapter.digest] = "global" if name == GLOBAL else f"adapters/{name}"
                save_adapter(adapter, scratch / written[adapter.digest], base_name=base_name)
            places[name] = written[adapter.digest]
        if state.arrays:
            # In C order: safetensors writes the memory of an array as it lies, whatever its strides.
            arrays = {name: np.asarray(array, order="C") for name, array in sorted(state.arrays.items())}
            (scratch / _ARRAYS).write_bytes(safetensors.numpy.save(arrays))
        if replies is not None:
            replies.rename(scratch / "replies")
        if told is not None:
            write_json(scratch / _TOLD, {"schema_version": _SCHEMA, **asdict(told)})
        for name, data in (changes or {}).items():
            atomic_write(scratch / "changes" / name, data)
        content = {"adapters": dict(sorted(places.items())), "numbers": dict(sorted(state.numbers.items()))}
        write_json(scratch / _STATE, {"schema_version": _SCHEMA, **content})


def load_state(folder: ServerFolder, number: int) -> State:
    """The state after a round.

    Raises:
        RunError: if the round is missing or damaged.
        AdapterError: if an adapter is damaged.
    """
    content = _read(folder, number)
    adapters = {name: load_adapter(adapter_folder(folder, number, name)) for name in content["adapters"]}
    path = folder.round(number) / _ARRAYS
    with boundary(RunError, f"{path} is damaged", "redo the round: remove its folder, then resume the run"):
        arrays = safetensors.numpy.load_file(path) if path.exists() else {}
    return State(adapters, arrays, content["numbers"])


def load_told(folder: ServerFolder, number: int) -> Told | None:
    """What the sites told in a round that was absorbed; None if it was not.

    Raises:
        RunError: if the file is damaged.
    """
    path = folder.round(number) / _TOLD
    if not path.exists():
        return None
    with boundary(RunError, f"{path} is damaged", "redo the round: remove its folder, then resume the run"):
        content = read_json(path, schema_version=_SCHEMA)
        return Told(content["clients"], content["scalars"], content["seconds"], Exchange(**content["exchange"]))


def adapter_folder(folder: ServerFolder, number: int, site: str = "") -> Path:
    """The peft folder of the adapter that a site has after a round: its own if it has one, else the global one.

    Raises:
        RunError: if the round is missing or damaged, or no such adapter is there.
    """
    places = _read(folder, number)["adapters"]
    place = places.get(site, places.get(GLOBAL))
    if place is None:
        own = ", ".join(name for name in places if not name.startswith("_"))
        raise RunError(f"there is no global adapter: every site has its own ({own})", "name a site")
    # Without resolving links: the parts of a path that a reader sees are those of the folder that was named.
    return Path(os.path.normpath(folder.round(number) / place))


def has_adapter(folder: ServerFolder, number: int, site: str = "") -> bool:
    """The adapter that a site has after a round is here: its own if ``site`` is given, or the global one.

    Raises:
        RunError: if the round is damaged.
    """
    places = _read(folder, number)["adapters"]
    return GLOBAL in places or site in places


def save_exchange(round_folder: Path, exchange: Exchange) -> None:
    """Write down the exchange of a round.

    Raises:
        StorageError: if it cannot be written.
    """
    write_json(round_folder / _EXCHANGE, {"schema_version": _SCHEMA, **asdict(exchange)})


def load_exchange(folder: ServerFolder, number: int) -> Exchange:
    """The exchange of a round.

    Raises:
        RunError: if it is missing or damaged.
    """
    path = folder.round(number) / _EXCHANGE
    try:
        content = read_json(path, schema_version=_SCHEMA)
        held, sent = ({str(site): int(value) for site, value in content[key].items()} for key in ("held", "sent"))
        return Exchange(str(content["initial"]), held, sent)
    except (StorageError, AttributeError, KeyError, TypeError, ValueError) as cause:
        raise RunError(f"{path} does not say what the sites have: {cause}", "restore it from a copy") from cause


def traffic(folder: ServerFolder, number: int) -> dict[str, tuple[int, int]]:
    """Site → (bytes that brought it adapters, bytes that brought its update) in a round; nothing where it is not known.

    Raises:
        RunError: if the round is damaged.
    """
    if not (folder.round(number) / _EXCHANGE).exists():
        return {}
    sent = load_exchange(folder, number).sent
    return {site: (size, _size(folder.reply(number, site))) for site, size in sent.items()}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _read(folder: ServerFolder, number: int) -> dict[str, Any]:
    path = folder.round(number) / _STATE
    try:
        content = read_json(path, schema_version=_SCHEMA)
        return {name: dict(content[name]) for name in ("adapters", "numbers")}
    except (StorageError, KeyError, TypeError, ValueError) as cause:
        raise RunError(
            f"{path} does not say what the server had after round {number}: {cause}", "restore it from a copy"
        ) from cause
