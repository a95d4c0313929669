"""``fedse doctor``: is this machine ready, and if not, what is to be done?"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

from rich.text import Text
from typer import Exit

from fedse.cli.console import examples, stdout
from fedse.errors import FedseError
from fedse.results.formatting import size
from fedse.storage import check_cache

EXAMPLES = examples("fedse doctor")

_GIB = 2**30


class Level(StrEnum):
    """How a finding is to be taken: WARN works but could be better; FAIL must be mended."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report: a level, what was looked at, what was found, and what to do about it."""

    level: Level
    topic: str
    found: str
    mend: str = ""


def doctor() -> None:
    """Check Python, libraries, processor, memory, disk, base model and environments, and say how to mend them."""
    failed = 0
    for check in CHECKS:
        for finding in _findings(check):
            level = (f"{finding.level:<6}", _STYLES[finding.level])
            stdout.print(Text.assemble(level, f"{finding.topic:<14}{finding.found}"))
            if finding.mend:
                stdout.print(Text(f"{'':20}→ {finding.mend}", style="dim"))
            failed += finding.level is Level.FAIL
    if failed:
        raise Exit(1)


def _findings(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except FedseError as error:  # one check that cannot be made must not hide the others
        yield Finding(Level.FAIL, check.__name__, error.what, error.mend)


def python() -> Iterator[Finding]:
    """The interpreter and the package itself."""
    yield Finding(Level.OK, "fedse", metadata.version("fedse"))
    yield Finding(Level.OK, "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def requirements() -> Iterator[Finding]:
    """Every library that fedse needs, in a version that it accepts."""
    from packaging.requirements import Requirement

    named = map(Requirement, metadata.requires("fedse") or [])
    wanted = [requirement for requirement in named if requirement.marker is None or requirement.marker.evaluate()]
    problems = []
    for requirement in wanted:
        try:
            found = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            problems.append(f"{requirement.name} is {found}, needs {requirement.specifier}")
    if problems:
        yield Finding(Level.FAIL, "libraries", "; ".join(problems), "install fedse anew: pip install -e .")
        return
    shown = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "transformers", "peft"))
    yield Finding(Level.OK, "libraries", f"all {len(wanted)} requirements are met; {shown}")


def hardware() -> Iterator[Finding]:
    """What computes, and in which dtype."""
    import torch

    from fedse.models.base import cpu_flags, has_fast_bfloat16

    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            yield Finding(Level.OK, "device", f"cuda:{index} {gpu.name}, {size(gpu.total_memory)}; {build}")
    else:
        features = sorted(cpu_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_bf16", "bf16", "asimd"})
        yield Finding(Level.OK, "device", f"cpu, {build}; features: {', '.join(features) or 'unknown'}")
    fast = has_fast_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    native = "bfloat16 (the hardware multiplies it natively)"
    yield Finding(Level.OK, "dtype", native if fast else "float32 (this hardware does not multiply bfloat16 natively)")


def threads() -> Iterator[Finding]:
    """Whether PyTorch uses the processor's cores."""
    import torch

    cores, used = os.cpu_count() or 1, torch.get_num_threads()
    limit = os.environ.get("OMP_NUM_THREADS")
    few = used * 2 < cores
    mend = f"OMP_NUM_THREADS is {limit}: unset it" if limit else f"set OMP_NUM_THREADS={cores}"
    yield Finding(Level.WARN if few else Level.OK, "threads", f"{used} of {cores} logical cores", mend if few else "")


def memory() -> Iterator[Finding]:
    """Enough for the default model with a batch of episodes and its training."""
    import psutil

    available = psutil.virtual_memory().available
    scarce = available < 3 * _GIB
    mend = "close other programs, or lower rollout.slots and training.max_tokens" if scarce else ""
    yield Finding(Level.WARN if scarce else Level.OK, "memory", f"{size(available)} available", mend)


def disk() -> Iterator[Finding]:
    """Room where models are kept and where runs are written."""
    from fedse.models.catalogue import models_folder

    here = Path.cwd()
    if os.access(here, os.W_OK):
        yield _room("here", here, here)
    else:
        yield Finding(Level.FAIL, "here", f"{here} is not writable", "choose another folder, or mend its mode")
    folder = models_folder()
    yield _room("model folder", folder, check_cache(folder))


def _room(topic: str, folder: Path, existing: Path) -> Finding:
    free = shutil.disk_usage(existing).free
    found = f"{size(free)} free at {folder}"
    if free < _GIB:
        return Finding(Level.WARN, topic, found, "free some space: a run with its adapters can take hundreds of MiB")
    return Finding(Level.OK, topic, found)


def models() -> Iterator[Finding]:
    """Whether the base models of the catalogue have been fetched, and which were imported."""
    from fedse.models.catalogue import installed

    for info in installed():
        if info.installed:
            yield Finding(Level.OK, "model", f"{info.name}: {size(info.bytes)} at {info.folder}")
        else:
            yield Finding(Level.WARN, "model", f"{info.name} is not on this machine", f"fedse model pull {info.name}")


def environments() -> Iterator[Finding]:
    """Whether every registered environment can be imported and made."""
    from fedse.environments import environment_class, environment_names

    working = []
    for name in environment_names():
        try:
            environment_class(name)
        except FedseError as error:
            yield Finding(Level.FAIL, "environment", f"{name}: {error.what}", error.mend)
        else:
            working.append(name)
    yield Finding(Level.OK, "environments", ", ".join(working))


#: The checks in the order of the report.
CHECKS = (python, requirements, hardware, threads, memory, disk, models, environments)
