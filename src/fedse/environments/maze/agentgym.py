"""The maze in AgentGym: one layout, ``double_t``, whose starts are numbered games."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from fedse.environments.agentgym.counterpart import Counterpart, GameSession
from fedse.environments.base import StepResult
from fedse.environments.maze.environment import LONGEST_PATH, TRAJECTORY_GAMES, Maze
from fedse.environments.maze.layouts import DOUBLE_T
from fedse.types import Task


class MazeSession(GameSession[Maze]):
    """One slot of AgentGym's maze server; in parity its message for the goal cell (game 25) is empty."""

    def reset(self, **kwargs: Any) -> dict[str, Any]:
        """Payload of ``POST /maze/reset``; takes ``game``, an index into the start cells.

        As in the original, the goal cell comes last in the list, and negative numbers count from its end.
        """
        game: int = kwargs["game"]
        cells = [*DOUBLE_T.starts, DOUBLE_T.goal]
        if game >= len(cells):
            return {"error": f"The game {game} is not valid."}
        if game < -len(cells):
            return {"error": "list index out of range"}
        if cells[game] == DOUBLE_T.goal:
            return {"error": "" if self.parity else f"The game {game} is not valid: it starts on the goal."}
        observation = self.game.open(DOUBLE_T, cells[game])
        self.done = False
        return {"observation": observation}

    def answer(self, result: StepResult) -> dict[str, Any]:
        """The original sends an integer on ordinary steps and a float at the end."""
        return super().answer(result) | ({} if result.done else {"reward": int(result.reward)})


class MazeCounterpart(Counterpart[Maze]):
    """Games are starts of ``double_t``."""

    session_class = MazeSession
    limits: ClassVar[Mapping[str, Any]] = {"max_path": LONGEST_PATH}
    unspoken: ClassVar[Sequence[str]] = ("layout", "only")  # generated mazes

    def tasks(self) -> Mapping[str, Mapping[int, Task]]:
        """Those that AgentTraj trains on against all others, and the benchmark's splits."""
        games = range(len(DOUBLE_T.starts))
        splits = {
            "train": TRAJECTORY_GAMES,
            "test": [game for game in games if game not in TRAJECTORY_GAMES],
            "benchmark-train": TRAJECTORY_GAMES,
            "benchmark-test": games,
        }
        return {
            split: {
                game: self.task_of(game)
                for game in games
                if DOUBLE_T.distances[DOUBLE_T.starts[game]] <= self.options["max_path"]
            }
            for split, games in splits.items()
        }

    def task_of(self, number: int) -> Task:
        """A number is a game."""
        return Task(self.environment.name, f"double_t/{number}")
