"""A hostile site: python hostile_site.py CONFIG.

It has a site's key, works like one, and answers round after round with something else than its update: see LIES.
After the last of them it is honest.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedse.adapters.state import AdapterState
from fedse.deployment.files import load_site_file
from fedse.deployment.site import SiteService
from fedse.federation.runtimes.flower.node import serve
from fedse.messages import Instruction, Purpose, Reply, Update
from fedse.progress import silent
from fedse.sites.site import Site

#: Bytes of a reply that the server's file is to allow no more.
REPLY_LIMIT_MB = 1

_HEADER = struct.Struct("<6sHI")


def _told(reply: Reply, adapter: AdapterState) -> bytes:
    assert isinstance(reply.answer, Update)
    return reply.model_copy(update={"answer": reply.answer.model_copy(update={"adapter": adapter})}).encode()


def _adapter(reply: Reply) -> AdapterState:
    assert isinstance(reply.answer, Update)
    return reply.answer.adapter


def _nan(reply: Reply) -> bytes:
    adapter = _adapter(reply)
    first, *_ = adapter.tensors
    bad = adapter.tensors[first].copy()
    bad[0, 0] = np.nan
    return _told(reply, AdapterState({**adapter.tensors, first: bad}, adapter.meta))


def _shape(reply: Reply) -> bytes:
    adapter = _adapter(reply)
    first, *_ = adapter.tensors
    return _told(reply, AdapterState({**adapter.tensors, first: adapter.tensors[first][:, :-1].copy()}, adapter.meta))


def _rank(reply: Reply) -> bytes:
    adapter = _adapter(reply)
    halved = {
        name: (array[: len(array) // 2] if "lora_A" in name else array[:, : array.shape[1] // 2]).copy()
        for name, array in adapter.tensors.items()
    }
    return _told(reply, AdapterState(halved, replace(adapter.meta, rank=adapter.meta.rank // 2)))


def _claim(reply: Reply) -> bytes:
    """The message with a manifest that says that the first tensor has 10 GB."""
    message = reply.encode()
    magic, version, length = _HEADER.unpack_from(message)
    manifest = json.loads(message[_HEADER.size : _HEADER.size + length])
    manifest["arrays"][0][1] = [10 * 10**9 // 4, 1]
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    data = _HEADER.pack(magic, version, len(text)) + text + message[_HEADER.size + length : -32]
    return data + hashlib.sha256(data).digest()


#: Its honest replies.
_held_back: list[bytes] = []
#: Name → what is sent in the place of a reply, one in each round.
LIES: dict[str, Callable[[Reply], bytes]] = {
    "NaN": _nan,
    "wrong shape": _shape,
    "wrong rank": _rank,
    "replayed update": lambda _: _held_back[0],
    "claim of 10 GB": _claim,
    "garbage": lambda _: b"\xff" * 5000,
    "more bytes than allowed": lambda _: b"\0" * (2 * REPLY_LIMIT_MB * 10**6),
}


def main(config: Path) -> None:
    file = load_site_file(config)
    site = SiteService(file, listener=silent, told=print)
    replies: list[Reply] = []
    honest = Site.answer

    async def noted(self: Site, instruction: Instruction) -> Reply:
        replies.append(await honest(self, instruction))
        return replies[-1]

    Site.answer = noted  # type: ignore[method-assign]

    def answer(data: bytes) -> bytes:
        truth = site.answer(data)
        reply = replies.pop()
        if reply.purpose is not Purpose.ROUND or reply.round > len(LIES):
            return truth
        _held_back.append(truth)
        return list(LIES.values())[reply.round - 1](reply)

    serve(
        file.server,
        authority=file.authority,
        private_key=file.private_key,
        answer=answer,
        stop=threading.Event(),
        told=print,
        limit=10**9,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
