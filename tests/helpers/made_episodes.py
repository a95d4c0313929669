"""Made-up episodes for the tests of filters and stores."""

from fedse.types import Source, StopReason, Task, TokenRecord, Trajectory, Turn


def episode(
    number: int,
    *,
    success: bool | None = True,
    stop: StopReason = StopReason.DONE,
    round: int = 0,
    source: Source = Source.POLICY,
    thought: str = "I go on.",
    truncated: bool = False,
) -> Trajectory:
    """An episode of its own task; the same number gives the same task and actions."""
    turns = tuple(
        Turn(f"You see {step}.", f"Thought: {thought}\nAction: move {step}", f"move {step}", -1.0, truncated)
        for step in range(number % 3 + 1)
    )
    tokens = TokenRecord(tuple(range(number % 7 + 10)), ((2, 5), (7, 9)), "tokenizer")
    return Trajectory(
        task=Task("maze", f"task/{number}"),
        source=source,
        instruction="Reach the goal.",
        turns=turns,
        final_observation="The end.",
        success=success,
        reward=0.0,
        stop=stop,
        seed=number,
        round=round,
        client="site",
        error="the server went away" if stop is StopReason.ERROR else "",
        tokens=tokens,
    )
