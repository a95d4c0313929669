"""Strategies by name, and what their options may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fedse.errors import ConfigError, UnknownNameError
from fedse.federation.server import strategy_of
from fedse.federation.strategies import (
    State,
    Strategy,
    make_strategy,
    register,
    registry,
    strategy_class,
    strategy_names,
)
from fedse.messages import Update
from helpers.example_package import install_points
from helpers.toy_runs import toy_client, toy_config


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))


@dataclass(frozen=True)
class First(Strategy):
    """Keeps what it has; ``factor`` must not be 13."""

    factor: float = 1.0

    name: ClassVar[str] = "first"
    citation: ClassVar[str] = "none"

    def __post_init__(self) -> None:
        if self.factor == 13:
            raise ValueError("13 brings bad luck")

    def absorb(self, state: State, updates: Mapping[str, Update]) -> State:
        return state


def test_strategies_declare_their_scalars_and_their_source() -> None:
    assert {"isolated", "mean", "weighted_mean"} <= set(strategy_names())
    assert strategy_class("mean").needs == frozenset()
    assert strategy_class("weighted_mean").needs == {"examples"}
    assert "2512.08870" in strategy_class("mean").citation


def test_an_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean weighted_mean"):
        make_strategy("weigthed_mean", {})


def test_a_program_can_register_one_once() -> None:
    register(First)
    register(First)  # as a module that is imported again does
    assert strategy_class("first") is First
    assert make_strategy("first", {"factor": 2}) == First(2.0)

    @dataclass(frozen=True)
    class Second(First):
        pass

    with pytest.raises(ConfigError, match="already"):
        register(Second)


@pytest.mark.parametrize("name", ["mean", "isolated"])
def test_names_of_packages_are_taken(name: str) -> None:
    class Other(First):
        pass

    Other.name = name
    with pytest.raises(ConfigError, match="already"):
        register(Other)


def test_one_that_is_no_dataclass_is_refused_at_once() -> None:
    class Plain(Strategy):
        name = "plain"
        citation = "none"

        def absorb(self, state: State, updates: Mapping[str, Update]) -> State:
            return state

    with pytest.raises(ConfigError, match="dataclass"):
        register(Plain)
    assert "plain" not in strategy_names()


@pytest.mark.usefixtures("toy")
def test_packages_add_strategies_by_an_entry_point() -> None:
    assert "median" in strategy_names()
    assert make_strategy("median", {"inertia": 0.25}).inertia == 0.25  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("broken", "helpers.nowhere:Broken", "could not be imported"),
        ("misnamed", "helpers.own_strategies:Median", "is no strategy of that name"),
        ("function", "helpers.small_adapters:random_state", "is no strategy of that name"),
    ],
)
def test_a_broken_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, why: str
) -> None:
    install_points(tmp_path, "third-party", {name: value}, group="fedse.strategies")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=rf"strategy '{name}' of distribution third-party[\s\S]*{why}"):
        strategy_class(name)


def test_two_packages_with_one_name_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, value in (("one", "helpers.own_strategies:Median"), ("two", "helpers.nowhere:Other")):
        install_points(tmp_path, owner, {"twice": value}, group="fedse.strategies")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"two distributions provide a strategy named 'twice': (one|two) .* and (one|two) "
    ):
        strategy_class("twice")


def test_without_their_package_they_are_not_known() -> None:
    with pytest.raises(UnknownNameError):
        strategy_class("median")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"server_lrr": 1.0}, r"no option 'server_lrr'[\s\S]*did you mean server_lr"),
        ({"server_lr": "fast"}, "refuses its options: server_lr"),
        ({"server_lr": 0}, "server_lr is 0.0"),
        ({"server_lr": -1}, "server_lr is -1.0"),
        ({"server_lr": float("nan")}, "server_lr is nan"),
        ({"server_lr": float("inf")}, "server_lr is inf"),
        ({"restart": 3}, "refuses its options: restart"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_strategy("mean", options)
    assert caught.value.mend


def test_a_strategy_may_refuse_options_in_its_own_words() -> None:
    register(First)
    with pytest.raises(ConfigError, match="13 brings bad luck"):
        make_strategy("first", {"factor": 13})


def test_a_strategy_cannot_ask_for_more_than_sites_tell() -> None:
    @dataclass(frozen=True)
    class Curious(First):
        name: ClassVar[str] = "curious"
        needs: ClassVar[frozenset[str]] = frozenset({"examples", "trajectories"})

    register(Curious)
    with pytest.raises(ConfigError, match="needs trajectories of each site; sites can tell: examples"):
        make_strategy("curious", {})


def test_only_strategies_that_say_so_serve_different_ranks() -> None:
    config = toy_config(toy_client("alpha", rank=4), toy_client("beta"))
    with pytest.raises(ConfigError, match="has one rank for all sites, but alpha have another") as caught:
        strategy_of(config)
    assert "clients.*.rank" in caught.value.mend
    strategy_of(toy_config(toy_client("alpha", rank=2), toy_client("beta")))  # which is that of all
