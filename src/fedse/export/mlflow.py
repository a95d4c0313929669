"""The metrics of a run as one of MLflow's."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedse.addresses import without_credentials
from fedse.export.logs import Log, Point, plain
from fedse.results.reading import Run
from fedse.runs.identity import flat
from fedse.texts import command

if TYPE_CHECKING:
    from mlflow import MlflowClient

_TAG = "fedse.run"
#: Nothing about the user goes to MLflow's makers, and a server that is away does not hold up a run for long.
_MANNERS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
#: MLflow refuses larger requests.
_METRICS, _PARAMS = 1000, 100


class MlflowLog(Log):
    """A run of MLflow's: in the store that the place names, or ``MLFLOW_TRACKING_URI``, or else in the run's folder.

    A resumed run goes on in the same one.
    """

    module, title = "mlflow", "MLflow"

    def __init__(self, folder: Path, place: str) -> None:
        for name, value in _MANNERS.items():
            os.environ.setdefault(name, value)
        super().__init__(folder, place)
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self._client: MlflowClient
        self._run = ""

    def _begin(self, run: Run) -> set[Point]:
        if not (self.place or os.environ.get("MLFLOW_TRACKING_URI")):
            self.logs.mkdir(parents=True, exist_ok=True)
        self._client = client = self.library.MlflowClient(tracking_uri=self._where)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fedse")
        experiment = client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else client.create_experiment(name)
        there = client.search_runs([number], f"tags.`{_TAG}` = '{self.key}'")
        name = run.folder.resolve().name
        found = there[0] if there else client.create_run(number, run_name=name, tags={_TAG: self.key})
        self._run = found.info.run_id
        client.update_run(self._run, status="RUNNING")
        if not found.data.params:
            settings = flat(run.config.model_dump(mode="json")).items()
            params = [self.library.entities.Param(plain(key), str(value)) for key, value in settings]
            for some in _parts(params, _PARAMS):
                client.log_batch(self._run, params=some)
        return {
            (curve, old.step) for curve in found.data.metrics for old in client.get_metric_history(self._run, curve)
        }

    def _write(self, points: Mapping[Point, float]) -> None:
        now = int(time.time() * 1000)
        metric = self.library.entities.Metric
        for some in _parts([metric(curve, value, now, step) for (curve, step), value in points.items()], _METRICS):
            self._client.log_batch(self._run, metrics=some)

    def _end(self, *, well: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if well else "FAILED")

    @property
    def _where(self) -> str:
        given = self.place or os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"sqlite:///{self.logs.resolve() / 'mlflow.db'}"

    @property
    def look(self) -> str:
        """Needs the whole MLflow; the extra installs the part that writes."""
        return command("mlflow ui --backend-store-uri", without_credentials(self._where))


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[at : at + size] for at in range(0, len(items), size))
