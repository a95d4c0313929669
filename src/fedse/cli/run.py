"""``fedse run``: a whole federation, watched; and ``fedse methods``, which it can follow."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from typer import Option

import fedse
from fedse.cli import model as models
from fedse.cli.console import examples, made_table, note, say, stderr, stdout
from fedse.cli.options import ConfigFile, LogTo, MethodName, Overrides, Preset, Quiet
from fedse.cli.plan import show_plan
from fedse.cli.progress import shown
from fedse.cli.results import show_result
from fedse.errors import ModelError
from fedse.processes import keep_freed_memory
from fedse.texts import command, counted

EXAMPLES = examples(
    "fedse run --preset quickstart",
    "fedse run --preset quickstart --set rounds=5 --set seed=1 --out runs/longer",
    "fedse run --preset quickstart --method fedit",
    "fedse run --config mine.yaml --dry-run",
    "fedse run --preset quickstart --resume",
    "fedse run --preset nano --runtime flower",
)


def run(
    preset: Preset = None,
    config: ConfigFile = None,
    method: MethodName = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, Option("--out", "-o", help="The run folder.", show_default="runs/<name>-seed<seed>")
    ] = None,
    resume: Annotated[bool, Option("--resume", help="Continue the run in its folder, or begin it.")] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="Print the resolved configuration, check sites and memory, and stop.")
    ] = False,
    log_to: LogTo = None,
    runtime: Annotated[
        str, Option(help="'local', or 'flower': Flower's simulation moves the messages; the results are the same.")
    ] = "local",
    quiet: Quiet = False,
) -> None:
    """Run a federation: demonstrate, then rounds of explore, train and aggregate; evaluate before and after.

    Without a preset and a file, the preset quickstart runs; with --resume and --out, the run that is there goes on.
    """
    from fedse.runs.layout import RunFolder
    from fedse.settings import dump_config

    if preset is None and config is None:
        resumed = RunFolder(out).server.config if resume and out is not None else None
        preset, config = (None, resumed) if resumed is not None and resumed.is_file() else ("quickstart", None)
    resolved = fedse.load_config(preset, config, overrides or [], method=method)
    if dry_run:
        stdout.print(dump_config(resolved), markup=False, end="")
        _check(resolved, quiet=quiet)
        return
    # The same place for the same name and seed, so that the run can be resumed.
    folder = out or Path("runs") / f"{resolved.name}-seed{resolved.seed}"
    try:
        _execute(resolved, folder, resume=resume, runtime=runtime, log_to=log_to or [], quiet=quiet)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Go on with: {command('fedse run --resume --out', folder)}") from None


def _check(config: fedse.RunConfig, *, quiet: bool) -> None:
    """Set the sites up, try the model's kind, plan the memory; told apart from the configuration, which can be piped.

    No weights are loaded.

    Raises:
        ConfigError, UnknownNameError, EnvironmentFault, ModelError, AdapterError: if the run could not begin.
    """
    from fedse.planning import check_run
    from fedse.planning.base_model import check_model

    sites = check_run(config)
    untried = check_model(config)
    if quiet:
        return
    rows = []
    for site in sites:
        numbers = (site.train_tasks, site.test_tasks, site.demonstrations, site.episodes)
        rows.append((site.name, site.environment, *map(str, numbers)))
    counts = ("training tasks", "held-out tasks", "demonstrations", "episodes a round")
    stderr.print(made_table(("site", "environment", *counts), rows, texts=["environment"]))
    if untried:
        note(f"Whether {config.model.name} can be trained and played was not tried: {untried}", style="yellow")
    try:
        show_plan(config, [], stderr)
    except ModelError as error:  # a model of another kind may run all the same
        note(f"No memory plan: {error.what}", style="yellow")


def _execute(
    config: fedse.RunConfig, folder: Path, *, resume: bool, runtime: str, log_to: list[str], quiet: bool
) -> None:
    keep_freed_memory()
    models.ensure(config.model)
    if not quiet:
        sites = ", ".join(client.name for client in config.clients)
        note(f"{folder}: {counted(config.rounds, 'round')} on {config.model.name}; sites: {sites}")
    with nullcontext() if quiet else stderr.status("loading libraries"):
        from fedse.export import logged, make_log
        from fedse.federation.run import run as run_federation
    logs = [make_log(target, folder) for target in log_to]
    with shown(config.rounds, quiet=quiet) as listener, logged(logs, listener) as told:
        result = run_federation(config, folder, resume=resume, listener=told, runtime=runtime)
    show_result(result.records, config.evaluation)
    places = list(dict.fromkeys(result.adapters.values()))
    where = places[0] if len(places) == 1 else f"{places[0].parent}, one for each site"
    say(f"\nThe run is in {folder}; its adapter, which peft loads, in {where}")
    say("What next:")
    look = {log.look: f"the metrics in {log.title}" for log in logs}
    for words, purpose in (_next(config, folder) | look).items():
        say(f"  {words:<52} {purpose}")


def _next(config: fedse.RunConfig, folder: Path) -> dict[str, str]:
    """Commands that make something of a finished run, and what for."""
    from fedse.results.method import has_own_adapters

    site = ("--client", config.clients[0].name) if has_own_adapters(config) else ()
    view = command("fedse view", folder)
    learnt = {view: "read the episodes of the last round", f"{view} --round 0 --mask": "see which tokens carry loss"}
    return (learnt if config.rounds else {f"{view} --evaluation": "read the held-out episodes"}) | {
        command("fedse report", folder): "all of it on one page, to open in a browser",
        command("fedse eval", folder, *site, "--tasks", 200): "measure on more tasks",
    }
