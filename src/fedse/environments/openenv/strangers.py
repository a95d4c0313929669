"""How an environment on a server that is not fedse's is read: actions, observations, tasks and rules.

OpenEnv fixes frames, not fields.  What a server's schema and lists of tasks do not tell, options do.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedse.environments.base import EnvironmentSpec
from fedse.errors import ConfigError, EnvironmentFault

#: Asks a server: path and, for a command, its body → the answer; ``None`` where it has no such path.
Ask = Callable[..., Any]

#: Seeds of a server without a list of tasks: split → the first, and the one after the last.
SEEDS: Mapping[str, tuple[int, int]] = {"train": (0, 100), "test": (100, 200)}
#: A win is exactly 1; less is partial credit.
SUCCESS_ABOVE = 0.99
MAX_TURNS = 20
MAX_RESPONSE_TOKENS = 256


class Stranger:
    """What is known of a server that is not fedse's.

    Args:
        name: of the environment here.
        ask: asks the server.
        options: of the environment, ``None`` where not given.

    Attributes:
        tasks: split → id of a task → the arguments of a reset.

    Raises:
        ConfigError: if an option has a bad value.
        EnvironmentFault: if what answers is no OpenEnv server.
    """

    def __init__(self, name: str, ask: Ask, options: Mapping[str, Any]) -> None:
        self._name = name
        schema = ask("/schema")
        if not (isinstance(schema, dict) and isinstance(schema.get("action"), dict)):
            raise EnvironmentFault(
                f"what answers at {name} is no OpenEnv server: it has no /schema", "check the address"
            )
        told = ask("/metadata")
        self._metadata: Mapping[str, Any] = told if isinstance(told, dict) else {}
        self._options = options
        self._field = options["action"] or _only_text(schema["action"])
        self.tasks: Mapping[str, Mapping[str, Mapping[str, Any]]] = self._listed(ask) or self._seeded()

    @property
    def spec(self) -> EnvironmentSpec:
        """Its facts, as far as they are known."""
        above, turns = self._options["success_above"], self._options["max_turns"]
        tokens = self._options["max_response_tokens"]
        return EnvironmentSpec(
            name=self._name,
            version=1,
            summary=str(self._metadata.get("description") or "An environment on an OpenEnv server."),
            max_turns=MAX_TURNS if turns is None else turns,
            success_above=SUCCESS_ABOVE if above is None else above,
            max_response_tokens=MAX_RESPONSE_TOKENS if tokens is None else tokens,
            action_rule="first",
            splits={split: len(tasks) for split, tasks in self.tasks.items()},
        )

    @property
    def instruction(self) -> str:
        """The rules: an option's, else what the server says of itself."""
        known = (self._options["instruction"], self._metadata.get("readme_content"), self._metadata.get("description"))
        return next((text for text in known if isinstance(text, str) and text.strip()), "")

    def action(self, text: str) -> Mapping[str, Any] | None:
        """The fields of an action; ``None`` if the text should have been a JSON object and is none."""
        if self._field is not None:
            return {self._field: text}
        try:
            fields = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return fields if isinstance(fields, dict) else None

    def text(self, observation: Mapping[str, Any], seen: int) -> tuple[str, int]:
        """What an agent is shown of an observation.

        Args:
            observation: its fields.
            seen: messages shown before in this episode, of servers that send all of them each time.

        Returns:
            The text, and the messages shown by now.
        """
        named = self._options["observation"]
        if named is not None:
            if named not in observation:
                raise EnvironmentFault(
                    f"{self._name}: an observation has no field {named!r}", f"it has {', '.join(observation)}"
                )
            return _plain(observation[named]), seen
        if isinstance(observation.get("text"), str):
            return observation["text"], seen
        messages = observation.get("messages")
        if isinstance(messages, list) and len(messages) > seen:
            new = [message.get("content") if isinstance(message, dict) else message for message in messages[seen:]]
            return "\n".join(_plain(content) for content in new), len(messages)
        for field in ("prompt", "question"):
            if isinstance(observation.get(field), str):
                return observation[field], seen
        return _plain({name: value for name, value in observation.items() if name != "metadata"}), seen

    def _listed(self, ask: Ask) -> dict[str, dict[str, Mapping[str, Any]]] | None:
        """The tasks that the server lists; ``None`` if it lists none, or ``seeds`` are wanted."""
        names = ask("/list_environments") if self._options["seeds"] is None else None
        name = names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None
        splits = ask(f"/{name}/splits") if name else None
        if not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
            return None
        counts: dict[str, tuple[str, int]] = {}
        for split in splits:
            answer = ask(f"/{name}/num_tasks", {"split": split.get("name")})
            count = answer.get("num_tasks") if isinstance(answer, dict) else None
            if isinstance(split.get("name"), str) and type(count) is int and count >= 0:
                counts[split["name"]] = (split["name"], count)
                if split.get("type") in ("train", "test"):  # by which every environment has them here
                    counts.setdefault(split["type"], counts[split["name"]])
        if not counts:
            return None
        if missing := [split for split in ("train", "test") if split not in counts]:
            raise EnvironmentFault(
                f"{self._name} lists no split {missing[0]!r}, but {', '.join(counts)}",
                "give the option seeds, as in seeds: {train: [0, 100], test: [100, 200]}",
            )
        return {
            split: {f"{theirs}/{index}": {"split": theirs, "index": index} for index in range(count)}
            for split, (theirs, count) in counts.items()
        }

    def _seeded(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        seeds = SEEDS if self._options["seeds"] is None else self._options["seeds"]
        return {
            split: {f"seed/{seed}": {"seed": seed} for seed in range(first, end)}
            for split, (first, end) in seeds.items()
        }


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options of the wrong kind.

    Raises:
        ConfigError: naming the option.
    """
    for option in ("action", "observation", "instruction"):
        if not isinstance(options[option], str | None):
            raise ConfigError(f"{name}: {option} must be a text, found {options[option]!r}")
    for option in ("max_turns", "max_response_tokens"):
        value = options[option]
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigError(f"{name}: {option} must be a number from 1, found {value!r}")
    above = options["success_above"]
    if above is not None and (isinstance(above, bool) or not isinstance(above, int | float) or not above > 0):
        raise ConfigError(
            f"{name}: success_above must be a number above 0, found {above!r}",
            "a reward above 0 may be partial credit; a win is usually 1, which 0.99 tells",
        )
    seeds = options["seeds"]
    sound = isinstance(seeds, Mapping) and {"train", "test"} <= seeds.keys() and all(map(_is_range, seeds.values()))
    if seeds is not None and not sound:
        raise ConfigError(
            f"{name}: seeds must have a first and an end for each split, found {seeds!r}",
            "write it as seeds: {train: [0, 100], test: [100, 200]}",
        )


def _is_range(value: Any) -> bool:
    whole = isinstance(value, Sequence) and len(value) == 2 and all(type(end) is int for end in value)
    return whole and 0 <= value[0] <= value[1]


def _only_text(schema: Mapping[str, Any]) -> str | None:
    """The only required field of an action, if it is a text."""
    required, properties = schema.get("required"), schema.get("properties")
    if isinstance(required, list) and len(required) == 1 and isinstance(properties, dict):
        field = properties.get(required[0])
        if isinstance(field, dict) and field.get("type") == "string":
            return str(required[0])
    return None


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
