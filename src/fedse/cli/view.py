"""``fedse view``: recorded episodes, as text or as the tokens that were trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from rich.markup import escape
from rich.text import Text
from typer import Argument, Option

import fedse
from fedse.cli import episode
from fedse.cli import model as models
from fedse.cli.console import examples, refuse_idle, say, stdout
from fedse.errors import ConfigError, ModelError, RunError
from fedse.names import unknown_name
from fedse.texts import command, counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fedse.results.reading import Episodes, Run

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
        played
        for played in read
        if client in (None, played.client) and number in (None, played.round) and outcome in (None, played.success)
    ]
    tokenizer = _tokenizer(path, model) if mask and chosen else None
    for place, trajectory in enumerate(chosen[:limit], start=1):
        origin = f"  client {trajectory.client}  round {trajectory.round}" if trajectory.client else ""
        stdout.rule(escape(f"{place}  {trajectory.task}  {trajectory.source.value}{origin}"), align="left")
        if tokenizer is None:
            episode.show(trajectory, instruction=place == 1)
        else:
            _show_tokens(trajectory, tokenizer)
    stdout.rule()
    successes = sum(trajectory.success is True for trajectory in read)
    errors = sum(trajectory.success is None for trajectory in read)
    lost = f", {errors} lost to faults" if errors else ""
    matching = f"{min(limit, len(chosen))} of {len(chosen)} matching shown"
    say(f"{counted(len(read), 'episode')}, {counted(successes, 'success')}{lost}; {matching}")


def _read(path: Path, client: str | None, number: int | None, *, evaluation: bool) -> list[fedse.Trajectory]:
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


def _of_run(run: Run, client: str | None, number: int | None, kind: Episodes) -> list[fedse.Trajectory]:
    names = [site.name for site in run.config.clients]
    if client is not None and client not in names:
        raise unknown_name("client", client, names)
    for candidate in range(run.config.rounds, -1, -1) if number is None else [number]:
        sites = [name for name in names if client in (None, name) and run.has_episodes(kind, name, candidate)]
        if sites:
            return [trajectory for site in sites for trajectory in run.episodes(kind, site, candidate)]
    if kind == "explored":
        run.check_whole()
    of_round = "" if number is None else f" of round {number}"
    mend = f"{command('fedse run --resume --out', run.folder)} goes on with it"
    raise RunError(f"{run.folder} has no {kind} episodes{of_round} yet", mend)


def _tokenizer(path: Path, model: str | None) -> PreTrainedTokenizerBase:
    from fedse.models.base import load_tokenizer
    from fedse.results.reading import run_around

    if model is not None:
        config = fedse.ModelConfig(name=model)
    elif run := run_around(path):
        config = run.config.model
    else:
        what = f"{path} lies in no run folder, so its tokenizer is not known"
        raise ConfigError(what, "name the model: --model smollm2-135m")
    models.ensure(config)
    return load_tokenizer(config)


def _show_tokens(trajectory: fedse.Trajectory, tokenizer: PreTrainedTokenizerBase) -> None:
    record = trajectory.tokens
    if record is None:
        say("This episode has no recorded tokens.", style="yellow")
        return
    fingerprint = fedse.renderer_for(tokenizer).fingerprint
    if record.tokenizer != fingerprint:
        what = f"the tokens were made by another tokenizer ({record.tokenizer}) than this one ({fingerprint})"
        raise ModelError(what, "name the model that made them: --model NAME")
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
