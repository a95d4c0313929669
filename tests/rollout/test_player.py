from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from fedse.adapters.state import AdapterState
from fedse.agent import Renderer
from fedse.config import RolloutConfig
from fedse.errors import ConfigError
from fedse.models.lora import LoraModel
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Play, RolloutProgress, Rules
from fedse.rollout.schedule import Draw
from fedse.rollout.torch.decoder import SlotDecoder
from fedse.rollout.torch.player import TorchPlayer
from fedse.types import Source, StopReason, Task, Trajectory
from helpers.counting_environment import Counting, Stuck

INSTRUCTION = "Count to the end."


def requests(*ids: str) -> list[EpisodeRequest]:
    return [EpisodeRequest(Task("counting", task_id), seed) for seed, task_id in enumerate(ids)]


def play(
    lora: LoraModel,
    renderer: Renderer,
    episodes: Sequence[EpisodeRequest],
    *,
    slots: int = 4,
    greedy: bool = False,
    context: int = 512,
) -> list[Trajectory]:
    player = TorchPlayer(lora, renderer, RolloutConfig(slots=slots, max_context=context))
    return player.play(lora.state(), [Play(episodes, Rules(Counting, INSTRUCTION, greedy=greedy))])[0]


def tokens_of(trajectory: Trajectory) -> tuple[int, ...]:
    assert trajectory.tokens is not None
    return trajectory.tokens.ids


def test_greedy_rollouts_equal_reading_the_whole_history_anew_for_every_token(
    lora: LoraModel, renderer: Renderer
) -> None:
    """Cached multi-turn decoding with the adapter merged ≡ full forward passes with the adapter unmerged."""
    for trajectory in play(lora, renderer, requests("3/a", "1/b", "4/c", "2/d", "4/e"), slots=3, greedy=True):
        assert trajectory.tokens is not None
        logits = lora.base.model(torch.tensor([trajectory.tokens.ids])).logits[0]
        for start, end in trajectory.tokens.spans:
            expected = logits[start - 1 : end - 1].argmax(dim=-1).tolist()
            assert list(trajectory.tokens.ids[start:end]) == expected


def test_after_an_action_by_chance_the_model_goes_on_from_that_action(lora: LoraModel, renderer: Renderer) -> None:
    player = TorchPlayer(lora, renderer, RolloutConfig(slots=3, max_context=512))
    rules = Rules(Stuck, INSTRUCTION, greedy=True, unstick=True)
    turns = 0
    for trajectory in player.play(lora.state(), [Play(requests("4/a", "3/b", "9/c", "4/d"), rules)])[0]:
        assert trajectory.tokens is not None
        assert [turn.by_chance for turn in trajectory.turns] == [False, True, False, True][: len(trajectory.turns)]
        logits = lora.base.model(torch.tensor([trajectory.tokens.ids])).logits[0]
        for (start, end), turn in zip(trajectory.tokens.spans, trajectory.turns, strict=True):
            said = list(trajectory.tokens.ids[start:end])
            assert renderer.decode(said) == turn.response
            if turn.by_chance:
                assert turn.action in ("go on", "go back")
                assert said[-1] == renderer.end_token
            else:
                turns += 1
                assert said == logits[start - 1 : end - 1].argmax(dim=-1).tolist()
    assert turns == 8


def test_without_an_adapter_the_base_model_plays(lora: LoraModel, renderer: Renderer) -> None:
    player = TorchPlayer(lora, renderer, RolloutConfig(slots=2, max_context=512))
    rules = Rules(Counting, INSTRUCTION, greedy=False)
    adapter = lora.state()

    def said(adapter: AdapterState | None) -> tuple[int, ...]:
        [[trajectory]] = player.play(adapter, [Play(requests("3/a"), rules)])
        return tokens_of(trajectory)

    with_it = said(adapter)
    bare = said(None)
    assert bare != with_it
    assert bare == said(lora.initial_state(5))
    assert said(adapter) == with_it


def test_the_number_of_slots_and_the_order_of_requests_change_no_episode(lora: LoraModel, renderer: Renderer) -> None:
    episodes = requests("3/a", "1/b", "4/c", "2/d", "4/e", "1/f")
    alone = play(lora, renderer, episodes, slots=1)
    assert [tokens_of(one) for one in alone] == [tokens_of(one) for one in play(lora, renderer, episodes, slots=4)]
    backwards = play(lora, renderer, episodes[::-1], slots=4)
    assert [tokens_of(one) for one in alone] == [tokens_of(one) for one in backwards[::-1]]


def test_every_token_is_read_once(lora: LoraModel, renderer: Renderer, monkeypatch: pytest.MonkeyPatch) -> None:
    """History is never prefilled twice and the shared prefix is computed once."""
    read = 0
    decode = SlotDecoder.decode

    def counting(self: SlotDecoder, pieces: Sequence[tuple[int, Sequence[int]]], draws: Sequence[Draw]) -> list[Any]:
        nonlocal read
        read += sum(len(new) for _, new in pieces)
        return decode(self, pieces, draws)

    monkeypatch.setattr(SlotDecoder, "decode", counting)
    episodes = play(lora, renderer, requests("3/a", "2/b", "4/c", "3/d"), slots=4)
    openings = [renderer.opening(INSTRUCTION, observation) for observation in ("left", "right")]
    prefix = next(i for i in range(len(openings[0])) if openings[0][i] != openings[1][i])
    assert prefix > len(renderer.opening(INSTRUCTION, "")) // 2
    # The last sampled token of an episode is never read: nothing follows it.
    assert read == prefix + sum(len(tokens_of(one)) - prefix - 1 for one in episodes)


def test_spans_hold_exactly_what_the_agent_said(lora: LoraModel, renderer: Renderer) -> None:
    for trajectory in play(lora, renderer, requests("3/a", "4/b")):
        record = trajectory.tokens
        assert record is not None
        said = [renderer.decode(record.ids[start:end]) for start, end in record.spans]
        assert said == [turn.response for turn in trajectory.turns]
        assert record.tokenizer == renderer.fingerprint


def test_a_cut_turn_is_closed_for_the_reader_but_not_counted_as_said(lora: LoraModel, renderer: Renderer) -> None:
    trajectory = play(lora, renderer, requests("3/a"))[0]
    record = trajectory.tokens
    assert record is not None
    cut = [span for span, turn in zip(record.spans[:-1], trajectory.turns[:-1], strict=True) if turn.truncated]
    assert cut, "the random model was expected to run into the limit of seven tokens"
    for start, end in cut:
        assert end - start == 7
        assert record.ids[end] == renderer.end_token


@pytest.mark.parametrize(("task", "stop"), [("2/a", StopReason.DONE), ("9/a", StopReason.TURN_LIMIT)])
def test_reasons_to_stop(lora: LoraModel, renderer: Renderer, task: str, stop: StopReason) -> None:
    trajectory = play(lora, renderer, requests(task))[0]
    assert trajectory.stop is stop
    assert trajectory.success is (stop is StopReason.DONE)
    assert trajectory.source is Source.POLICY


def test_a_full_context_ends_the_episode(lora: LoraModel, renderer: Renderer) -> None:
    opening = len(renderer.opening(INSTRUCTION, "Start of 4/a."))
    trajectory = play(lora, renderer, requests("4/a"), context=max(64, opening + 20))[0]
    assert trajectory.stop is StopReason.CONTEXT_LIMIT
    assert trajectory.success is False
    assert len(tokens_of(trajectory)) <= opening + 20


def test_an_episode_whose_prompt_leaves_no_room_for_a_reply_is_lost_and_harms_no_other(
    lora: LoraModel, renderer: Renderer
) -> None:
    first = len(renderer.opening(INSTRUCTION, "Start of 1/a."))
    episodes = requests("1/a", "1/" + "long" * 30, "1/b")
    good_a, lost, good_b = play(lora, renderer, episodes, slots=2, context=max(64, first + 20))
    assert (good_a.success, good_b.success) == (True, True)
    assert (lost.stop, lost.success, lost.tokens) == (StopReason.ERROR, None, None)
    taken = len(renderer.opening(INSTRUCTION, f"Start of {episodes[1].task.id}."))
    assert f"takes {taken} tokens and a reply up to 7, more than rollout.max_context = " in lost.error
    assert "begin a new run with a larger rollout.max_context" in lost.error


def test_a_context_beyond_the_models_own_is_refused(lora: LoraModel, renderer: Renderer) -> None:
    with pytest.raises(ConfigError, match="4096"):
        TorchPlayer(lora, renderer, RolloutConfig(max_context=5000))


def test_a_fault_of_one_environment_is_an_error_with_its_cause_and_harms_no_other(
    lora: LoraModel, renderer: Renderer
) -> None:
    episodes = requests("2/a", "boom/2", "dead", "3/b")
    good_a, boom, dead, good_b = play(lora, renderer, episodes, slots=2)
    assert (good_a.success, good_b.success) == (True, True)
    for trajectory, cause in ((boom, "ValueError: kaput"), (dead, "OSError: no display")):
        assert (trajectory.stop, trajectory.success) == (StopReason.ERROR, None)
        assert cause in trajectory.error
    assert tokens_of(good_b) == tokens_of(play(lora, renderer, episodes[3:], slots=1)[0])


def test_environments_are_closed(lora: LoraModel, renderer: Renderer) -> None:
    made: list[Counting] = []

    def make() -> Counting:
        made.append(Counting())
        return made[-1]

    player = TorchPlayer(lora, renderer, RolloutConfig(slots=2, max_context=512))
    player.play(None, [Play(requests("2/a", "boom/1", "1/b", "3/c"), Rules(make, INSTRUCTION, greedy=False))])
    assert made
    assert all(environment.closed for environment in made)


def test_environments_are_closed_when_another_one_cannot_be_made(lora: LoraModel, renderer: Renderer) -> None:
    made: list[Counting] = []

    def make() -> Counting:
        if len(made) == 2:
            raise OSError("no third one")
        made.append(Counting())
        return made[-1]

    player = TorchPlayer(lora, renderer, RolloutConfig(slots=3, max_context=512))
    with pytest.raises(OSError, match="no third one"):
        player.play(None, [Play(requests("1/a", "1/b", "1/c"), Rules(make, INSTRUCTION, greedy=False))])
    assert [environment.closed for environment in made] == [True, True]


def test_seeds_are_the_episodes_own(lora: LoraModel, renderer: Renderer) -> None:
    request = requests("3/a")[0]
    torch.manual_seed(1)
    first = play(lora, renderer, [request])[0]
    torch.manual_seed(2)
    assert tokens_of(play(lora, renderer, [request])[0]) == tokens_of(first)
    assert tokens_of(play(lora, renderer, [replace(request, seed=99)])[0]) != tokens_of(first)


def test_progress_counts_up_to_all_episodes(lora: LoraModel, renderer: Renderer) -> None:
    seen: list[RolloutProgress] = []
    player = TorchPlayer(lora, renderer, RolloutConfig(slots=2, max_context=512))
    rules = Rules(Counting, INSTRUCTION, greedy=False)
    (episodes,) = player.play(lora.state(), [Play(requests("2/a", "9/b", "1/c"), rules, seen.append)])
    last = seen[-1]
    sampled = sum(end - start for one in episodes if one.tokens for start, end in one.tokens.spans)
    assert (last.done, last.total, last.successes) == (3, 3, 2)
    assert 0 < last.tokens <= sampled


def test_no_requests_no_work(lora: LoraModel, renderer: Renderer) -> None:
    assert play(lora, renderer, []) == []
