"""The maze behind AgentGym's server payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedse.environments.maze.layouts import DOUBLE_T
from fedse.errors import EnvironmentFault

if TYPE_CHECKING:
    from fedse.environments.maze.environment import Maze


class MazeSession:
    """One slot of AgentGym's maze server.

    Args:
        maze: the environment to play on; the session owns it.
        slot: the slot's number, quoted in error messages.
        parity: give the original's empty message for the goal cell (game 25) instead of a sentence.
    """

    def __init__(self, maze: Maze, slot: int, *, parity: bool) -> None:
        self._slot = slot
        self._parity = parity
        self._maze = maze
        self._done = False

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
            return {"error": "" if self._parity else f"The game {game} is not valid: it starts on the goal."}
        observation = self._maze.open(DOUBLE_T, cells[game])
        self._done = False
        return {"observation": observation}

    def step(self, action: str) -> dict[str, Any]:
        """Payload of ``POST /maze/step``."""
        if self._done:
            return {"error": f"The task with environment {self._slot} has finished."}
        try:
            result = self._maze.step(action)
        except EnvironmentFault as fault:
            return {"error": fault.what}
        self._done = result.done
        # The original sends an integer on ordinary steps and a float at the end.
        reward = result.reward if result.done else int(result.reward)
        return {"observation": result.observation, "reward": reward, "done": result.done}
