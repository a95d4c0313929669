"""Environments are found by name, ours and those of other packages; what is wrong is said with a way out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedse.environments import Environment, environment_class, environment_names, make
from fedse.environments.checking import check_environment
from fedse.environments.registry import option_names
from fedse.errors import ConfigError, EnvironmentFault, UnknownNameError
from helpers.example_package import install_example, install_points


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on the import path."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def test_the_built_in_environments_are_installed() -> None:
    assert {"maze", "wordle"} <= set(environment_names())
    for name in ("maze", "wordle"):
        assert environment_class(name).name == name
        assert isinstance(make(name), Environment)


def test_a_third_party_package_adds_an_environment_without_touching_ours(site: Path) -> None:
    install_example(site)
    assert {"higher_lower", "maze", "wordle"} <= set(environment_names())
    assert make("higher_lower", largest=9).spec.options == {"largest": 9}
    assert option_names(environment_class("higher_lower")) == ["largest"]
    assert check_environment("higher_lower") == []


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"'wordel'[\s\S]*did you mean wordle\?[\s\S]*maze"):
        make("wordel")


def test_an_unknown_option_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'wordle' has no option 'sizes'[\s\S]*did you mean size\?[\s\S]*vocab"):
        make("wordle", sizes=40)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("wordle", {"size": 41}),
        ("wordle", {"size": "forty"}),
        ("wordle", {"size": [40]}),
        ("wordle", {"mode": "classic"}),
        ("wordle", {"vocab": "/no/such/file"}),
        ("wordle", {"vocab": 5}),
        ("wordle", {"parity": "yes"}),
        ("maze", {"parity": None}),
    ],
)
def test_a_bad_value_is_a_configuration_error(name: str, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=name):
        make(name, **options)


NEEDY = """
from fedse.environments.maze import Maze

class Needy(Maze):
    name = "needy"

    def __init__(self, *, path):
        super().__init__()
        if path == "broken":
            raise OSError("the disk is gone")
"""


def test_a_missing_option_is_named_and_a_failing_constructor_is_a_fault(site: Path) -> None:
    (site / "needy.py").write_text(NEEDY)
    install_points(site, "needy", {"needy": "needy:Needy"})
    with pytest.raises(ConfigError, match="'needy' needs the option 'path'"):
        make("needy")
    with pytest.raises(EnvironmentFault, match="'needy' could not be created: OSError: the disk is gone"):
        make("needy", path="broken")


def test_a_package_that_fails_to_import_is_a_fault_that_names_its_distribution(site: Path) -> None:
    (site / "crashing.py").write_text("import a_module_that_is_not_there\n")
    install_points(site, "crashing-dist", {"crash": "crashing:Env"})
    assert "crash" in environment_names()
    with pytest.raises(EnvironmentFault, match=r"crashing-dist[\s\S]*a_module_that_is_not_there"):
        make("crash")
    make("maze")  # the others still work


@pytest.mark.parametrize(
    ("points", "complaint"),
    [
        ({"odd": "pathlib:Path"}, "not a subclass"),
        ({"labyrinth": "fedse.environments.maze:Maze"}, "calls itself 'maze'"),
        ({"maze": "fedse.environments.wordle:Wordle"}, "two distributions"),
    ],
)
def test_entry_points_that_do_not_fit_are_faults(site: Path, points: dict[str, str], complaint: str) -> None:
    install_points(site, "strange", points)
    with pytest.raises(EnvironmentFault, match=complaint) as caught:
        make(next(iter(points)))
    assert "strange" in str(caught.value)
