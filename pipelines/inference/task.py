"""The steps of a task: what the model says, written as DICOM, looked at, stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog
from pydicom import dcmread

from dicom.errors import ChangedBundle, PeerRefused
from dicom.gate import check_voxels
from dicom.relink import relink
from dicom.seg import Form
from models.bundle import Bundle
from models.prediction import Answer
from models.region import Region, cut, put_back
from models.sources import Case, read_case
from pipelines.foresight import Foreseen
from pipelines.inference.house import ARCHIVE, House, noted, shown
from pipelines.outputs import Made, outputs_for
from pipelines.results import check_results, confidence_by_label, encode_all, source_of
from pipelines.store import TaskView

log = structlog.get_logger()

_FIRST_SERIES_NUMBER = 9001  # beyond what scanners count to


class TaskSteps:
    """Predict, encode, deliver; each may run twice.

    Parameters
    ----------
    house : House
        What they work with.
    """

    def __init__(self, house: House) -> None:
        self._house = house
        self._answers: dict[str, Answer] = {}  # between two steps of a task; kept on disk as well

    def forget(self, task_id: str) -> None:
        """Let go of what a task that failed has left."""
        self._answers.pop(task_id, None)

    def predict(self, task: TaskView) -> None:
        """Find out what the model says of the series, ahead of the job or now; keep its answer."""
        bundle = self._house.registry.get(task.bundle)
        workspace = self._house.workspace(task.job_id)
        ahead = self._is_foreseen(task)
        with shown(self._house, task.job_id, "volume", task.id):
            case = None if ahead else self._case(task, bundle)
        with shown(self._house, task.job_id, "predict", task.id):
            found = self._foreseen(task, bundle) if ahead else None
            if found is None:
                found = self._predicted(task, bundle, case or self._case(task, bundle))
            if found.prediction.bundle_sha256 != bundle.sha256:
                raise ChangedBundle(f"{bundle.identity} was changed since the node started")
            log.info(
                "predicted",
                task=task.id,
                bundle=bundle.identity,
                device=found.prediction.device,
                seconds=round(found.prediction.forward_s, 3),
                reason=found.prediction.run_by,
            )
            workspace.keep_measured(task.id, found.measured)
            workspace.keep_answer(task.id, found.prediction.answer)
            self._answers[task.id] = found.prediction.answer
            self._house.jobs.keep_prediction(
                task.id,
                forward_s=found.prediction.forward_s,
                device=found.prediction.device,
                confidence=confidence_by_label(bundle, found.prediction.confidence),
                greys=found.greys,
            )

    def _is_foreseen(self, task: TaskView) -> bool:
        """Return whether the model was shown this series, all of it, while the quiet time ran."""
        whole = self._house.asked.run_of(task.job_id) is None
        return whole and self._house.groundwork.foresees(task.series_id)

    def _foreseen(self, task: TaskView, bundle: Bundle) -> Foreseen | None:
        return self._house.groundwork.foreseen(
            task.series_id, bundle, canceled=self._house.is_canceled(task.job_id)
        )

    def _case(self, task: TaskView, bundle: Bundle) -> Case:
        """Make volumes of the series that the model needs."""
        study = self._house.study(task.job_id)
        case = read_case(bundle, study, study.series_of(task.series_id))
        if case.volume is not None:
            check_voxels(case.volume)
        return case

    def _predicted(self, task: TaskView, bundle: Bundle, case: Case) -> Foreseen:
        """Run the model on the images, or on the part of them that a person asked about."""
        first = bundle.inputs[0].name
        region = self._region(task, case)
        images = case.images
        if region is not None:
            images = {**images, first: cut(images[first], region)}
        prediction = self._house.predictor.predict_images(
            bundle.identity,
            images,
            progress=self._progress(task.id),
            canceled=self._house.is_canceled(task.job_id),
        )
        if region is not None:
            whole = put_back(prediction.answer, region, case.images[first])
            prediction = replace(prediction, answer=whole)
        series = self._house.study(task.job_id).series_of(task.series_id)
        return Foreseen.of(prediction, bundle, case, series)

    def _region(self, task: TaskView, case: Case) -> Region | None:
        """Return the part of the series that a person asked about; None: all of it."""
        asked = self._house.asked.run_of(task.job_id)
        if asked is None or asked.region is None:
            return None
        region = Region(*asked.region)
        tilted = case.volume is not None and case.volume.shear is not None
        return region.along_rows() if tilted else region

    def encode(self, task: TaskView) -> list[str]:
        """Write the answer as DICOM, point it back at the original study, see that it lies right.

        Returns
        -------
        list of str
            SOP Instance UIDs of the results, in the order in which they are stored.
        """
        bundle = self._house.registry.get(task.bundle)
        workspace = self._house.workspace(task.job_id)
        study = self._house.study(task.job_id)
        answer = self._answers.pop(task.id, None) or workspace.answer(task.id)
        made = Made(
            answer=answer,
            source=source_of(study.series_of(task.series_id), bundle, answer),
            bundle=bundle,
            key=task.id,
            series_number=self._series_number(task),
            created=task.created_at.astimezone(),  # DICOM times are local (PS3.3 C.12.1)
            form=self._form(task.route),
            measured=workspace.measured(task.id),
        )
        with shown(self._house, task.job_id, "encode", task.id):
            encoded = encode_all(task.outputs or outputs_for(bundle), made)
        with shown(self._house, task.job_id, "relink", task.id):
            identity = self._house.vault.unseal(
                study.study_uid, actor="worker", reason=f"relink the result of task {task.id}"
            )
            beside = frozenset(
                uid
                for each in encoded.values()
                for uid in (str(each.ds.SOPInstanceUID), str(each.ds.SeriesInstanceUID))
            )
            for name, each in encoded.items():
                result = relink(each.ds, identity, beside=beside)
                result.save_as(workspace.result_path(task.id, name), enforce_file_format=True)
        with shown(self._house, task.job_id, "gate", task.id):
            paths = {name: workspace.result_path(task.id, name) for name in encoded}
            check_results(paths, made, identity)
        for each in encoded.values():
            self._house.jobs.keep_result(
                task.id,
                sop_instance_uid=each.ds.SOPInstanceUID,
                series_uid=each.ds.SeriesInstanceUID,
                sop_class_uid=each.ds.SOPClassUID,
                summary=each.summary,
                destinations=(ARCHIVE, *task.destinations),
            )
        workspace.keep_results(task.id, {str(e.ds.SOPInstanceUID): n for n, e in encoded.items()})
        return [str(each.ds.SOPInstanceUID) for each in encoded.values()]

    def _form(self, route: str) -> Form:
        """Return how the route of a task wants its segmentation; one that is gone, no matter."""
        wanted = (r.segmentation_type for r in self._house.routes if r.name == route)
        return Form(next(wanted, "auto"))

    def _series_number(self, task: TaskView) -> int:
        tasks = [other.id for other in self._house.jobs.job(task.job_id).tasks]
        return _FIRST_SERIES_NUMBER + tasks.index(task.id)

    def deliver(self, task: TaskView, results: Sequence[str]) -> None:
        """Store the results on the clinical study in their order, and see that they are there."""
        workspace = self._house.workspace(task.job_id)
        with shown(self._house, task.job_id, "deliver", task.id):
            for result_id in results:
                with noted(self._house, result_id, ARCHIVE):
                    self._house.clinical_web.store([dcmread(workspace.result(task.id, result_id))])
                    if not self._house.clinical.holds(result_id):
                        raise PeerRefused("the archive took the result, and does not hold it")

    def _progress(self, task_id: str) -> Callable[[float], None]:
        """Return a callback that writes progress down, twice a second at most."""
        last = 0.0

        def report(fraction: float) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= 0.5:
                last = now
                self._house.jobs.report_progress(task_id, fraction)

        return report
