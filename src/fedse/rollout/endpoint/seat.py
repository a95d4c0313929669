"""The adapter that plays, at an inference server: loaded when it is needed, again after a restart, and then dropped."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
import weakref
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedse.adapters.files import save_adapter
from fedse.adapters.state import AdapterState
from fedse.errors import EndpointError
from fedse.rollout.endpoint.connection import LATER, Connection, Unavailable
from fedse.rollout.endpoint.dialect import Dialect

#: How often a server that is well otherwise may fail to load an adapter.
_LOADS = 3
_FAREWELL_SECONDS = 5.0


class Seat:
    """The place of one adapter at a server.

    Its name at the server has a random part, so that players share a server without dropping each other's adapters.

    Args:
        connection: to the server.
        dialect: of the server.
        names: of the base model, any of which will do.
        context: tokens that an episode may have.
        folder: that server and player both see, under the same path; adapters go into a folder of their own in it.
            ``None``: a temporary folder.
    """

    def __init__(
        self, connection: Connection, dialect: Dialect, names: Collection[str], context: int, folder: Path | None
    ) -> None:
        self._connection, self._dialect = connection, dialect
        self._names, self._context = names, context
        self._own = f"fedse-{secrets.token_hex(4)}"
        self._folder = (folder or Path(tempfile.gettempdir())).absolute() / self._own
        self._lock = threading.Lock()
        self._base: str | None = None
        self._loaded: list[str] = []
        self._failures = 0
        weakref.finalize(self, _leave, connection, dialect, self._loaded, self._folder)

    def take(self, adapter: AdapterState | None) -> tuple[str, str | None]:
        """Names of the base model and of the adapter at the server, where both are ready; one thread at a time works.

        Raises:
            Unavailable: if the server cannot be asked now.
            EndpointError: if it has another base model, or refuses the adapter.
            AdapterError, StorageError: if the adapter cannot be written.
        """
        with self._lock:
            name = None if adapter is None else f"{self._own}-{adapter.digest[:16]}"
            if self._base is None or (name and name not in self._loaded):
                self._base = self._served()  # anew for each adapter: the server may be another one since
                if adapter and name:
                    self._load(adapter, name)
            return self._base, name

    def lost(self, name: str) -> None:
        """The server said that it does not have the adapter, as after a restart; it is loaded when it is next taken."""
        with self._lock, suppress(ValueError):
            self._loaded.remove(name)

    def _served(self) -> str:
        """The name under which the server has the run's base model."""
        answer = self._connection.settle("to list its models", self._connection.ask("GET", "/v1/models"))
        try:
            cards = [dict(card) for card in answer.body["data"]]
            served = [str(card["id"]) for card in cards]
        except (KeyError, TypeError, ValueError) as cause:
            raise EndpointError(
                f"the endpoint {self._connection.address} lists no models: {answer.words}",
                "check rollout.endpoint.url; it is the address without /v1",
            ) from cause
        for card in cards:
            if card["id"] in self._names or card.get("root") in self._names:
                self._check_context(card.get("max_model_len"))
                return str(card["id"])
        bases = [name for name in served if not name.startswith("fedse-")]
        raise EndpointError(
            f"the endpoint {self._connection.address} serves {', '.join(bases) or 'nothing'}, but the run's base model "
            f"is {' or '.join(self._names)}",
            "serve the run's base model there; where it goes by another name, set rollout.endpoint.model to that",
        )

    def _check_context(self, length: Any) -> None:
        if isinstance(length, int) and length < self._context:
            raise EndpointError(
                f"the endpoint {self._connection.address} takes {length} tokens, but rollout.max_context is "
                f"{self._context}",
                "start it with a longer context, or begin a run with a smaller rollout.max_context",
            )

    def _load(self, adapter: AdapterState, name: str) -> None:
        place = self._folder / adapter.digest[:16]
        if not place.is_dir():
            save_adapter(adapter, place, base_name=self._base or "")
        answer = self._connection.ask("POST", self._dialect.load, {"lora_name": name, "lora_path": str(place)})
        loaded_before = "already" in answer.text and "loaded" in answer.text  # by a request whose answer was lost
        if not answer.good and not loaded_before:
            self._failures += answer.status == 500
            later = answer.status in LATER or answer.status >= 500
            high = "max_lora_rank" in answer.text or "max-lora-rank" in answer.text  # vLLM says so with status 500
            if later and not high and self._failures < _LOADS:
                raise Unavailable(answer.words)
            self._failures = 0
            mend = f"start it with a --max-lora-rank of at least {adapter.meta.rank}" if high else self._way_to(place)
            raise EndpointError(
                f"the endpoint {self._connection.address} does not load the adapter: {answer.words}", mend
            )
        self._failures = 0
        for old in list(self._loaded):
            _drop(self._connection, self._dialect, old)
            self._loaded.remove(old)
        self._loaded.append(name)
        for other in self._folder.iterdir():
            if other != place:
                shutil.rmtree(other, ignore_errors=True)

    def _way_to(self, place: Path) -> str:
        return (
            f"{self._dialect.start}; it must see {place}: set rollout.endpoint.adapters to a folder that this process "
            "and the endpoint both see under the same path"
        )


def _drop(connection: Connection, dialect: Dialect, name: str, timeout: float | None = None) -> None:
    """Have the server forget an adapter.  It is no fault of ours if it does not: it may have done so by itself."""
    with suppress(Unavailable):
        connection.ask("POST", dialect.unload, {"lora_name": name}, timeout=timeout)


def _leave(connection: Connection, dialect: Dialect, loaded: list[str], folder: Path) -> None:
    for name in loaded:
        _drop(connection, dialect, name, _FAREWELL_SECONDS)
    shutil.rmtree(folder, ignore_errors=True)
