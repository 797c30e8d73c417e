"""Curves for an MLflow server that a site has already; an extra, loaded when a setting asks.

What is told: the plan, the curve, the name of the dataset. Nothing of a case. A
server that does not answer costs its entries, never the training: a thread of its own talks to it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import structlog

from dicom.errors import MissingPackage
from pipelines.store import EpochView, TrainingView

if TYPE_CHECKING:
    from mlflow import MlflowClient

log = structlog.get_logger()

_KEY: Final = "radloop.training"
_TOLD: Final = ("task", "dimensions", "patch", "batch", "loss", "rate", "steps", "seed")
_PATIENCE: Final = {  # MLflow's own would hold the end of the worker up for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}
_OURS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it tells its makers how it is used: not from here
    "MLFLOW_ALLOW_FILE_STORE": "true",  # it takes folders from those alone who say so
}
_LONGEST: Final = 500  # of a parameter's value, MLflow's


class Tracker:
    """What MLflow is told of trainings.

    Parameters
    ----------
    uri : str
        Of its server, or of a folder (``file:...``).

    Raises
    ------
    MissingPackage
        When the extra is not installed.
    """

    def __init__(self, uri: str) -> None:
        if find_spec("mlflow") is None:
            raise MissingPackage("training.mlflow is set: pip install 'radloop[mlflow]'")
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        os.environ.update(_OURS)  # read when MLflow is imported, which is later
        self._uri = uri
        self._thread = ThreadPoolExecutor(1, "mlflow")
        self._talk: Future[None] | None = None

    def note(self, training: TrainingView, epochs: Sequence[EpochView]) -> None:
        """Tell the curve so far; while the last word is still on its way, nothing."""
        if epochs and (self._talk is None or self._talk.done()):
            self._talk = self._thread.submit(self._tell, training, tuple(epochs), None)

    def end(self, training: TrainingView) -> None:
        """Tell the whole curve, and how the training ended."""
        failed = "KILLED" if training.error_code == "canceled" else "FAILED"
        status = "FINISHED" if training.error_code is None else failed
        self._talk = self._thread.submit(self._tell, training, training.epochs, status)

    def close(self) -> None:
        """Wait until everything is told."""
        self._thread.shutdown()

    def _tell(
        self, training: TrainingView, epochs: Sequence[EpochView], status: str | None
    ) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric
        from mlflow.exceptions import MlflowException

        try:
            client = MlflowClient(tracking_uri=self._uri)
            run = _run_of(client, training)
            known = client.get_metric_history(run, "loss")
            told = max((one.step for one in known), default=-1)
            found = [
                Metric(name, value, round(training.changed_at.timestamp() * 1000), epoch.step)
                for epoch in epochs
                if epoch.step > told
                for name, value in _figures(epoch).items()
            ]
            for first in range(0, len(found), 1000):
                client.log_batch(run, metrics=found[first : first + 1000])
            if status is not None:
                client.set_terminated(run, status)
        except (MlflowException, OSError) as error:  # requests' errors are OSErrors
            log.warning("mlflow_not_told", error=type(error).__name__)


def _run_of(client: MlflowClient, training: TrainingView) -> str:
    """Return the training's run; one that was begun before a restart is gone on with."""
    name = f"radloop/{training.name}"
    known = client.get_experiment_by_name(name)
    experiment = client.create_experiment(name) if known is None else known.experiment_id
    found = client.search_runs([experiment], f"tags.`{_KEY}` = '{training.id}'", max_results=1)
    if found:
        return str(found[0].info.run_id)
    tags = {_KEY: training.id, "radloop.dataset": training.dataset}
    made = client.create_run(experiment, tags=tags, run_name=training.bundle)
    for key in _TOLD:
        client.log_param(made.info.run_id, key, str(training.plan.get(key))[:_LONGEST])
    return str(made.info.run_id)


def _figures(epoch: EpochView) -> dict[str, float]:
    classes = {f"score_{number}": float(score) for number, score in epoch.classes.items()}
    return {"loss": epoch.loss, "score": epoch.score, "rate": epoch.rate, **classes}
