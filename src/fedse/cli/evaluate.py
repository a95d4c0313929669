"""``fedse eval``: success rates of an adapter on held-out tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

import fedse
from fedse.cli import model as models
from fedse.cli.console import examples, refuse_idle, say
from fedse.cli.options import Client, Quiet, RoundNumber
from fedse.cli.progress import shown
from fedse.cli.results import show_rates, show_samples
from fedse.cli.subject import find
from fedse.names import unknown_name
from fedse.progress import Event, Phase
from fedse.sites.watching import SiteProgress
from fedse.texts import counted

if TYPE_CHECKING:
    from fedse.config import ClientConfig

EXAMPLES = examples(
    "fedse eval runs/quickstart-seed0 --tasks 200",
    "fedse eval runs/quickstart-seed0 --round 1 --env maze --base",
    "fedse eval runs/quickstart-seed0 --sampled --temperature 0.7 --episodes-to sampled.jsonl.gz",
    "fedse eval runs/local-seed0 --client maze",
    "fedse eval my-adapter --model smollm2-135m --env wordle",
)


def evaluate(
    path: Annotated[Path, Argument(metavar="RUN_OR_ADAPTER", help="A run folder, or an adapter folder.")],
    number: RoundNumber = None,
    client: Client = None,
    env: Annotated[list[str] | None, Option(help="Environment; can be repeated.", show_default="all")] = None,
    split: Annotated[str | None, Option(help="Tasks to play.", show_default="as in the run")] = None,
    tasks: Annotated[int | None, Option(min=1, help="Tasks per environment.", show_default="as in the run")] = None,
    sampled: Annotated[bool, Option("--sampled", help="Sample, whatever decoding the run has.")] = False,
    temperature: Annotated[float | None, Option(min=0.01, help="Of --sampled.", show_default="as in the run")] = None,
    seed: Annotated[int | None, Option(min=0, help="Of the sampling.", show_default="as in the run")] = None,
    base: Annotated[bool, Option("--base", help="Play with the bare base model, too, and compare.")] = False,
    model: Annotated[str | None, Option(help="Base model of an adapter that lies in no run folder.")] = None,
    episodes_to: Annotated[
        Path | None, Option(help="Keep the adapter's episodes in this file (*.jsonl.gz), for `fedse view`.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure success rates on held-out tasks, with 95 % Wilson intervals."""
    from fedse.sites.evaluation import evaluate_sites
    from fedse.sites.shared_model import SharedModel

    subject = find(path, number=number, client=client, model=model)
    config = subject.config
    decoding = "sampled" if sampled else config.evaluation.decoding
    if decoding != "sampled":
        idle = {"--temperature": temperature, "--seed": seed}
        refuse_idle(idle, "on greedy decoding", "add --sampled, or leave it out")
    evaluation = config.evaluation.model_copy(update={"decoding": decoding, "tasks": tasks or config.evaluation.tasks})
    rollout = config.rollout.model_copy(update={"temperature": temperature or config.rollout.temperature})
    clients = tuple(client.model_copy(update={"test_split": split or client.test_split}) for client in config.clients)
    changed = {"evaluation": evaluation, "rollout": rollout, "clients": clients}
    config = config.model_copy(update=changed | {"seed": config.seed if seed is None else seed})
    sites = _sites(config, env)
    models.ensure(config.model)
    shared = SharedModel.load(config)
    adapters = {"base model": None} if base else {}
    columns: dict[str, dict[str, fedse.SuccessRate]] = {}
    played: list[fedse.Trajectory] = []
    with shown(0, quiet=quiet) as listener:

        def tell(event: Event) -> None:  # the last episode ends the phase
            listener(replace(event, finished=event.done == event.total))

        for heading, adapter in (adapters | {"adapter": subject.adapter}).items():
            columns[heading], played = {}, []
            for label, rate, episodes in evaluate_sites(
                shared.player,
                adapter,
                config,
                sites,
                on_progress=lambda label: SiteProgress(tell, label).episodes(Phase.EVALUATE, 0),
            ):
                columns[heading][label] = rate
                played += episodes
    show_rates(columns, title=f"Success of {subject.label}")
    show_samples(config.evaluation)
    if episodes_to:
        from fedse.experience.trajectory_files import write_trajectories

        write_trajectories(episodes_to, played)
        say(f"{counted(len(played), 'episode')} written to {episodes_to}")


def _sites(config: fedse.RunConfig, wanted: list[str] | None) -> dict[str, ClientConfig]:
    """Label of an evaluation → the site whose tasks are played; labels are those of the run's own record."""
    from fedse.federation.evaluators import evaluators

    sites = evaluators(config)
    known = {site.environment for site in sites.values()}
    for name in wanted or []:
        if name not in known:
            raise unknown_name("environment in this run", name, sorted(known))
    return {label: site for label, site in sites.items() if not wanted or site.environment in wanted}
