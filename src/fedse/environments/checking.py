"""Tell whether an environment keeps the contract of :mod:`fedse.environments.base`.

The checks play a few tasks of the splits ``train`` and ``test``, with the environment's own expert and with junk.
"""

from __future__ import annotations

import json
import math
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from fedse.environments.base import ActionRule, Environment, EnvironmentSpec, PromptStyle, StepResult
from fedse.environments.registry import make
from fedse.environments.sampling import spread
from fedse.errors import EnvironmentFault, FedseError, UnknownNameError, boundary
from fedse.texts import counted
from fedse.types import Task

Factory = Callable[[], Environment]
#: The first observation and every answer.
_Transcript = tuple[str, list[StepResult]]

#: Actions that no game understands; any of them must be answered in words.
JUNK = (
    "",
    " ",
    "\n",
    "\x00",
    "no such action",
    "Thought: go\nAction: up",
    "ÄÖÜ ß 迷宮 🧭 \u202e\u0301",
    '{"action": ["nested"]}',
    "[[[",
    "²",
    "9" * 5_000,
    "word " * 20_000,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One rule that an environment breaks: its short name; and what was done, found and expected."""

    rule: str
    detail: str
    #: Where the exception that shows it was raised, as file:line; empty if there was none.
    raised: str = ""

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


def check_environment(environment: str | Factory, *, samples: int = 6) -> list[Problem]:
    """All broken rules of an environment; empty if it keeps the contract.

    Args:
        environment: a registered name, or a function that makes a new instance under fixed options.
        samples: tasks per split that are played.

    Raises:
        UnknownNameError, ConfigError, EnvironmentFault: if a registered environment cannot be created at all.
    """
    if isinstance(environment, str):
        name = environment
        factory: Factory = lambda: make(name)  # noqa: E731
        factory()
    else:
        factory = environment
    problems = [*_guarded("spec", _check_spec, factory), *_guarded("tasks", _check_tasks, factory)]
    if problems:
        # Episodes can only be judged against a sound spec and task list.
        return _once(problems)
    # At even distances through both splits.
    tasks = [task for split in ("train", "test") for task in spread(factory().tasks(split), samples)]
    problems += _guarded("instruction", _check_instruction, factory)
    problems += _guarded("closed episode", _check_closed_episode, factory, tasks[0])
    problems += _guarded("any action", _check_junk, factory, tasks[0])
    for task in tasks:
        problems += _guarded("expert", _check_expert, factory, task)
        problems += _guarded("determinism", _check_determinism, factory, task)
    problems += _guarded("independence", _check_independence, factory, tasks)
    return _once(problems)


def _once(problems: Sequence[Problem]) -> list[Problem]:
    """Each exception once, as it was seen first, with where it was raised and how often."""
    counts = Counter(problem.raised for problem in problems)
    told: set[str] = set()
    found: list[Problem] = []
    for problem in problems:
        if problem.raised in told:
            continue
        if problem.raised:
            told.add(problem.raised)
            often = f"; so {count} times" if (count := counts[problem.raised]) > 1 else ""
            problem = replace(problem, detail=f"{problem.detail}, raised at {problem.raised}{often}")
        found.append(problem)
    return found


def _guarded(rule: str, check: Callable[..., Iterator[Problem]], *arguments: Any) -> list[Problem]:
    """The problems that a check finds; an exception out of the environment is one more."""
    found: list[Problem] = []
    try:
        with boundary(EnvironmentFault, "the environment raised an exception"):
            for problem in check(*arguments):
                found.append(problem)  # one by one, to keep what was found before an exception
    except FedseError as error:
        found.append(Problem(rule, error.what, _origin(error)))
    return found


def _origin(error: FedseError) -> str:
    cause = error.__cause__ or error
    place = traceback.extract_tb(cause.__traceback__)[-1]
    return f"{place.filename}:{place.lineno}"


def _check_spec(factory: Factory) -> Iterator[Problem]:
    environment = factory()
    spec: Any = environment.spec
    if not isinstance(spec, EnvironmentSpec):
        yield Problem("spec", f"spec is {type(spec).__name__}, not EnvironmentSpec")
        return
    fields = asdict(spec)
    again = json.loads(json.dumps(fields))
    changed = sorted(field for field in fields if fields[field] != again[field])
    if changed:
        yield Problem("spec", f"these fields change on a round trip through JSON: {', '.join(changed)}")
    if factory().spec != spec:
        yield Problem("spec", "two instances under the same options have different specs")
    if spec.name != type(environment).name:
        yield Problem("spec", f"spec.name is {spec.name!r}, the class is named {type(environment).name!r}")
    for field in ("version", "max_turns", "max_response_tokens"):
        value = getattr(spec, field)
        if not isinstance(value, int) or value < 1:
            yield Problem("spec", f"{field} is {value!r}, not a positive integer")
    if spec.action_rule not in get_args(ActionRule):
        yield Problem("spec", f"action_rule is {spec.action_rule!r}, not one of {', '.join(get_args(ActionRule))}")
    if not math.isfinite(spec.success_above):
        yield Problem("success", f"success_above is {spec.success_above!r}: no reward can be compared with it")
    if not spec.summary.strip() or "\n" in spec.summary:
        yield Problem("spec", f"summary must be one line, found {spec.summary!r}")


def _check_tasks(factory: Factory) -> Iterator[Problem]:
    environment = factory()
    splits = environment.spec.splits
    for split in ("train", "test"):
        if split not in splits:
            yield Problem("splits", f"there is no split {split!r}; spec.splits has {', '.join(splits) or 'none'}")
    ids: dict[str, set[str]] = {}
    for split, count in splits.items():
        tasks = list(environment.tasks(split))
        if not all(isinstance(task, Task) and task.environment == environment.name for task in tasks):
            yield Problem("tasks", f"split {split!r} holds something else than tasks of {environment.name!r}")
            continue
        ids[split] = {task.id for task in tasks}
        if len(tasks) != count or not tasks:
            yield Problem(
                "splits", f"split {split!r} has {counted(len(tasks), 'task')}, spec.splits says {count} (at least 1)"
            )
        if len(ids[split]) != len(tasks):
            yield Problem("tasks", f"split {split!r} holds a task twice")
        if list(factory().tasks(split)) != tasks:
            yield Problem("tasks", f"two instances disagree about the tasks of split {split!r} or their order")
    shared = ids.get("train", set()) & ids.get("test", set())
    if shared:
        yield Problem("splits", f"train and test share {counted(len(shared), 'task')}, such as {min(shared)!r}")
    try:
        environment.tasks("no such split")
    except UnknownNameError:
        pass
    else:
        yield Problem("splits", "tasks('no such split') does not raise UnknownNameError")


def _check_instruction(factory: Factory) -> Iterator[Problem]:
    environment = factory()
    for style in get_args(PromptStyle):
        text = environment.instruction(style)
        if not isinstance(text, str) or not text.strip():
            yield Problem("instruction", f"instruction({style!r}) is {text!r}, not a text")


def _check_closed_episode(factory: Factory, task: Task) -> Iterator[Problem]:
    environment = factory()
    if not _refuses(lambda: environment.step("")):
        yield Problem("closed episode", "step before reset does not raise EnvironmentFault")
    if not _refuses(lambda: environment.reset(Task(environment.name, "no such task"))):
        yield Problem("closed episode", "reset to a task that does not exist does not raise EnvironmentFault")
    (_, answers), _ = _play(environment, task)
    if answers and answers[-1].done and not _refuses(lambda: environment.step("")):
        yield Problem("closed episode", f"step after the end of {task} does not raise EnvironmentFault")
    environment.close()
    environment.close()


def _refuses(call: Callable[[], object]) -> bool:
    try:
        call()
    except EnvironmentFault:
        return True
    return False


def _check_junk(factory: Factory, task: Task) -> Iterator[Problem]:
    environment = factory()
    spec = environment.spec
    for action in JUNK:
        environment.reset(task)
        answer: Any = None
        try:
            with boundary(EnvironmentFault, "an exception"):
                answer = environment.step(action)
        except FedseError as error:
            what = f"step({_short(repr(action))}) raised instead of answering: {error.what}"
            yield Problem("any action", what, _origin(error))
            continue
        yield from _check_answer(f"step({_short(repr(action))}) in {task}", answer)
    script = [JUNK[turn % len(JUNK)] for turn in range(spec.max_turns)]
    (_, answers), _ = _play(environment, task, script)
    final = answers[-1]
    if final.reward > spec.success_above:
        yield Problem("success", f"{task} ends with reward {final.reward}, a success, after nothing but junk")


def _check_answer(where: str, answer: Any) -> Iterator[Problem]:
    if not isinstance(answer, StepResult):
        yield Problem("answer", f"{where} returned {type(answer).__name__}, not StepResult")
        return
    for field, wanted, sound in (
        ("observation", "a str", isinstance(answer.observation, str)),
        ("reward", "a finite float", isinstance(answer.reward, float) and math.isfinite(answer.reward)),
        ("done", "a bool", isinstance(answer.done, bool)),
    ):
        if not sound:
            yield Problem("answer", f"{where}: {field} is {_short(repr(getattr(answer, field)))}, not {wanted}")


def _play(environment: Environment, task: Task, script: Sequence[str] = ()) -> tuple[_Transcript, list[str]]:
    """Play a task by a script, or else let the expert play it; the transcript and the actions."""
    first = observation = environment.reset(task)
    expert = None if script else environment.expert(seed=0)
    answers: list[StepResult] = []
    actions: list[str] = []
    for turn in range(len(script) or environment.spec.max_turns):
        actions.append(script[turn] if expert is None else expert.act(observation)[1])
        answers.append(environment.step(actions[-1]))
        observation = answers[-1].observation
        if answers[-1].done:
            break
    return (first, answers), actions


def _check_expert(factory: Factory, task: Task) -> Iterator[Problem]:
    environment = factory()
    spec = environment.spec
    observation: Any = environment.reset(task)
    if not isinstance(observation, str) or not observation.strip():
        yield Problem("answer", f"reset({task}) returned {observation!r}, not a text")
        return
    said: Any = environment.expert(seed=0).act(observation)
    if not (
        isinstance(said, tuple) and len(said) == 2 and all(isinstance(text, str) and text.strip() for text in said)
    ):
        yield Problem("expert", f"the expert of {task} answers {said!r}, not (thought, action) in words")
        return
    (_, answers), actions = _play(environment, task)
    for number, answer in enumerate(answers):
        yield from _check_answer(f"step {number} of {task}", answer)
        if answer.reward > spec.success_above and not answer.done:
            yield Problem(
                "success", f"step {number} of {task} has reward {answer.reward}, a success, but is not the end"
            )
    final = answers[-1]
    if not final.reward > spec.success_above:
        yield Problem(
            "expert",
            f"the expert does not solve {task} in {counted(spec.max_turns, 'turn')}: after {len(actions)} the reward "
            f"is {final.reward}, which is not above {spec.success_above}",
        )


def _check_determinism(factory: Factory, task: Task) -> Iterator[Problem]:
    environment = factory()
    _, actions = _play(environment, task)
    script = [action for pair in zip(JUNK, actions, strict=False) for action in pair] + actions
    reference = _play(environment, task, script)
    if _play(factory(), task, script) != reference:
        yield Problem("determinism", f"{task}: the same actions on a new instance give another transcript")
    elif _play(environment, task, script) != reference:
        yield Problem("determinism", f"{task}: the same actions after a second reset give another transcript")
    if _play(environment, task)[1] != actions:
        yield Problem("determinism", f"{task}: an expert with the same seed takes other actions")


def _check_independence(factory: Factory, tasks: Sequence[Task]) -> Iterator[Problem]:
    """Play two tasks alone, then the same two in turns on two instances."""
    pair = (tasks[0], tasks[-1])
    scripts = [_play(factory(), task)[1] for task in pair]
    alone = [_play(factory(), task, script)[0] for task, script in zip(pair, scripts, strict=True)]
    together = [factory(), factory()]
    firsts = [environment.reset(task) for environment, task in zip(together, pair, strict=True)]
    answers: list[list[StepResult]] = [[], []]
    for turn in range(max(map(len, scripts))):
        for environment, script, heard in zip(together, scripts, answers, strict=True):
            if turn < len(script) and not (heard and heard[-1].done):
                heard.append(environment.step(script[turn]))
    for task, solo, first, heard in zip(pair, alone, firsts, answers, strict=True):
        if solo != (first, heard):
            yield Problem("independence", f"{task} runs otherwise while another instance is played")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:20]}… ({len(text)} characters)"
