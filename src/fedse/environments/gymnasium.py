"""Our environments as Gymnasium environments: ``gymnasium.make("fedse/Maze-v0")``.

Importing this module registers them, and so does ``gymnasium.make("fedse.environments.gymnasium:fedse/Maze-v0")``;
Gymnasium 1 looks for no plug-ins by itself.  Observations and actions are texts; an episode's task is drawn from a
split by Gymnasium's own seeded generator.
"""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.spaces import Text

from fedse.environments.registry import class_names, make
from fedse.errors import EnvironmentFault
from fedse.types import Task

NAMESPACE = "fedse"
VERSION = 0
MAX_OBSERVATION, MAX_ACTION = 65_536, 1_024
#: Stands for characters of an observation that the space does not hold.
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
#: ASCII, Latin-1, punctuation and currency signs; a Text space lists all its characters.
CHARACTERS = frozenset(
    [
        "\n",
        _UNKNOWN,
        *map(chr, range(0x20, 0x7F)),
        *map(chr, range(0xA0, 0x180)),
        *map(chr, range(0x2010, 0x2028)),
        *map(chr, range(0x2030, 0x205F)),
        *map(chr, range(0x20A0, 0x20C0)),
    ]
)


class TextEnvironment(gymnasium.Env[str, str]):
    """An environment of fedse behind Gymnasium's interface.

    ``reset`` takes ``options={"task": id}`` to open a certain task.  ``info`` holds the task's id and, at reset, the
    ``instruction`` an agent gets; after a step ``success``, the environment's own verdict.  An episode is truncated at
    the environment's turn limit.

    Args:
        name: a registered environment.
        split: where tasks are drawn from.
        render_mode: ``ansi`` shows the last observation, ``None`` shows nothing.
        options: options of the environment, as :func:`fedse.environments.make` takes them.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (declared so by Gymnasium)

    def __init__(self, name: str, *, split: str = "train", render_mode: str | None = None, **options: Any) -> None:
        self._environment = make(name, **options)
        self._tasks = self._environment.tasks(split)
        self._instruction = self._environment.instruction("concise")
        self._limits = self._environment.spec
        self._task: Task | None = None
        self._turns = 0
        self._observation = ""
        self.render_mode = render_mode
        self.observation_space = Text(MAX_OBSERVATION, min_length=0, charset=CHARACTERS)
        self.action_space = Text(MAX_ACTION, min_length=0, charset=CHARACTERS)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Open a task: the one named in ``options``, or one drawn by the seed."""
        super().reset(seed=seed)
        wanted = (options or {}).get("task")
        if wanted is None:
            self._task = self._tasks[int(self.np_random.integers(len(self._tasks)))]
        else:
            self._task = Task(self._limits.name, str(wanted))
        self._turns = 0
        self._observation = _shown(self._environment.reset(self._task))
        return self._observation, {"task": self._task.id, "instruction": self._instruction}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Apply an action, as :meth:`fedse.environments.Environment.step` does."""
        if self._task is None:
            raise EnvironmentFault(f"{self._limits.name}: there is no open episode to step", "call reset first")
        result = self._environment.step(action)
        self._turns += 1
        self._observation = _shown(result.observation)
        truncated = not result.done and self._turns >= self._limits.max_turns
        info = {"task": self._task.id, "success": result.reward > self._limits.success_above}
        return self._observation, result.reward, result.done, truncated, info

    def render(self) -> str | None:
        """The last observation, in mode ``ansi``."""
        return self._observation if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Free what the environment holds."""
        self._environment.close()


def _shown(observation: str) -> str:
    """An observation as a member of the space."""
    if not CHARACTERS.issuperset(observation):
        observation = "".join(letter if letter in CHARACTERS else _UNKNOWN for letter in observation)
    return observation[:MAX_OBSERVATION]


def register() -> None:
    """Register all installed environments: ``maze``, whose class is ``Maze``, as ``fedse/Maze-v0``."""
    for name, class_name in class_names().items():
        spec = f"{NAMESPACE}/{class_name}-v{VERSION}"
        if spec not in gymnasium.registry:
            gymnasium.register(spec, entry_point=f"{__name__}:{TextEnvironment.__name__}", kwargs={"name": name})


register()
