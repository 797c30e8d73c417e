"""The worklist with 10,000 studies, one of them of 500 series: a page, a filter, a search, a claim.

Rows as the worker writes them in SQLite; a real front that a browser's requests go to, with a
login; a real Orthanc that tells the names of the first page's patients. The fastest of several.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import sqlalchemy as sa
from pydicom import dcmread

from benchmarks.table import Row, machine, publish
from dicom.archive import Archive
from dicom.phantom import write_head_study
from dicom.uids import derived_uid
from pipelines.records import (
    AssessmentRow,
    DeliveryRow,
    JobRow,
    ResultRow,
    SeriesRow,
    StudyRow,
    TaskRow,
)
from pipelines.store import Database
from tests.browser.front import as_bytes
from tests.node.front import PASSWORD, make_front, migrated_database
from tests.node.serving import serving
from tests.orthanc import servers

STUDIES, SERIES_OF_ONE, NAMED = 10_000, 500, 25
TARGET_S = 0.2
TIMES = 9
SEG = "1.2.840.10008.5.1.4.1.1.66.4"
LARGE = "2.25.500"


def main() -> None:
    """Measure, and publish."""
    about = machine()
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        folder = Path(name)
        with (
            servers.running(servers.clinical_config(folder / "orthanc")) as (orthanc,),
            orthanc.archive() as archive,
        ):
            names = _name(archive, folder)
            database = migrated_database(folder / "radloop.db")
            _fill(database, names)
            front = make_front(folder, clinical=archive, database=database)
            started = time.perf_counter()
            front.parts.reading.worklist.look()
            first_s = time.perf_counter() - started
            with serving(front.app) as base, httpx.Client(base_url=base) as client:
                client.headers["Origin"] = base
                client.post("/login", data={"name": "rita", "password": PASSWORD})
                rows = _measured(client)
    rows.append(Row(f"all {STUDIES} studies become cases, once", "s", first_s))
    publish("worklist", rows, about)


def _measured(client: httpx.Client) -> list[Row]:
    def get(path: str) -> Callable[[], None]:
        return lambda: _seen(client.get(path))

    def post(path: str, **sent: object) -> Callable[[], None]:
        return lambda: _seen(client.post(path, **sent))  # type: ignore[arg-type]  # json or data

    case = f"/api/worklist/cases/{LARGE}"
    asked = (
        ("page of the list, 25 names live", get("/worklist")),
        ("its last page", get(f"/worklist?page={STUDIES // 25}")),
        ("page, by state and modality", get("/worklist?state=ready&modality=CT")),
        ("page, least certain first", get("/worklist?sort=uncertainty")),
        ("page, mine", get("/worklist?reader=rita")),
        ("search by description, API", get("/api/worklist?search=chest")),
        ("search by name, page", post("/worklist/search", data={"text": "phantom"})),
        ("100 cases, API", get("/api/worklist?limit=100")),
        ("next case by uncertainty", post("/api/worklist/next", json={"strategy": "uncertainty"})),
        ("claim", post(f"{case}/claim")),
        (f"case of {SERIES_OF_ONE} series, API", get(case)),
        (f"case of {SERIES_OF_ONE} series, panel", get(f"/fragments/worklist/{LARGE}")),
        (f"study of {SERIES_OF_ONE} series, API", get(f"/api/studies/{LARGE}")),
        ("page of the studies", get("/")),
    )
    return [
        Row(what, "s", seconds, target=f"<= {TARGET_S:g} s", met=seconds <= TARGET_S)
        for what, ask in asked
        for seconds in [_best(ask)]
    ]


def _best(ask: Callable[[], None]) -> float:
    found = []
    for _ in range(TIMES):
        started = time.perf_counter()
        ask()
        found.append(time.perf_counter() - started)
    return min(found)


def _seen(answer: httpx.Response) -> None:
    if answer.status_code != httpx.codes.OK:
        raise RuntimeError(f"{answer.request.url.path}: HTTP {answer.status_code}")


def _name(archive: Archive, folder: Path) -> list[str]:
    """Store studies of one slice, of different patients; return their Orthanc ids."""
    head = write_head_study(folder / "head", slices=2, size=32, plane="axial")
    ds = dcmread(head.series.instances[0].path)
    found = []
    for number in range(NAMED):
        ds.PatientID, ds.PatientName = f"P{number}", f"PHANTOM{number}^Paula"
        ds.StudyInstanceUID = derived_uid("study", str(number))
        ds.SeriesInstanceUID = derived_uid("series", str(number))
        ds.SOPInstanceUID = derived_uid("instance", str(number))
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        archive.store(as_bytes(ds))
        found.append(archive.lookup("studies", ds.StudyInstanceUID)[0])
    return found


def _fill(database: Database, names: list[str]) -> None:
    """Write what the worker writes: a result on nine of ten studies, a verdict on one of three."""
    now = datetime.now(UTC) - timedelta(days=30)
    tables: dict[type, list[dict[str, object]]] = {}

    def add(table: type, **values: object) -> None:
        tables.setdefault(table, []).append(values)

    for number in range(STUDIES):
        study = LARGE if number == NAMED else f"2.25.{1000 + number}"
        at = now + timedelta(seconds=number)
        orthanc_id = names[number] if number < NAMED else f"orthanc-{number}"
        kind, modality = (("MR HEAD", "MR"), ("CT CHEST", "CT"))[number % 2]
        add(StudyRow, id=study, orthanc_id=orthanc_id, received_at=at, description=kind)
        for n in range(SERIES_OF_ONE if study == LARGE else 2):
            add(
                SeriesRow,
                id=f"{study}.{n}",
                study_id=study,
                orthanc_id=f"s-{study}-{n}",
                modality=modality,
                state="complete",
                instance_count=100,
                changed_at=at,
                fingerprint="f",
                ours=False,
                facts={"description": kind},
            )
        job = {"study_id": study, "attempt": 1, "handed_over": True, "cancel_requested": False}
        add(
            JobRow,
            id=f"j{number}",
            state="completed",
            collect=False,
            created_at=at,
            ended_at=at,
            **job,
        )
        if number % 10 == 0:
            continue
        add(
            TaskRow,
            id=f"t{number}",
            job_id=f"j{number}",
            series_id=f"{study}.0",
            route="r",
            bundle="organs@1",
            bundle_sha256="0" * 64,
            outputs=["seg"],
            destinations=[],
            priority="routine",
            state="completed",
            progress=1.0,
            created_at=at,
            confidence={"Liver": {"probability": 0.9, "border_entropy": (number % 97) / 100}},
        )
        result = f"2.25.9{number}"
        add(
            ResultRow,
            id=result,
            task_id=f"t{number}",
            series_uid=f"{result}.1",
            sop_class_uid=SEG,
            summary={"Liver": 1500.0},
            created_at=at,
        )
        add(
            DeliveryRow,
            result_id=result,
            destination="archive",
            state="completed",
            attempts=1,
            delivered_at=at,
        )
        if number % 3 == 0:
            add(
                AssessmentRow,
                id=f"a{number}",
                study_id=study,
                result_id=result,
                verdict="accepted",
                author="rita",
                created_at=at,
            )
    with database.write() as session:
        for table, values in tables.items():
            session.execute(sa.insert(table), values)


if __name__ == "__main__":
    main()
