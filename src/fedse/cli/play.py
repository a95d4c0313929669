"""``fedse play``: one episode, played by you, by the expert or by the model."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.markup import escape
from rich.text import Text
from typer import Option

import fedse
from fedse.cli import episode
from fedse.cli import model as models
from fedse.cli.console import examples, refuse_idle, say, stderr, stdout
from fedse.cli.options import EnvironmentName, EnvironmentOptions, parsed_options
from fedse.cli.subject import Subject, base, find
from fedse.errors import UnknownNameError

if TYPE_CHECKING:
    from fedse.config import ClientConfig
    from fedse.rollout.scripted import Policy

EXAMPLES = examples(
    "fedse play maze",
    "fedse play wordle --who expert --seed 3",
    "fedse play maze --option max_path=5",
    "fedse play maze --who model --adapter runs/quickstart-seed0 --task 7",
)


class Player(StrEnum):
    """Who acts."""

    HUMAN = "human"
    EXPERT = "expert"
    MODEL = "model"


def play(
    name: EnvironmentName,
    option: EnvironmentOptions = None,
    task: Annotated[str | None, Option(help="Id or index of a task.", show_default="drawn by the seed")] = None,
    split: Annotated[str, Option(help="Where the task is taken from.")] = "test",
    who: Annotated[Player, Option(help="Who acts.")] = Player.HUMAN,
    adapter: Annotated[
        Path | None, Option(help="Run folder or adapter of the model; without it the base model plays.")
    ] = None,
    client: Annotated[
        str | None,
        Option(help="Whose adapter to take, of a run whose sites are isolated.", show_default="the one with ENV"),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Draws the task and varies the expert.")] = 0,
) -> None:
    """Play one episode, or watch one.

    You type actions, or whole replies in the form `Thought: … Action: …`; Ctrl-D leaves.  The model decodes greedily.
    """
    if who is not Player.MODEL:
        refuse_idle({"--adapter": adapter, "--client": client}, "without --who model")
    if adapter is None:
        refuse_idle({"--client": client}, "without --adapter", "name the run: --adapter RUN, or leave it out")
    subject = None
    if who is Player.MODEL:
        subject = find(adapter, client=client, environment=name) if adapter else base(fedse.ModelConfig().name)
    # The site with this environment, of the run that the model was trained in.
    clients = subject.config.clients if subject else ()
    site = next((client for client in clients if client.environment == name), None)
    options = {**(site.options if site else {}), **parsed_options(option or [])}
    environment = fedse.make(name, **options)
    try:
        chosen = _choose(environment, split, task, seed)
        stdout.print(Text(f"{chosen}  (split {split}, {who.value} plays)\n", style="bold"))
        if subject is not None:
            _watch_model(environment, options, site, chosen, subject)
        else:
            _play_scripted(environment, chosen, who, seed)
    finally:
        environment.close()


def _choose(environment: fedse.Environment, split: str, wanted: str | None, seed: int) -> fedse.Task:
    tasks = environment.tasks(split)
    if wanted is None:
        return fedse.python_random(seed, "play", environment.name, split).choice(tasks)
    by_id = {task.id: task for task in tasks}
    if wanted in by_id:
        return by_id[wanted]
    if wanted.isdecimal() and int(wanted) < len(tasks):
        return tasks[int(wanted)]
    what = f"the split {split!r} of {environment.name!r} has no task {wanted!r}"
    raise UnknownNameError(what, f"give an index from 0 to {len(tasks) - 1}, or an id such as {tasks[0].id!r}")


class _Shown:
    """Shows what a policy sees and answers; without a policy a person answers at the keyboard."""

    def __init__(self, policy: Policy | None) -> None:
        self._policy = policy

    def act(self, observation: str) -> str:
        episode.show_observation(observation)
        if self._policy is None:
            reply = stdout.input("[bold]> [/]").strip()
            return reply if "Action:" in reply else f"Action: {reply}"  # a bare line is an action
        reply = self._policy.act(observation)
        stdout.print(episode.coloured_response(reply))
        return reply


def _play_scripted(environment: fedse.Environment, task: fedse.Task, who: Player, seed: int) -> None:
    from fedse.rollout.scripted import ExpertPolicy
    from fedse.rollout.scripted import play as play_episode

    def make_policy(opened: fedse.Environment) -> Policy:
        return _Shown(None if who is Player.HUMAN else ExpertPolicy(opened, seed))

    episode.show_instruction(environment.instruction("concise"))
    instruction = fedse.system_prompt(environment, "concise")
    source = fedse.Source.HUMAN if who is Player.HUMAN else fedse.Source.EXPERT
    request = fedse.EpisodeRequest(task, seed)
    try:
        trajectory = play_episode(environment, request, make_policy, instruction=instruction, source=source)
    except EOFError:
        say("\nLeft before the end.", style="yellow")
        return
    episode.show_outcome(trajectory)


def _watch_model(
    environment: fedse.Environment,
    options: Mapping[str, Any],
    site: ClientConfig | None,
    task: fedse.Task,
    subject: Subject,
) -> None:
    from fedse.sites.shared_model import SharedModel

    agent = subject.config.agent
    models.ensure(subject.config.model)
    with stderr.status(escape(f"{subject.label} plays")):
        shared = SharedModel.load(subject.config)
        rules = fedse.Rules(
            lambda: fedse.make(environment.name, **options),
            fedse.system_prompt(environment, agent.prompt, thoughts=agent.thoughts),
            greedy=True,
            max_turns=site.max_turns if site else None,
        )
        # Greedy decoding draws nothing, whatever the seed.
        [[trajectory]] = shared.player.play(subject.adapter, [fedse.Play([fedse.EpisodeRequest(task, 0)], rules)])
    episode.show(trajectory)
