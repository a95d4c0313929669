from __future__ import annotations

from pathlib import Path

import pytest

import fedse
from fedse.federation.strategies import strategy_names
from fedse.federation.strategies.averaging import Mean
from fedse.progress import Event
from fedse.settings import method_names
from helpers.cli_calls import Cli
from helpers.example_package import install_points

PROXIMAL = '''
from dataclasses import dataclass, field

from fedse import Strategy


@dataclass(frozen=True)
class Proximal(Strategy):
    """Keeps close to home.

    And more words."""

    mu: float
    warm: bool = True
    names: list[str] = field(default_factory=list)

    name = "proximal"

    def absorb(self, state, updates):
        return state
'''


def test_methods_and_strategies_are_listed(cli: Cli) -> None:
    output = cli("methods").output
    methods, strategies = output.split("Strategies")
    assert [line.split()[0] for line in methods.splitlines() if line.strip()] == ["name", *method_names()]
    assert [line.split()[0] for line in strategies.splitlines() if line.strip()] == ["name", *strategy_names()]
    [line] = [line for line in strategies.splitlines() if line.startswith("mean ")]
    assert (Mean.__doc__ or "").splitlines()[0] in line
    assert "server_lr=1.0, restart=false" in line
    assert Mean.citation in line


def test_a_strategy_of_another_package_is_listed_and_a_broken_one_hides_no_other(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fedse_proximal.py").write_text(PROXIMAL)
    points = {"proximal": "fedse_proximal:Proximal", "torn": "fedse_torn:Torn"}
    install_points(tmp_path, "fedse-proximal", points, group="fedse.strategies")
    monkeypatch.syspath_prepend(tmp_path)
    lines = {line.split()[0]: line.split() for line in cli("methods").output.splitlines() if line.strip()}
    assert " ".join(lines["proximal"]) == "proximal Keeps close to home. mu=(required), warm=true, names=[]"
    assert " ".join(lines["torn"]).startswith("torn cannot be used: strategy 'torn' of distribution fedse-proximal")
    assert "mean" in lines


@pytest.mark.usefixtures("toy")
def test_all_commands_know_a_strategy_of_another_package(cli: Cli, tmp_path: Path) -> None:
    sites = (
        "clients=[{name: a, environment: wordle, demonstrations: 1}, {name: b, environment: maze, demonstrations: 1}]"
    )
    small = [sites, "rounds=2", "training.steps=1", "evaluation.tasks=1", "method.explore=false"]
    small += ["method.strategy=median", "method.options={inertia: 0.5}", "rollout.max_turns=1"]

    def stop(event: Event) -> None:
        if event.round == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        fedse.run(fedse.load_config("tiny", overrides=small), folder, listener=stop)
    for words in (
        ("run", "--resume", "--out", folder, "--quiet"),
        ("diagnose", folder),
        ("export", folder, "--out", tmp_path / "adapter"),
        ("eval", folder, "--tasks", 1, "--quiet"),
        ("report", folder, "--out", tmp_path / "page.html"),
    ):
        result = cli(*words)
        assert result.exit_code == 0, result.output
    assert "median" in (tmp_path / "adapter/README.md").read_text()
