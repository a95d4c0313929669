"""The schedule on a decoder that needs no model: it says what it is told."""

from __future__ import annotations

from collections.abc import Sequence

from fedse.agent import Renderer, renderer_for
from fedse.config import RolloutConfig
from fedse.models.tiny import tiny_tokenizer
from fedse.rollout.episode import EpisodeRequest
from fedse.rollout.player import Play, Rules
from fedse.rollout.schedule import Decoder, Draw, Schedule
from fedse.types import StopReason, Task
from helpers.counting_environment import Counting


class Script:
    """Histories of tokens; after each of them comes the reply, whatever was said before."""

    def __init__(self, histories: int, reply: list[int]) -> None:
        self.texts: list[list[int]] = [[] for _ in range(histories)]
        self.reply = reply
        self.drawn: list[int] = []
        self.pieces: list[int] = []

    @property
    def lengths(self) -> list[int]:
        return [len(text) for text in self.texts]

    def copy(self, source: int, target: int, length: int) -> None:
        self.texts[target] = self.texts[source][:length]

    def decode(self, pieces: Sequence[tuple[int, Sequence[int]]], draws: Sequence[Draw]) -> list[tuple[int, float]]:
        for history, new in pieces:
            self.texts[history] += new
        self.pieces += [len(new) for _, new in pieces]
        self.drawn.append(len(draws))
        return [(self._next(self.texts[pieces[draw.piece][0]]), -0.5) for draw in draws]

    def _next(self, text: list[int]) -> int:
        said = next(
            count for count in range(len(self.reply), -1, -1) if text[len(text) - count :] == self.reply[:count]
        )
        return self.reply[said % len(self.reply)]


def requests(*ids: str) -> list[EpisodeRequest]:
    return [EpisodeRequest(Task("counting", task_id), 0) for task_id in ids]


def schedule(decoder: Decoder, renderer: Renderer, *ids: str) -> Schedule:
    rules = Rules(Counting, "Count to the end.", greedy=True)
    return Schedule(decoder, renderer, RolloutConfig(max_response_tokens=40), [Play(requests(*ids), rules)])


def test_episodes_come_back_in_order_with_what_the_decoder_said() -> None:
    renderer = renderer_for(tiny_tokenizer())
    decoder = Script(3, renderer.reply("Thought: on\nAction: next"))
    played = schedule(decoder, renderer, "3/a", "1/b", "9/c", "2/d", "boom/1").play()[0]
    assert [one.task.id for one in played] == ["3/a", "1/b", "9/c", "2/d", "boom/1"]
    assert [len(one.turns) for one in played] == [3, 1, 4, 2, 0]
    assert [one.stop for one in played] == [
        StopReason.DONE,
        StopReason.DONE,
        StopReason.TURN_LIMIT,
        StopReason.DONE,
        StopReason.ERROR,
    ]
    for one in played[:4]:
        assert {turn.response for turn in one.turns} == {"Thought: on\nAction: next"}
        assert one.tokens == renderer.render(one)


def test_as_many_slots_decode_together_as_there_are() -> None:
    renderer = renderer_for(tiny_tokenizer())
    decoder = Script(4, renderer.reply("Action: next"))
    schedule(decoder, renderer, "2/a", "2/b", "2/c", "2/d").play()
    assert max(decoder.drawn) == 3


def test_a_slot_reads_no_more_than_a_pass_holds_and_decodes_when_it_has_read_all(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("fedse.rollout.schedule.PASS_TOKENS", 16)
    renderer = renderer_for(tiny_tokenizer())
    decoder = Script(3, renderer.reply("Action: next"))
    played = schedule(decoder, renderer, "2/a", "1/b", "3/c").play()[0]
    assert all(one.success and one.tokens == renderer.render(one) for one in played)
    assert 0 in decoder.drawn
