"""``fedse view``: recorded episodes, as text or as the tokens that were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from rich.text import Text
from typer import Argument, Option

from fedse.cli import episode
from fedse.cli.console import examples, refuse_idle, say, stdout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from fedse.config import ModelConfig
    from fedse.results.reading import Episodes, Run
    from fedse.types import Trajectory

EXAMPLES = examples(
    "fedse view runs/quickstart-seed0",
    "fedse view runs/quickstart-seed0 --client maze --round 2 --success --limit 10",
    "fedse view runs/quickstart-seed0 --evaluation --failure",
    "fedse view runs/quickstart-seed0/clients/maze/experience.sqlite --mask --limit 1",
)


def view(
    path: Annotated[
        Path, Argument(metavar="RUN_OR_FILE", help="A run folder, a *.jsonl.gz file, or an experience.sqlite.")
    ],
    client: Annotated[str | None, Option(help="Only of this client.")] = None,
    number: Annotated[
        int | None,
        Option("--round", min=0, help="Only of this round; 0 holds the demonstrations.", show_default="the last"),
    ] = None,
    outcome: Annotated[bool | None, Option("--success/--failure", help="Only these outcomes.")] = None,
    evaluation: Annotated[
        bool, Option("--evaluation", help="Of a run: the held-out episodes instead of the explored ones.")
    ] = False,
    limit: Annotated[int, Option(min=1, help="Show at most so many.")] = 3,
    mask: Annotated[
        bool, Option("--mask", help="Show the recorded tokens; those that carry loss are coloured.")
    ] = False,
    model: Annotated[
        str | None, Option(help="Model whose tokenizer reads --mask.", show_default="that of the run")
    ] = None,
) -> None:
    """Show recorded episodes."""
    if not mask:
        refuse_idle({"--model": model}, "without --mask")
    read = _read(path, client, number, evaluation=evaluation)
    chosen = [
        trajectory
        for trajectory in read
        if (client is None or trajectory.client == client)
        and (number is None or trajectory.round == number)
        and (outcome is None or trajectory.success is outcome)
    ]
    tokenizer = _tokenizer(path, model) if mask and chosen else None
    for place, trajectory in enumerate(chosen[:limit], start=1):
        stdout.rule(escape(f"{place}  {_heading(trajectory)}"), align="left")
        if tokenizer is None:
            episode.show(trajectory, instruction=place == 1)
        else:
            _show_tokens(trajectory, tokenizer)
    stdout.rule()
    say(_summary(read, chosen, limit))


def _read(path: Path, client: str | None, number: int | None, *, evaluation: bool) -> list[Trajectory]:
    from fedse.errors import RunError
    from fedse.experience import ExperienceStore
    from fedse.experience.trajectory_files import read_trajectories
    from fedse.results.reading import is_run, run_at

    if path.suffix == ".sqlite":
        with ExperienceStore(path, readonly=True) as store:
            return store.trajectories()
    if path.is_file():
        return read_trajectories(path)
    if not is_run(path):
        raise RunError(f"{path} is neither a run folder nor a file of episodes", "fedse ls lists the run folders")
    return _of_run(run_at(path), client, number, "held-out" if evaluation else "explored")


def _of_run(run: Run, client: str | None, number: int | None, kind: Episodes) -> list[Trajectory]:
    from fedse.errors import RunError
    from fedse.names import unknown_name

    names = [site.name for site in run.config.clients]
    if client is not None and client not in names:
        raise unknown_name("client", client, names)
    for candidate in range(run.config.rounds, -1, -1) if number is None else [number]:
        sites = [name for name in names if client in (None, name) and run.has_episodes(kind, name, candidate)]
        if sites:
            return [trajectory for site in sites for trajectory in run.episodes(kind, site, candidate)]
    if kind == "explored":
        run.check_whole()
    raise RunError(
        f"{run.folder} has no {kind} episodes{'' if number is None else f' of round {number}'} yet",
        f"fedse run --resume --out {run.folder} goes on with it",
    )


def _tokenizer(path: Path, model: str | None) -> PreTrainedTokenizerBase:
    from fedse.cli import model as models
    from fedse.models.base import load_tokenizer

    config = _model_config(path, model)
    models.ensure(config)
    return load_tokenizer(config)


def _model_config(path: Path, model: str | None) -> ModelConfig:
    from fedse.config import ModelConfig
    from fedse.errors import ConfigError
    from fedse.results.reading import run_around

    if model is not None:
        return ModelConfig(name=model)
    if run := run_around(path):
        return run.config.model
    raise ConfigError(
        f"{path} lies in no run folder, so its tokenizer is not known", "name the model: --model smollm2-135m"
    )


def _show_tokens(trajectory: Trajectory, tokenizer: PreTrainedTokenizerBase) -> None:
    from fedse.agent import renderer_for
    from fedse.errors import ModelError

    record = trajectory.tokens
    if record is None:
        say("This episode has no recorded tokens.", style="yellow")
        return
    fingerprint = renderer_for(tokenizer).fingerprint
    if record.tokenizer != fingerprint:
        raise ModelError(
            f"the tokens were made by another tokenizer ({record.tokenizer}) than this one ({fingerprint})",
            "name the model that made them: --model NAME",
        )
    ids = list(record.ids)
    text = Text()
    start = 0
    for first, end in record.spans:
        text.append(str(tokenizer.decode(ids[start:first])), style="dim")
        text.append(str(tokenizer.decode(ids[first:end])), style="bold green")
        start = end
    text.append(str(tokenizer.decode(ids[start:])), style="dim")
    stdout.print(text)
    say(f"{int(record.mask().sum())} of {len(ids)} tokens carry loss", style="italic")


def _heading(trajectory: Trajectory) -> str:
    parts = [str(trajectory.task), trajectory.source.value]
    if trajectory.client:
        parts += [f"client {trajectory.client}", f"round {trajectory.round}"]
    return "  ".join(parts)


def _summary(read: Sequence[Trajectory], chosen: Sequence[Trajectory], limit: int) -> str:
    successes = sum(trajectory.success is True for trajectory in read)
    errors = sum(trajectory.success is None for trajectory in read)
    lost = f", {errors} lost to faults" if errors else ""
    shown = f"{min(limit, len(chosen))} of {len(chosen)} matching shown"
    return f"{len(read)} episodes, {successes} successes{lost}; {shown}"
