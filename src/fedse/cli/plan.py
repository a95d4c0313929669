"""``fedse plan``: what a run needs, before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from rich.console import Console
from rich.text import Text
from typer import Option

import fedse
from fedse.cli.console import examples, made_table, stdout
from fedse.cli.options import ConfigFile, MethodName, Overrides, Preset
from fedse.errors import ConfigError

EXAMPLES = examples(
    "fedse plan --preset paper-qwen2.5-7b",
    "fedse plan --preset paper --set model.name=Qwen/Qwen3-8B --set rollout.slots=16",
    "fedse plan --preset quickstart --memory 4",
)


def plan(
    preset: Preset = None,
    config: ConfigFile = None,
    method: MethodName = None,
    overrides: Overrides = None,
    memory: Annotated[
        list[float] | None,
        Option(min=0.1, metavar="GB", help="Memory to fit into; can be repeated.", show_default="24, 48 and 80"),
    ] = None,
) -> None:
    """Compute the memory of a run from its model's shapes, say where it fits, and what to change where it does not.

    No weights are loaded. With model.device=auto the plan is for this machine: set it to cuda to plan for a GPU.
    """
    if preset is None and config is None:
        raise ConfigError("there is no configuration to plan", "name one: --preset NAME or --config FILE")
    show_plan(fedse.load_config(preset, config, overrides or [], method=method), memory or [], stdout)


def show_plan(config: fedse.RunConfig, memory: list[float], console: Console) -> None:
    """Print a run's memory, item by item, and what it fits into: sizes in GB, common cards if there are none.

    Raises:
        ModelError, AdapterError: if the model's shapes cannot be told, or the adapter does not fit them.
    """
    from fedse.planning import fit, plan_of
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
    rows: list[Sequence[str | Text]] = []
    for phase in found.phases:
        rows += [("" if at else phase.name, item.label, _gigabytes(item.bytes)) for at, item in enumerate(phase.items)]
        rows.append([Text(cell, "bold") for cell in ("", "together", _gigabytes(phase.bytes))])
    if found.workers > 1:
        largest = ("", f"{found.workers} workers in their larger phase", _gigabytes(found.peak))
        rows.append([Text(cell, "bold") for cell in largest])
    console.print(made_table(("phase", "what", "memory"), rows, texts=["what"]))
    if found.host:
        console.print(f"The host needs {_gigabytes(found.host_peak)} beside Python and its libraries", markup=False)
    console.print("Not counted: Python, libraries and the CUDA context", markup=False)
    for size in memory or CARDS:
        verdict = fit(found, config, size)
        console.print(f"{size:g} GB: {'fits' if verdict.fits else 'does not fit'}", markup=False)
        for advice in verdict.advice:
            console.print(f"  → {advice}", markup=False)


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.2f} million"
