"""Curves in a real MLflow store."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom.errors import MissingPackage
from pipelines.learning.tracking import Tracker
from pipelines.store import EpochView, TrainingView
from tests.learning import small_plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EPOCHS = tuple(
    EpochView(n, 20 * n, 1 / n, 0.1 * n, {"1": 0.2 * n}, 0.01, 1.0, 0.1) for n in (1, 2, 3)
)


def a_training(*, epochs: tuple[EpochView, ...] = (), code: str | None = None) -> TrainingView:
    return TrainingView(
        id="5e7",
        name="liver",
        version="0.2.0",
        dataset="livers@3",
        task="segmentation",
        plan=small_plan().model_dump(mode="json"),
        graph=None,
        start_from=None,
        minutes=None,
        device="cpu",
        launcher="local",
        place="",
        at_once=True,
        rule=None,
        asked_by="anna",
        asked_at=NOW,
        state="in_progress",
        step="learning",
        attempt=1,
        cancel_requested=False,
        progress=0.5,
        used_s=1.0,
        started_at=NOW,
        ended_at=None,
        changed_at=NOW,
        error_code=code,
        error_message=None,
        candidate=None,
        epochs=epochs,
    )


def test_the_extra_is_asked_for_by_name_where_it_is_missing(monkeypatch):
    monkeypatch.setattr("pipelines.learning.tracking.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"radloop\[mlflow\]"):
        Tracker("file:///nowhere")


def test_a_curve_is_told_once_also_over_a_restart(tmp_path: Path, monkeypatch):
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.setenv(name, "")  # as where nobody has thought of it; undone afterwards
    uri = (tmp_path / "mlruns").as_uri()
    before = Tracker(uri)
    from mlflow import MlflowClient  # late, as in a worker: it reads the environment first
    from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY

    before.note(a_training(), EPOCHS[:2])
    before.close()
    after = Tracker(uri)
    after.note(a_training(), EPOCHS[:2])
    after.end(a_training(epochs=EPOCHS, code="training_diverged"))
    after.close()

    assert MLFLOW_DISABLE_TELEMETRY.get()  # what is learnt in a hospital is nobody else's business
    client = MlflowClient(tracking_uri=uri)
    known = client.get_experiment_by_name("radloop/liver")
    (run,) = client.search_runs([known.experiment_id])
    found = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")]
    assert found == [(20, 1.0), (40, 0.5), (60, 1 / 3)]
    assert run.info.status == "FAILED"
    assert run.data.params["patch"] == "[32, 32]"
    assert run.data.metrics["score_1"] == pytest.approx(0.6)
    assert "anna" not in str(run.to_dictionary())


def test_a_server_that_does_not_answer_stops_nothing(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracker = Tracker("http://127.0.0.1:9")
    tracker.note(a_training(), EPOCHS)
    tracker.end(a_training(epochs=EPOCHS))
    tracker.close()
