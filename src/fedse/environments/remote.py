"""An environment on a server, whatever the protocol: its options, what it tells of itself, and its twin here.

The twin is our environment of the same kind under the server's options.  It gives what no server tells: the traits of
tasks, and the expert, who plays the same episode on the twin beside the server's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from fedse.environments.base import Environment, Expert
from fedse.environments.connection import Connection
from fedse.environments.registry import make
from fedse.environments.telling import Told, is_file, told_option
from fedse.errors import ConfigError, EnvironmentFault, MismatchFault, UnknownNameError

#: The options of every environment on a server.
Options = Mapping[str, Any]


def checked_options(
    name: str, *, timeout: Any, retries: Any, auth_env: Any, local: Any, **others: Any
) -> dict[str, Any]:
    """The options that every environment on a server has, and the protocol's own.

    Raises:
        ConfigError: if one has a bad value.
    """
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < float("inf"):
        raise ConfigError(f"{name}: timeout must be a number of seconds above 0, found {timeout!r}")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise ConfigError(f"{name}: retries must be a number from 0, found {retries!r}")
    if auth_env is not None and not isinstance(auth_env, str):
        raise ConfigError(f"{name}: auth_env must be the name of an environment variable, found {auth_env!r}")
    if not isinstance(local, Mapping | None):
        raise ConfigError(f"{name}: local must hold options of the environment played, found {local!r}")
    return {"timeout": timeout, "retries": retries, "auth_env": auth_env, "local": dict(local or {}), **others}


def connect(address: str, options: Options) -> Connection:
    """A connection to a server under the options of an environment on it."""
    return Connection(address, timeout=options["timeout"], retries=options["retries"], auth_env=options["auth_env"])


def asked(connection: Connection, path: str, body: dict[str, Any] | None = None) -> Any:
    """A server's answer about itself, ``None`` where it has no such path.

    One that does not answer now is what it was when it last did in this process: a dead server is noticed in an
    episode, which is lost, and not by whoever makes the environment.
    """
    place = (connection.address, path, repr(body))
    try:
        _answers[place] = connection.find(path, body)
    except EnvironmentFault:
        if place not in _answers:
            raise
    return _answers[place]


_answers: dict[tuple[str, str, str], Any] = {}


def told_by(connection: Connection, path: str) -> Told | None:
    """What a server tells of its environment; ``None`` if it cannot, being no server of fedse's."""
    answer = asked(connection, path)
    return Told(answer, connection.address) if isinstance(answer, dict) else None


def twin_of(kind: str, name: str, told: Told | None, local: Options) -> Environment:
    """Our environment of the same kind, under the server's options as far as they are known.

    Args:
        kind: its name here.
        name: of the environment on the server.
        told: by the server, if it can tell.
        local: options given for the twin.

    Raises:
        EnvironmentFault: if there is no such environment here, or of another version.
        ConfigError: if an option is wrong, or not as on the server.
    """
    theirs = told.spec.options if told else {}
    usable = {option: value for option, value in theirs.items() if not is_file(value)}
    try:
        twin = make(kind, **{**usable, **local})
    except UnknownNameError as error:
        raise EnvironmentFault(f"{name} serves {kind!r}, which is not installed here", error.mend) from error
    if told is None:
        return twin
    if told.spec.version != twin.spec.version:
        raise EnvironmentFault(
            f"{name} serves version {told.spec.version} of {kind!r}, here is version {twin.spec.version}",
            "take the same version of fedse, or of the environment's package, on both sides",
        )
    ours = twin.spec.options
    others = {
        option: value for option, value in theirs.items() if option in local and not _same(ours.get(option), value)
    }
    if others:
        shown = ", ".join(f"{option}={value!r} and not {ours.get(option)!r}" for option, value in others.items())
        raise ConfigError(f"{name} plays with {shown}", "leave `local` out to take the server's options")
    return twin


def reward_of(value: Any) -> float | None:
    """A reward as a number; ``None`` if a server's answer is none, or none that is finite."""
    try:
        reward = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # JSON has integers of any length
        return None
    return reward if math.isfinite(reward) else None


def expert_beside(twin: Environment, seed: int, observation: str, what: str) -> Expert:
    """The expert of the twin, which has been reset to the same task, for an episode that began with ``observation``.

    Raises:
        MismatchFault: if the twin's began with something else; later also by the expert.
    """
    return _Beside(twin, twin.expert(seed), observation, what)


class _Beside:
    """Plays along in ``twin``, on which its expert relies."""

    def __init__(self, twin: Environment, expert: Expert, observation: str, what: str) -> None:
        self._twin = twin
        self._expert = expert
        self._expected = observation
        self._what = what

    def act(self, observation: str) -> tuple[str, str]:
        if observation != self._expected:
            raise MismatchFault(
                f"{self._what}: the server departs from our {self._twin.name}: it says {observation[:200]!r}, ours "
                f"{self._expected[:200]!r}",
                "do without demonstrations on this server",
            )
        thought, action = self._expert.act(observation)
        self._expected = self._twin.step(action).observation
        return thought, action


def _same(ours: Any, theirs: Any) -> bool:
    if is_file(theirs):  # what lies in it is seen in the replays of demonstrations
        return isinstance(ours, str) and Path(ours).name == theirs["file"]
    return cast(bool, told_option(ours) == theirs)
