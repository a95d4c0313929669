"""Sites of one environment divide its training tasks, and no task is lost or given twice."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedse.config import PartitionConfig, RunConfig
from fedse.environments import make
from fedse.environments.variants import VARIANTS, site_options
from fedse.errors import ConfigError, UnknownNameError
from fedse.federation.server import Server
from fedse.messages import Done, Instruction, Purpose, SiteReport
from fedse.progress import silent
from fedse.runs.layout import ServerFolder
from fedse.sites.partition import partition
from fedse.sites.tasks import summarize, training_tasks
from fedse.types import Task
from helpers.runtimes import ScriptedSites, replied
from helpers.small_adapters import random_state, update
from helpers.toy_runs import toy_client, toy_config

KINDS = ["bed", "sign", "door", "boat"] * 30
SCHEMES = ["iid", "quantity", "dirichlet", "ordered"]


def divided(sites: int, values: Any = KINDS, seed: int = 0, **settings: Any) -> list[list[int]]:
    return partition(
        len(values), sites, PartitionConfig(**settings), lambda: values, rng=np.random.Generator(np.random.PCG64(seed))
    )


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(SCHEMES),
    st.integers(1, 9),
    st.lists(st.integers(0, 5), min_size=9, max_size=40),
    st.sampled_from([0.01, 0.5, 100.0]),
    st.booleans(),
)
def test_every_task_goes_to_one_site_and_every_site_has_one(
    scheme: str, sites: int, numbers: list[int], alpha: float, named: bool
) -> None:
    values = [f"kind {number}" for number in numbers] if named else numbers
    parts = divided(sites, values, scheme=scheme, alpha=alpha)
    assert sorted(number for part in parts for number in part) == list(range(len(numbers)))
    assert all(part and part == sorted(part) for part in parts)
    assert len(parts) == sites


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_seed_draws_the_same_parts_and_another_seed_others(scheme: str) -> None:
    assert divided(3, seed=1, scheme=scheme) == divided(3, seed=1, scheme=scheme)
    assert divided(3, seed=1, scheme=scheme) != divided(3, seed=2, scheme=scheme)


def test_iid_parts_are_equal_in_size() -> None:
    assert sorted(map(len, divided(7, scheme="iid"))) == [17] * 6 + [18]


def largest_share(parts: list[list[int]]) -> float:
    """How much of a kind its main site has, averaged over kinds."""
    shares = []
    for kind in set(KINDS):
        counts = [sum(KINDS[number] == kind for number in part) for part in parts]
        shares.append(max(counts) / sum(counts))
    return sum(shares) / len(shares)


def test_a_small_alpha_keeps_kinds_together_and_a_large_one_spreads_them() -> None:
    apart = np.mean([largest_share(divided(4, seed=seed, scheme="dirichlet", alpha=0.05)) for seed in range(10)])
    mixed = np.mean([largest_share(divided(4, seed=seed, scheme="dirichlet", alpha=100.0)) for seed in range(10)])
    assert apart > 0.8
    assert mixed < 0.35


def test_quantity_gives_parts_of_different_size_and_the_same_mixture() -> None:
    values = KINDS * 20
    parts = divided(3, values, scheme="quantity", alpha=1.0)
    assert max(map(len, parts)) > 1.5 * min(map(len, parts))
    counts = Counter(values[number] for number in max(parts, key=len))
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_ordered_gives_the_first_site_the_smallest() -> None:
    values = [number * 7 % 60 for number in range(60)]
    parts = [[values[number] for number in part] for part in divided(3, values, scheme="ordered", by="difficulty")]
    assert max(parts[0]) < min(parts[1])
    assert max(parts[1]) < min(parts[2])


def test_more_sites_than_tasks_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 tasks cannot be divided among 3"):
        divided(3, ["a", "b"], scheme="iid")


# In a run


def mazes(*clients: dict[str, Any], **partition: Any) -> RunConfig:
    given = [{"environment": "maze", "options": {"max_path": 2}} | client for client in clients]
    return RunConfig.model_validate({"clients": given, "partition": partition})


class TellingSites(ScriptedSites):
    """Sites that tell of their tasks as real ones do."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(random_state(0), {1: {site: lambda asked: replied(asked, update(1)) for site in config.sites}})
        self.config = config

    def _answer(self, instruction: Instruction) -> bytes | None:
        if instruction.purpose is not Purpose.JOIN:
            return super()._answer(instruction)
        [client] = self.config.sites[instruction.site]
        told = summarize(self.config, client, make(client.environment, **client.options))
        return replied(instruction, Done(), report=SiteReport(tasks={client.name: told}))


def tasks_of(config: RunConfig) -> list[list[Task]]:
    """The training tasks of every site, as the server has them divided."""
    sites = TellingSites(config)
    with tempfile.TemporaryDirectory() as folder:
        Server(config.model_copy(update={"rounds": 1}), ServerFolder(Path(folder)), sites, listener=silent).run()
    parts = {name: part for asked in sites.asked for name, part in asked.parts.items()}
    return [
        training_tasks(config, client, make(client.environment, **client.options), parts[client.name])
        for client in config.clients
    ]


def test_clients_of_one_environment_divide_its_training_tasks() -> None:
    whole = list(make("wordle").tasks("train"))
    clients = [{"name": name, "environment": "wordle", "options": {}} for name in "abc"]
    shared = tasks_of(mazes(*clients))
    assert shared == [whole] * 3
    parts = tasks_of(mazes(*clients, scheme="iid"))
    assert sorted(map(len, parts)) == [666, 667, 667]
    assert len(set().union(*parts)) == 2000
    assert all(part == [task for task in whole if task in set(part)] for part in parts)


def test_clients_with_other_dynamics_but_the_same_tasks_divide_them_too() -> None:
    clients = [{"name": name, "environment": "wordle", "options": {"part": f"{name}/2"}} for name in "12"]
    first, second = tasks_of(mazes(*clients, scheme="iid"))
    assert not set(first) & set(second)
    assert len(first) + len(second) == 2000


def test_clients_with_other_tasks_keep_all_of_theirs() -> None:
    clients = [{"name": "a"}, {"name": "b", "options": {"max_path": 1}}, {"name": "c", "environment": "textcraft"}]
    clients[2]["options"] = {}
    config = mazes(*clients, scheme="iid")
    assert tasks_of(config) == tasks_of(mazes(*clients))


def test_a_run_orders_sites_by_difficulty() -> None:
    clients = [{"name": name, "environment": "textcraft", "options": {}} for name in "ab"]
    easy, hard = tasks_of(mazes(*clients, scheme="ordered", by="difficulty"))
    game = make("textcraft")
    assert max(game.traits(task).difficulty for task in easy) <= min(game.traits(task).difficulty for task in hard)
    assert len(easy) + len(hard) == 331


@pytest.mark.usefixtures("toy")
def test_an_environment_without_traits_says_so() -> None:
    config = toy_config(toy_client("a"), toy_client("b"), partition={"scheme": "dirichlet"})
    with pytest.raises(ConfigError, match=r"tasks of 'toy' cannot be partitioned by kind[\s\S]*iid or quantity"):
        tasks_of(config)
    assert sorted(map(len, tasks_of(toy_config(toy_client("a"), toy_client("b"), partition={"scheme": "iid"})))) == [
        3,
        4,
    ]


# Variants


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_a_variant_gives_every_site_options_that_work(variant: str) -> None:
    drawn = site_options(variant, 3, seed=4)
    name = VARIANTS[variant][0]
    assert len({tuple(options.items()) for options in drawn}) == 3
    assert drawn == site_options(variant, 3, seed=4)
    for options in drawn:
        assert make(name, **options).spec.options.items() >= options.items()


def test_values_are_handed_out_in_turns() -> None:
    drawn = [options["search"] for options in site_options("webshop-search", 7)]
    assert Counter(drawn[:6]) == {"bm25": 2, "titles": 2, "overlap": 2}
    with pytest.raises(UnknownNameError, match="did you mean maze-layout"):
        site_options("maze-layouts", 2)
