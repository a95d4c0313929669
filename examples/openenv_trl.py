"""Train a model with TRL's GRPO on an environment that fedse serves.

fedse env serve wordle --protocol openenv
pip install "trl>=1.16" openenv
python examples/openenv_trl.py Qwen/Qwen3-0.6B
"""

from __future__ import annotations

import sys
from typing import Any

from openenv.core.generic_client import GenericEnvClient

SERVER = "http://127.0.0.1:8000"


class ServedGame:
    """One rollout at a time, over a connection of its own; TRL makes as many as it plays at once."""

    def __init__(self) -> None:
        self._client = GenericEnvClient(base_url=SERVER).sync()
        self._done = True
        self._reward: float | None = None
        self._fault: Exception | None = None

    def reset(self, split: str = "train", index: int = 0, **_: Any) -> str:
        """Open a task of the data set; all rollouts of a group get the same one."""
        self._fault = None
        first = self._client.reset(split=split, index=index).observation
        self._done, self._reward = False, 0.0
        return f"{first['instruction']}\n\n{first['text']}"

    def act(self, action: str) -> str:
        """Take an action in the game.

        Args:
            action: The action, in the words of the game's rules.

        Returns:
            What the game answers.
        """
        if self._done:
            raise ValueError("the game is over")
        try:
            result = self._client.step({"message": action})
        except Exception as fault:
            # TRL shows a tool's exception to the model and goes on.  A server's fault must not become a lost game.
            self._fault, self._done = fault, True
            raise
        self._done = result.done
        if result.done:
            # The only thing to count: a reward above 0 may be partial credit, and turns may just have run out.
            self._reward = float(result.observation["metadata"]["success"])
        return result.observation["text"]

    def get_reward(self) -> float | None:
        """1 for a success, else 0."""
        if self._fault is not None:
            raise RuntimeError("the server failed, and the rollout has no outcome") from self._fault
        return self._reward


def main(model: str, tasks: int = 64) -> None:
    """Train on the first tasks of the training split."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    play = [{"role": "user", "content": "Play the game below. Call the tool `act` once for each action."}]
    trainer = GRPOTrainer(
        model=model,
        args=GRPOConfig(output_dir="grpo", max_completion_length=512, num_generations=4, max_steps=20),
        train_dataset=Dataset.from_list([{"prompt": play, "split": "train", "index": index} for index in range(tasks)]),
        environment_factory=ServedGame,
    )
    trainer.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
