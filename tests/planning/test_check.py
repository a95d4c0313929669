"""A run's sites are checked before a model is loaded, by the rules of the run itself."""

from __future__ import annotations

import pytest

from fedse.environments import environment_class
from fedse.errors import ConfigError
from fedse.planning import check_run
from fedse.settings import load_config


def test_training_on_tasks_that_are_tested_on_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"would learn from \d+ of its own test tasks"):
        check_run(load_config("tiny", None, ["clients.0.train_split=test"]))


def test_a_site_without_anything_to_learn_from_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing to learn from"):
        check_run(load_config("tiny", None, ["clients.0.demonstrations=0", "method.explore=false"]))


@pytest.mark.parametrize("demonstrations", [0, 4])  # a file is read even if nothing of it is wanted
def test_a_file_of_demonstrations_that_is_missing_is_named(demonstrations: int) -> None:
    settings = ["clients.0.demonstrations_file=none.json", f"clients.0.demonstrations={demonstrations}"]
    with pytest.raises(ConfigError, match=r"there is no file none\.json"):
        check_run(load_config("tiny", None, settings))
    assert check_run(load_config("tiny", None, [*settings, "rounds=0"]))


def test_demonstrations_of_an_environment_without_an_expert_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config("tiny", None, [])
    monkeypatch.setattr(environment_class(config.clients[0].environment), "has_expert", False)
    with pytest.raises(ConfigError, match="has no expert"):
        check_run(config)
    assert check_run(load_config("tiny", None, ["clients.0.demonstrations=0"]))
    assert check_run(load_config("tiny", None, ["rounds=0"]))


def test_a_run_that_learns_nothing_needs_nothing_to_learn_from() -> None:
    settings = ["rounds=0", "clients.0.train_split=test", "clients.0.demonstrations=0", "method.explore=false"]
    assert check_run(load_config("tiny", None, settings))[0].test_tasks > 0
