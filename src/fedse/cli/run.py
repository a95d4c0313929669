"""``fedse run``: a whole federation, watched."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedse.cli import model as models
from fedse.cli.console import examples, stderr, stdout
from fedse.cli.progress import shown
from fedse.cli.results import show_result

if TYPE_CHECKING:
    from fedse.config import RunConfig

EXAMPLES = examples(
    "fedse run --preset quickstart",
    "fedse run --preset quickstart --set rounds=5 --set seed=1 --out runs/longer",
    "fedse run --config mine.yaml --dry-run",
    "fedse run --preset quickstart --resume",
)

_INTERRUPTED = 130


def run(
    preset: Annotated[str | None, typer.Option("--preset", "-p", help="A shipped configuration to begin from.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A YAML file; overrules the preset.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Overrules both; can be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The run folder.  [default: runs/<name>-seed<seed>]")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in its folder, or begin it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show the result only.")] = False,
) -> None:
    """Run a federation: demonstrate, then rounds of explore, train and aggregate; evaluate before and after.

    Without a preset and a file, the preset quickstart runs; with --resume and --out, the run that is there goes on.
    """
    from fedse.settings import dump_config

    resolved = _resolve(preset, config, overrides or [], out if resume else None)
    if dry_run:
        stdout.print(dump_config(resolved), markup=False, end="")
        return
    folder = out or default_folder(resolved)
    try:
        _execute(resolved, folder, resume=resume, quiet=quiet)
    except KeyboardInterrupt:
        stderr.print(f"\nInterrupted. Go on with: fedse run --resume --out {folder}", style="yellow", markup=False)
        raise typer.Exit(_INTERRUPTED) from None


def default_folder(config: RunConfig) -> Path:
    """Where a run goes unless told otherwise: the same place for the same name and seed, so that it can be resumed."""
    return Path("runs") / f"{config.name}-seed{config.seed}"


def _resolve(preset: str | None, file: Path | None, overrides: list[str], resumed: Path | None) -> RunConfig:
    from fedse.federation.layout import RunLayout
    from fedse.settings import load_config

    if preset is None and file is None:
        if resumed is not None and RunLayout(resumed).config.is_file():
            file = RunLayout(resumed).config
        else:
            preset = "quickstart"
    return load_config(preset, file, overrides)


def _execute(config: RunConfig, folder: Path, *, resume: bool, quiet: bool) -> None:
    models.ensure(config.model)
    if not quiet:
        sites = ", ".join(client.name for client in config.clients)
        rounds = f"{config.rounds} round{'' if config.rounds == 1 else 's'}"
        stderr.print(f"{folder}: {rounds} on {config.model.name}; sites: {sites}", markup=False)
    with nullcontext() if quiet else stderr.status("loading libraries"):
        from fedse.federation.runtimes.local import run as run_federation
    with shown(config.rounds, quiet=quiet) as listener:
        result = run_federation(config, folder, resume=resume, listener=listener)
    show_result(result.records)
    stdout.print(f"\nThe run is in {folder}; its adapter, which peft loads, in {result.adapter}", markup=False)
    stdout.print("What next:")
    for command, purpose in (
        (f"fedse view {folder}", "read the episodes of the last round"),
        (f"fedse view {folder} --round 0 --mask", "see which tokens carry loss"),
        (f"fedse report {folder}", "all of it on one page, to open in a browser"),
        (f"fedse eval {folder} --tasks 200", "measure on more tasks"),
    ):
        stdout.print(f"  {command:<52} {purpose}", markup=False)
