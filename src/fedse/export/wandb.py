"""The metrics of a run as one of Weights & Biases."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedse.export.logs import Log, Point, tag
from fedse.results.measures import Measurement
from fedse.results.reading import Run
from fedse.texts import command

if TYPE_CHECKING:
    import wandb

#: What W&B would take along by itself: output, code, the machine, its packages.
_SILENT = {
    "silent": True,
    "console": "off",
    "disable_git": True,
    "save_code": False,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}


class WandbLog(Log):
    """A run of W&B's: offline, unless ``WANDB_MODE`` says otherwise; the place is the folder for its files.

    A step is a round, and gets all its numbers at once when the round is complete: W&B takes no more for an earlier
    step.  A resumed run goes on in the same one.  Offline its files are written anew, since W&B cannot tell what is in
    them.
    """

    module, title = "wandb", "Weights & Biases"

    def __init__(self, folder: Path, place: str) -> None:
        super().__init__(folder, place)
        self._mode = os.environ.get("WANDB_MODE", "offline")
        self._offline = self._mode in ("offline", "dryrun")
        self._root = Path(place or os.environ.get("WANDB_DIR") or self.logs)
        self._run: wandb.Run | None = None

    def _ready(self, run: Run) -> Sequence[Measurement]:
        return [value for value in run.measurements if value.round < len(run.records)]

    def _begin(self, run: Run) -> set[Point]:
        self._root.mkdir(parents=True, exist_ok=True)
        for old in self._root.glob(f"wandb/offline-run-*-{self.key}") if self._offline else ():
            shutil.rmtree(old)
        self._run = started = self.library.init(
            id=self.key,
            resume=None if self._offline else "allow",  # offline it would be a warning
            reinit="create_new",  # beside a run that the caller's program may have
            allow_val_change=True,
            project=os.environ.get("WANDB_PROJECT", "fedse"),
            name=run.folder.resolve().name,
            config=run.config.model_dump(mode="json"),
            dir=str(self._root),
            mode=self._mode,
            settings=self.library.Settings(**_SILENT),
        )
        return {(tag(value), value.round) for value in run.measurements if value.round < started.starting_step}

    def _write(self, points: Mapping[Point, float]) -> None:
        assert self._run is not None
        for number in sorted({step for _, step in points}):
            row = {curve: value for (curve, step), value in points.items() if step == number}
            self._run.log(row, step=number)

    def _end(self, *, well: bool) -> None:
        assert self._run is not None
        self._run.finish(exit_code=0 if well else 1)

    @property
    def _where(self) -> str:
        return str(self._root)

    @property
    def look(self) -> str:
        """Sends the offline files to W&B; online the run's address."""
        if self._offline or self._run is None:
            return command("wandb sync", *self._root.glob(f"wandb/offline-run-*-{self.key}"))
        return str(self._run.url)
