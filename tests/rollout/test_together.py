"""Work that stops where it wants to play, and is played with what others want."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fedse.adapters.state import AdapterState
from fedse.errors import AdapterError
from fedse.models.lora import LoraModel
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Play, Rules
from fedse.rollout.together import Pause, SideBySide, Wanted, alone, own_seconds, together
from fedse.types import Source, StopReason, Task, TokenRecord, Trajectory
from helpers.counting_environment import Counting

RULES = Rules(Counting, "", greedy=True)


def play_of(*ids: str) -> Play:
    return Play([EpisodeRequest(Task("counting", one), 0) for one in ids], RULES)


class Scripted:
    """Every episode is won; notes what came in one batch."""

    def __init__(self, *, refuses: AdapterState | None = None, takes: float = 0.0) -> None:
        self.batches: list[tuple[AdapterState | None, list[list[str]]]] = []
        self.refuses, self.takes = refuses, takes

    def play(self, adapter: AdapterState | None, plays: Sequence[Play]) -> list[list[Trajectory]]:
        if self.refuses is not None and adapter is self.refuses:
            raise AdapterError("it does not fit")
        time.sleep(self.takes)
        self.batches.append((adapter, [[request.task.id for request in play.requests] for play in plays]))
        return [[_won(request.task) for request in play.requests] for play in plays]


def _won(task: Task) -> Trajectory:
    tokens = TokenRecord((1,) * int(task.id.partition("/")[0]), (), "t")
    return Trajectory(task, Source.POLICY, "", (), "", True, 1.0, StopReason.DONE, tokens=tokens)


@pytest.fixture
def adapters(lora: LoraModel) -> tuple[AdapterState, AdapterState]:
    first = lora.state()
    return first, replace(first, tensors={name: array + 1 for name, array in first.tensors.items()})


async def playing(adapter: AdapterState | None, *ids: str) -> list[str]:
    return [one.task.id for one in await Wanted(adapter, play_of(*ids))]


def test_what_is_wanted_with_one_adapter_is_one_batch(adapters: tuple[AdapterState, AdapterState]) -> None:
    first, other = adapters
    player = Scripted()
    works = [playing(first, "1/a", "1/b"), playing(other, "1/c"), playing(first, "1/d"), playing(None, "1/e")]
    assert dict(together(player, works)) == {0: ["1/a", "1/b"], 1: ["1/c"], 2: ["1/d"], 3: ["1/e"]}
    assert player.batches == [(first, [["1/a", "1/b"], ["1/d"]]), (other, [["1/c"]]), (None, [["1/e"]])]


def test_results_come_as_works_end_and_the_rest_is_ended_with_an_error() -> None:
    ended: list[str] = []

    async def failing() -> str:
        await Wanted(None, play_of("1/a"))
        raise ValueError("mine")

    async def going() -> str:
        try:
            await Wanted(None, play_of("1/b"))
            await Wanted(None, play_of("1/c"))
            return "done"
        finally:
            ended.append("going")

    async def short() -> str:
        return "short"

    results = together(Scripted(), [going(), short(), failing()])
    assert next(results) == (1, "short")
    with pytest.raises(ValueError, match="mine"):
        list(results)
    assert ended == ["going"]


def test_a_players_error_is_raised_where_its_episodes_were_wanted(adapters: tuple[AdapterState, AdapterState]) -> None:
    first, other = adapters

    async def careful(adapter: AdapterState) -> str:
        try:
            await Wanted(adapter, play_of("1/a"))
        except AdapterError as error:
            return error.what
        return "played"

    found = dict(together(Scripted(refuses=other), [careful(first), careful(other)]))
    assert found == {0: "played", 1: "it does not fit"}


def test_parts_of_one_work_play_together_and_with_others() -> None:
    player = Scripted()

    async def whole() -> list[list[str]]:
        return await SideBySide([playing(None, "1/a"), playing(None, "1/b")])

    assert alone(player, whole()) == [["1/a"], ["1/b"]]
    assert dict(together(player, [whole(), whole()])) == {0: [["1/a"], ["1/b"]], 1: [["1/a"], ["1/b"]]}
    assert player.batches == [(None, [["1/a"], ["1/b"]]), (None, [["1/a"], ["1/b"], ["1/a"], ["1/b"]])]


def test_a_pause_lets_the_others_come_as_far() -> None:
    done: list[str] = []

    async def stepping(name: str) -> None:
        done.append(f"{name} played")
        await Pause()
        done.append(f"{name} trained")

    list(together(Scripted(), [stepping("a"), stepping("b")]))
    assert done == ["a played", "b played", "a trained", "b trained"]


def test_a_works_own_seconds_are_its_share_of_a_batch_and_not_those_of_others() -> None:
    spent: dict[str, float] = {}

    async def timed(name: str, task: str, after: float) -> None:
        began = own_seconds()
        await Wanted(None, play_of(task))
        await Pause()
        time.sleep(after)
        spent[name] = own_seconds() - began

    # Three quarters of the tokens are the first one's; what each does afterwards is its own.
    list(together(Scripted(takes=0.4), [timed("long", "3/a", 0.2), timed("short", "1/b", 0.0)]))
    assert spent["long"] == pytest.approx(0.3 + 0.2, abs=0.09)
    assert spent["short"] == pytest.approx(0.1, abs=0.09)
