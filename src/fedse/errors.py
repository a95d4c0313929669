"""The error hierarchy of fedse.

Every error that a user can meet derives from :class:`FedseError` and says three things: what went wrong, what was
found, and how to mend it.  :func:`boundary` attributes foreign exceptions (a broken environment, a full disk) to one of
these classes at the place where control leaves our code, so that a fault is never mistaken for a failed episode.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class FedseError(Exception):
    """Base of all errors that fedse raises on purpose.

    Args:
        what: what went wrong, with what was found.
        mend: what the reader can do about it; printed on a line of its own.
    """

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.what}\n  → {self.mend}" if self.mend else self.what

    def __reduce__(self) -> tuple[type[FedseError], tuple[str, str]]:
        return type(self), (self.what, self.mend)


class ConfigError(FedseError):
    """A configuration is wrong; the message lists every problem found, not only the first."""


class EnvironmentFault(FedseError):
    """An environment could not do its work: an infrastructure fault, never an episode's outcome."""


class MismatchFault(EnvironmentFault):
    """A server plays something else than our environment of the same kind, so that our expert cannot play there."""


class UnknownNameError(FedseError):
    """A name (environment, preset, model, split, …) is not known; the message offers the nearest ones."""


class ModelError(FedseError):
    """A base model or tokenizer is missing, damaged or unsuitable."""


class EndpointError(FedseError):
    """An inference server that is to play episodes refuses, or answers what cannot be used, or was away for too long.

    It is never an episode's outcome.
    """


class AdapterError(FedseError):
    """An adapter is damaged, or does not fit the base model, rank or shapes it is combined with."""


class CredentialError(FedseError):
    """A key or certificate is missing, damaged, expired, open to others, or does not fit what it is used with."""


class MessageError(FedseError):
    """Bytes are no message between a server and a site, or a message cannot be encoded."""


class UnknownAdapterError(MessageError):
    """A message tells an adapter by its difference from one that is not here; send the whole adapter."""


class UpdateRejectedError(AdapterError):
    """No site's update of a round can be used."""


class TrainingError(FedseError):
    """A local update has nothing to learn from, or diverged."""


class DivergenceError(TrainingError):
    """A local update left the finite numbers; it gives no adapter."""


class StoreError(FedseError):
    """An experience store cannot be read or written."""


class RunError(FedseError):
    """A run folder is missing, incomplete, or belongs to another configuration."""


class UnknownRunError(RunError):
    """A site is to go on with a run of which it has nothing, as after the loss of its disk."""


class StorageError(FedseError):
    """Writing to disk failed (full disk, no permission); what was there before is intact."""


class FedseWarning(UserWarning):
    """Base of all warnings that fedse gives to its user."""


class LogWarning(FedseWarning):
    """Numbers of a run could not be written where its user looks at them; the run goes on."""


class VersionWarning(FedseWarning):
    """A run goes on with other code or libraries than it began with; what is made from here on may differ."""


@contextmanager
def boundary(error: type[FedseError], what: str, mend: str = "") -> Iterator[None]:
    """Attribute any foreign exception raised inside the block to ``error``.

    Our own errors pass through untouched; ``KeyboardInterrupt`` and ``SystemExit`` are never caught.

    Raises:
        FedseError: of the class given, chained to the original exception.
    """
    try:
        yield
    except FedseError:
        raise
    except Exception as cause:
        raise error(f"{what}: {type(cause).__name__}: {cause}", mend) from cause
