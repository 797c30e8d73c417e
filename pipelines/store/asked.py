"""Runs that people ask for: a job about one series, whatever the routes say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from pipelines.records import AskedRunRow, JobRow
from pipelines.store.database import Database
from pipelines.store.opening import open_job


@dataclass(frozen=True, slots=True)
class AskedRun:
    """One model on one series; `region` is the first and the last voxel, each (k, j, i)."""

    job_id: str
    series_id: str
    bundle: str
    region: tuple[tuple[int, int, int], tuple[int, int, int]] | None
    asked_by: str


class AskedRuns:
    """The rows of runs that people asked for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, run: AskedRun, *, study_id: str, content: Mapping[str, str]) -> bool:
        """Write the job of a run; False when that very run was asked for before.

        Parameters
        ----------
        content : Mapping
            Fingerprint of each series that the job fetches.
        """
        with self._database.write() as session:
            if session.get(JobRow, run.job_id) is not None:
                return False
            open_job(session, run.job_id, study_id=study_id, content=content)
            first, last = run.region or (None, None)
            session.add(
                AskedRunRow(
                    job_id=run.job_id,
                    series_id=run.series_id,
                    bundle=run.bundle,
                    region=None if first is None else {"first": first, "last": last},
                    asked_by=run.asked_by,
                )
            )
            return True

    def run_of(self, job_id: str) -> AskedRun | None:
        """Return what a job was asked to do; None for one that the routes decide on."""
        with self._database.read() as session:
            row = session.get(AskedRunRow, job_id)
            return _view(row) if row else None

    def runs_of(self, study_id: str) -> dict[str, AskedRun]:
        """Return the runs that people asked for on a study, by job."""
        query = (
            sa.select(AskedRunRow)
            .join(JobRow, JobRow.id == AskedRunRow.job_id)
            .where(JobRow.study_id == study_id)
        )
        with self._database.read() as session:
            return {row.job_id: _view(row) for row in session.scalars(query)}


def _view(row: AskedRunRow) -> AskedRun:
    region = None
    if row.region is not None:
        region = _voxel(row.region["first"]), _voxel(row.region["last"])
    return AskedRun(row.job_id, row.series_id, row.bundle, region, row.asked_by)


def _voxel(numbers: Any) -> tuple[int, int, int]:  # noqa: ANN401 - as JSON gives it back
    k, j, i = numbers
    return int(k), int(j), int(i)
