"""``fedse export``: adapters and models with their cards, metrics for other tools."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from fedse.cli import model as models
from fedse.cli import subject
from fedse.cli.console import examples, refuse_idle, say
from fedse.cli.options import Client, LogTo, RoundNumber
from fedse.errors import ConfigError, RunError
from fedse.storage import read_json

if TYPE_CHECKING:
    from fedse.results.reading import Run

EXAMPLES = examples(
    "fedse export runs/quickstart-seed0 -o my-adapter",
    "fedse export runs/quickstart-seed0 --merged -o my-model",
    "fedse export runs/nano-fed-se-plus-seed0 --rank 16 -o small-adapter",
    "fedse export runs/local-seed0 --client maze --round 3 -o maze-adapter",
    "fedse export runs/quickstart-seed0 runs/quickstart-seed1 --metrics metrics.parquet",
    "fedse export runs/quickstart-seed0 runs/quickstart-seed1 --log-to tensorboard:logs",
)

_KINDS = (".csv", ".parquet")


def export(
    folders: Annotated[list[Path], Argument(metavar="RUN...", help="Run folders.")],
    out: Annotated[
        Path | None, Option("--out", "-o", help="Write the adapter or the model here, with a model card.")
    ] = None,
    merged: Annotated[
        bool, Option("--merged/--adapter", help="The base model with the adapter merged, or the adapter.")
    ] = False,
    number: RoundNumber = None,
    client: Client = None,
    base: Annotated[
        str | None, Option(help="What the adapter calls its base model.", show_default="its Hugging Face id or path")
    ] = None,
    rank: Annotated[
        int | None,
        Option(min=1, help="Compress the adapter to this rank, by truncated SVD.", show_default="its own"),
    ] = None,
    metrics: Annotated[
        list[Path] | None, Option(help="Write all metrics to FILE.csv or FILE.parquet; can be repeated.")
    ] = None,
    log_to: LogTo = None,
) -> None:
    """Export an adapter for peft or a model for transformers with a model card, or metrics for other tools."""
    from fedse.export import write_parquet
    from fedse.results.measures import write_csv
    from fedse.results.reading import read_runs

    if out is None and not metrics and not log_to:
        raise ConfigError("there is nothing to export", "say what: --out DIR, --metrics FILE or --log-to NAME")
    if out is not None and len(folders) != 1:
        raise ConfigError("--out takes the adapter of one run", "name one run, or leave --out away")
    if out is None:
        idle = {"--merged": merged, "--round": number, "--client": client, "--base": base, "--rank": rank}
        refuse_idle(idle, "without --out", "add --out DIR, or leave it out")
    for path in metrics or []:
        if path.suffix not in _KINDS:
            raise ConfigError(f"--metrics {path}: unknown kind of file", f"name it *{' or *'.join(_KINDS)}")
    if base is not None and merged:
        raise ConfigError("--base is a field of an adapter's configuration", "leave it away, or export the adapter")
    runs = read_runs(folders)
    if out is not None:
        _export_model(runs[0], number, client, out, base, rank, merged=merged)
    for path in metrics or []:
        (write_parquet if path.suffix == ".parquet" else write_csv)(path, runs)
        say(f"The metrics are in {path}")
    for target in log_to or []:
        _log(target, runs)


def _export_model(
    run: Run,
    number: int | None,
    client: str | None,
    out: Path,
    base: str | None,
    rank: int | None,
    *,
    merged: bool,
) -> None:
    from fedse.adapters.lowrank import compressed
    from fedse.export import Origin, export_adapter, export_merged

    last = run.records[-1].round
    chosen = last if number is None else number
    if chosen > last:
        raise RunError(f"{run.folder} has no round {chosen}", f"it has the rounds 0 to {last}")
    adapter = subject.of_run(run, chosen, client).adapter
    assert adapter is not None  # a run folder's subject has one
    cut = 0.0
    if rank is not None:
        adapter, cut = compressed(adapter, rank)
        say(f"Compressed to rank {rank}: {cut:.1%} of the adapter's change of the weights is lost")
    origin = Origin(run, chosen, client or "", adapter, cut)
    if merged:
        models.ensure(run.config.model)
        export_merged(origin, out)
        say(f"The model is in {out}; transformers loads it. Its card is README.md")
        return
    export_adapter(origin, out, base=base)
    called = read_json(out / "adapter_config.json")["base_model_name_or_path"]
    say(f"The adapter is in {out}; peft loads it on {called}. Its card is README.md")


def _log(target: str, runs: list[Run]) -> None:
    from fedse.export import make_log

    names = [run.folder.resolve().name for run in runs]
    if target.startswith("tensorboard:") and (twice := sorted({name for name in names if names.count(name) > 1})):
        raise ConfigError(f"several runs have a folder called {', '.join(twice)}", "export them into different folders")
    for run in runs:
        with make_log(target, run.folder) as log:
            log.update(run)
        say(f"{run.folder} is logged; look at it with: {log.look}")
