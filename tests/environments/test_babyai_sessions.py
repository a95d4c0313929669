"""BabyAI behind AgentGym's payloads and under AgentGym's numbers."""

from __future__ import annotations

from fedse.environments import StepResult, make
from fedse.environments.agentgym.counterpart import counterpart_of
from fedse.environments.babyai import BabyAI
from fedse.types import Task


def test_sessions_number_tasks_as_agentgym_does() -> None:
    session = counterpart_of(BabyAI()).session(slot=3)
    payload = session.reset(data_idx=46 * 40)
    assert payload == {
        "observation": make("babyai").reset(Task("babyai", "GoToRedBallGrey/46")),
        "reward": 0,
        "score": 0,
        "deleted": False,
        "done": False,
    }
    assert session.reset(data_idx=39)["observation"] == make("babyai").reset(Task("babyai", "BossLevelNoUnlock/0"))
    assert "could not be made" in session.reset(data_idx=-1)["error"]


def test_sessions_give_the_original_payloads() -> None:
    session = counterpart_of(BabyAI()).session(slot=3)
    assert "no open episode" in session.step("turn left")["error"]
    session.reset(data_idx=46 * 40)
    answer = session.step("turn right")
    assert (answer["reward"], answer["score"], answer["done"]) == (0, 0, False)
    assert isinstance(answer["reward"], int)
    assert list(answer) == ["observation", "reward", "score", "done"]
    answer = session.step("go to red ball 1")
    assert (answer["reward"], answer["score"], answer["done"]) == (0.915625, 0.915625, True)
    assert session.step("turn left") == {"error": "The task with environment 3 has finished."}
    assert session.reset(data_idx=0)["done"] is False


def test_the_score_is_the_highest_reward_and_in_parity_their_sum() -> None:
    class Scripted(BabyAI):
        def open(self, level: str, seed: int) -> str:
            self.rewards = iter([0.25, 0.0, 0.5, -0.25])
            return ""

        def step(self, action: str) -> StepResult:
            return StepResult("", next(self.rewards), False)

    from fedse.environments.babyai.agentgym import BabyAISession

    for parity, scores in ((False, [0.25, 0.25, 0.5, 0.5]), (True, [0.25, 0.25, 0.75, 0.5])):
        session = BabyAISession(Scripted(), 0, parity=parity)
        session.reset(data_idx=0)
        assert [session.step("")["score"] for _ in scores] == scores


def test_sessions_are_independent() -> None:
    game = BabyAI()
    first, second = counterpart_of(game).session(0), counterpart_of(game).session(1)
    before = first.reset(data_idx=46 * 40)["observation"]
    second.reset(data_idx=4)
    second.step("turn left")
    assert first.step("fly")["observation"].partition("\n")[2] == before.rpartition("\n")[2]


def test_tasks_are_numbered_as_agentgym_does() -> None:
    game = make("babyai", levels=[2])
    numbers = counterpart_of(game).tasks()
    assert numbers["paper-train"][41] == Task("babyai", "GoToRedBall/1")
    assert {split: len(tasks) for split, tasks in numbers.items()} == dict(game.spec.splits)
    assert counterpart_of(game).imported_task("1841", "") == Task("babyai", "GoToRedBall/46")
    assert counterpart_of(game).imported_task("GoToRedBall/46", "") == Task("babyai", "GoToRedBall/46")
