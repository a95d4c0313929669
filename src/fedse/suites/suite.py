"""Experiment suites: every method with every model and every training seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fedse.config import RunConfig
from fedse.errors import ConfigError
from fedse.federation.evaluators import evaluators
from fedse.runs.identity import run_key
from fedse.settings import Method, derive_config
from fedse.suites.cells import Cell

DEMONSTRATIONS = "clients.*.demonstrations"


@dataclass(frozen=True)
class SuiteModel:
    """A base model of a suite, and the settings that go with it: dotted path → value, ``model.name`` among them.

    With demonstrations as an axis there is one for each number of them.
    """

    name: str
    set: Mapping[str, Any]


@dataclass(frozen=True)
class Suite:
    """Methods × models × seeds; :func:`~fedse.suites.load_suite` reads one from YAML.

    Attributes:
        name: letters, digits, '-', '_' and '.'.
        description: one line.
        config: what all cells begin with.
        models: at least one; their settings are applied before those of a method.
        methods: rows of the main table.
        ablations: rows of a table of their own; each is the reference method with its own settings over it.
        reference: name of the method that all others are compared with.
        jobs: cells at work side by side; ``None``: as many as the machine has cores, or GPUs.  No result depends on it.
    """

    name: str
    description: str
    config: RunConfig
    models: tuple[SuiteModel, ...]
    methods: tuple[Method, ...]
    ablations: tuple[Method, ...]
    reference: str
    seeds: tuple[int, ...]
    jobs: int | None = field(default=None, compare=False)

    @property
    def all_methods(self) -> tuple[Method, ...]:
        """Methods and ablations."""
        return (*self.methods, *self.ablations)

    def cells(self) -> list[Cell]:
        """All cells: seed by seed, and within a seed model by model, so that whole comparisons are complete early.

        Methods that neither explore nor have demonstrations have no cells with a model.

        Raises:
            ConfigError: listing every method whose configuration is not valid with a model.
        """
        configs: dict[tuple[str, str], RunConfig] = {}
        problems = []
        sets = {method.name: method.set for method in self.methods}
        below = sets.get(self.reference, {})
        sets |= {method.name: {**below, **method.set} for method in self.ablations}
        for model in self.models:
            for method, settings in sets.items():
                own = {"name": method, "workers": 1}  # the cells themselves are done side by side
                try:
                    config = derive_config(self.config, model.set, settings, own)
                    if can_learn(config):
                        configs[model.name, method] = config
                except ConfigError as error:
                    problems.append(f"{method} with {model.name}: {error.what}")
        if problems:
            raise suite_error(f"the suite {self.name}", problems)
        first: dict[tuple[str, str], str] = {}  # (model, what makes the same run) → the first method that has it
        homes = {key: first.setdefault((key[0], run_key(config)), key[1]) for key, config in configs.items()}
        return [
            Cell(model, method, seed, config.model_copy(update={"seed": seed}), homes[model, method])
            for seed in self.seeds
            for (model, method), config in configs.items()
        ]

    def environments(self) -> tuple[str, ...]:
        """The labels of all evaluations, in the order of the sites."""
        places: dict[str, int] = {}
        for cell in self.cells():
            sites = [client.name for client in cell.config.clients]
            for label, client in evaluators(cell.config).items():
                places.setdefault(label, sites.index(client.name))
        return tuple(sorted(places, key=places.__getitem__))


def can_learn(config: RunConfig) -> bool:
    """Whether there is anything to learn from, where something is to be learnt."""
    shown = any(client.demonstrations or client.demonstrations_file for client in config.clients)
    return bool(shown or config.method.explore or not config.rounds)


def suite_error(origin: str, problems: Iterable[str]) -> ConfigError:
    """The error for a suite with these problems; ``origin`` is its name, or the file that it comes from."""
    unique = list(dict.fromkeys(problems))
    count = "a problem" if len(unique) == 1 else f"{len(unique)} problems"
    listed = "".join("\n  - " + problem.replace("\n", "\n  ") for problem in unique)
    return ConfigError(f"{origin} has {count}:{listed}", "docs/suites.md says what a suite may hold")
