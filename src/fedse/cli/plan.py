"""``fedse plan``: what a run needs, before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fedse.cli.console import examples, stdout

if TYPE_CHECKING:
    from rich.console import Console

    from fedse.config import RunConfig
    from fedse.planning import MemoryPlan

EXAMPLES = examples(
    "fedse plan --preset paper-qwen2.5-7b",
    "fedse plan --preset paper --set model.name=Qwen/Qwen3-8B --set rollout.slots=16",
    "fedse plan --preset quickstart --memory 4",
)


def plan(
    preset: Annotated[str | None, typer.Option("--preset", "-p", help="A shipped configuration to begin from.")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="A YAML file; overrules the preset.")] = None,
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="A shipped method; overrules preset and file.")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Overrules all; can be repeated.")
    ] = None,
    memory: Annotated[
        list[float] | None,
        typer.Option(min=0.1, metavar="GB", help="Memory to fit into; can be repeated.", show_default="24, 48 and 80"),
    ] = None,
) -> None:
    """Compute the memory of a run from its model's shapes, say where it fits, and what to change where it does not.

    No weights are loaded. With model.device=auto the plan is for this machine: set it to cuda to plan for a GPU.
    """
    from fedse.errors import ConfigError
    from fedse.settings import load_config

    if preset is None and config is None:
        raise ConfigError("there is no configuration to plan", "name one: --preset NAME or --config FILE")
    resolved = load_config(preset, config, overrides or [], method=method)
    show_plan(resolved, memory or [], stdout)


def show_plan(config: RunConfig, memory: list[float], console: Console) -> None:
    """Print a run's memory, item by item, and what it fits into.

    Args:
        config: the run.
        memory: sizes to fit into, in GB; common cards if empty.
        console: where to print.

    Raises:
        ModelError, AdapterError: if the model's shapes cannot be told, or the adapter does not fit them.
    """
    from fedse.planning import fit
    from fedse.planning.fitting import CARDS

    found = plan_of(config)
    shapes = found.architecture
    place = "this machine's memory" if found.device == "cpu" else "one GPU"
    console.print(
        f"{shapes.name}: {_count(shapes.parameters)} parameters in {found.dtype} on {place}; an adapter of "
        f"rank {config.lora.rank} has {_count(found.adapter_parameters)}, {found.adapter_bytes / 2**20:.1f} MiB "
        f"each way",
        markup=False,
    )
    console.print(_items(found))
    if found.host:
        console.print(f"The host needs {_gigabytes(found.host_peak)} beside Python and its libraries", markup=False)
    console.print("Not counted: Python, libraries and the CUDA context", markup=False)
    for size in memory or CARDS:
        verdict = fit(found, config, size)
        console.print(f"{size:g} GB: {'fits' if verdict.fits else 'does not fit'}", markup=False)
        for advice in verdict.advice:
            console.print(f"  → {advice}", markup=False)


def plan_of(config: RunConfig) -> MemoryPlan:
    """The memory plan of a run, on the device and in the dtype that it would have.

    Raises:
        ModelError, AdapterError: if the model's shapes cannot be told, or the adapter does not fit them.
    """
    from fedse.planning import architecture_of, plan_memory
    from fedse.planning.memory import Device, Dtype

    device: Device = "cpu" if config.model.device == "cpu" else "cuda"
    dtype: Dtype = "bfloat16"  # what every GPU of the last years multiplies natively
    if config.model.device in ("auto", "cpu"):
        import torch

        from fedse.models.base import has_fast_bfloat16

        here = torch.device("cuda" if config.model.device == "auto" and torch.cuda.is_available() else "cpu")
        device = "cuda" if here.type == "cuda" else "cpu"
        # The tiny model stays in float32 wherever it runs.
        dtype = "bfloat16" if has_fast_bfloat16(here) and config.model.name != "tiny" else "float32"
    if config.model.dtype != "auto":
        dtype = config.model.dtype
    return plan_memory(config, architecture_of(config.model.name), device=device, dtype=dtype)


def _items(found: MemoryPlan) -> Table:
    table = Table("phase", "what", box=None, pad_edge=False)
    table.add_column("memory", justify="right")
    for phase in found.phases:
        for number, item in enumerate(phase.items):
            table.add_row("" if number else phase.name, item.label, _gigabytes(item.bytes))
        table.add_row("", "together", _gigabytes(phase.bytes), style="bold")
    if found.workers > 1:
        table.add_row("", f"{found.workers} workers in their larger phase", _gigabytes(found.peak), style="bold")
    return table


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.2f} million"
