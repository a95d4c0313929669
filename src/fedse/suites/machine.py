"""How many cells a machine does side by side, and what each of their processes gets of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from fedse.suites.cells import Cell

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def environments(cells: Sequence[Cell], jobs: int | None) -> list[Mapping[str, str]]:
    """Environment variables for each worker process of a suite.

    On a CPU a process uses one thread, however many processes there are: then no result depends on their number, and a
    small model gains little from a second thread.  On GPUs a process sees one of them.

    Args:
        cells: what there is to do.
        jobs: number of processes; by default one per core, or one per GPU.
    """
    devices = {cell.config.model.device for cell in cells}
    if any(device.startswith("cuda:") for device in devices):  # somebody has chosen
        return [{}] * min(len(cells), jobs or 1)
    gpus = _gpus() if devices - {"cpu"} else []
    count = min(len(cells), jobs or len(gpus) or _cores())
    if gpus:
        return [{_VISIBLE: gpus[number % len(gpus)]} for number in range(count)]
    return [{"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}] * count


def _gpus() -> list[str]:
    """What to call each GPU in the environment variable that says which may be used."""
    import torch  # seconds

    visible = os.environ.get(_VISIBLE)
    names = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return names if torch.cuda.is_available() else []


def _cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
