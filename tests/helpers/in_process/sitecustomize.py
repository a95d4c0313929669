"""Python runs this before a drilled process of fedse: it ends or stops itself at a moment of its work.

DRILL_MOMENT is a signal, a moment and a round, as in "SIGKILL explore 2".  Moments of a site: explore, train (halfway).
Moments of a server: answered (one reply of the round is in), absorbed (the round is on disk, its record is not), and
recorded.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from typing import Any

name, moment, number = os.environ["DRILL_MOMENT"].split()
_happened = False


def _reached(what: str, which: int) -> None:
    global _happened  # once in a process
    if not _happened and (what, which) == (moment, int(number)):
        _happened = True
        os.kill(os.getpid(), signal.Signals[name])


def _watch(owner: Any, function: str, seen: Callable[..., None], *, before: bool = False) -> None:
    """Call ``seen`` with the arguments of a function when it has done its work, or before it."""
    inner = getattr(owner, function)

    @functools.wraps(inner)
    def outer(*arguments: Any, **named: Any) -> Any:
        if before:
            seen(*arguments, **named)
            return inner(*arguments, **named)
        result = inner(*arguments, **named)
        seen(*arguments, **named)
        return result

    setattr(owner, function, outer)


if moment in ("explore", "train"):
    import fedse.deployment.site

    def _heard(_: Any, event: Any) -> None:
        if event.done and not event.finished:
            _reached(event.phase.value, event.round)

    _watch(fedse.deployment.site.SiteService, "_heard", _heard)
else:
    import fedse.federation.gathering
    import fedse.federation.server

    def _read(_: Any, asked: Any, *__: Any) -> None:
        if asked.instruction.purpose.value == "round":
            _reached("answered", asked.instruction.round)

    def _record(_: Any, which: int, *__: Any) -> None:
        _reached("absorbed", which)

    def _append(_: Any, record: Any) -> None:
        _reached("recorded", record.round)

    _watch(fedse.federation.gathering.Gathering, "_read", _read)
    _watch(fedse.federation.server.Server, "_record", _record, before=True)
    _watch(fedse.federation.server, "append_record", _append)
