"""Rounds: a case that several read alone, what each of them answered, and who settled it.

While a round is open, what one of its readers drew or said since it began is that reader's alone to
see (:meth:`Rounds.unseen_by`). Everything that shows people's work to people asks here first.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from dicom.errors import Conflict, NotAllowed, NotFound
from pipelines.records import (
    AssessmentRow,
    CaseRow,
    CorrectionRow,
    ReadingRow,
    ResultRow,
    RoundRow,
    TaskRow,
)
from pipelines.store.database import Database

RoundState = Literal["open", "read", "settled"]
"""Some readers have not done yet; all have; somebody said what counts."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One reader's part: `answer_id` is the result that was accepted, or the correction."""

    reader: str
    done_at: datetime | None
    verdict: str | None
    answer_id: str | None


@dataclass(frozen=True, slots=True)
class RoundView:
    """A round; `answer_id` is what counts in the end, None where the case has no right result."""

    id: str
    case_id: str
    study_id: str
    series_id: str | None
    state: RoundState
    opened_by: str
    opened_at: datetime
    read_at: datetime | None
    adjudicator: str | None
    settled_by: str | None
    settled_at: datetime | None
    answer_id: str | None
    agreement: Mapping[str, Any] | None
    measured_at: datetime | None
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Unseen:
    """What a person may not see yet: whose work, on which study, since when.

    Attributes
    ----------
    since : mapping
        By study and author.
    """

    since: Mapping[tuple[str, str], datetime] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.since)

    def covers(self, study_id: str, author: str, at: datetime) -> bool:
        """Whether work of that person at that time is hidden."""
        since = self.since.get((study_id, author))
        return since is not None and at >= since

    def concerns(self, study_id: str) -> bool:
        """Whether anything on that study may be hidden."""
        return any(study == study_id for study, _author in self.since)


class Rounds:
    """The rounds of reading.

    Parameters
    ----------
    clock : callable
        The time, with its zone.
    """

    def __init__(
        self, database: Database, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._database = database
        self._clock = clock

    # --- what is hidden -------------------------------------------------------------------------

    def unseen_by(self, user: str) -> Unseen:
        """Return what that person may not see yet, of all open rounds."""
        query = (
            sa.select(RoundRow.study_id, ReadingRow.reader, RoundRow.opened_at)
            .join(ReadingRow, ReadingRow.round_id == RoundRow.id)
            .where(RoundRow.state == "open", ReadingRow.reader != user)
        )
        since: dict[tuple[str, str], datetime] = {}
        with self._database.read() as session:
            for study, reader, opened_at in session.execute(query):
                known = since.get((study, reader))
                since[study, reader] = min(known, opened_at) if known else opened_at
        return Unseen(since)

    def hidden_series(self, unseen: Unseen) -> frozenset[str]:
        """Return the SeriesInstanceUIDs of the corrections that are hidden."""
        if not unseen:
            return frozenset()
        studies = {study for study, _author in unseen.since}
        query = sa.select(
            CorrectionRow.study_id,
            CorrectionRow.author,
            CorrectionRow.created_at,
            CorrectionRow.series_uid,
        ).where(CorrectionRow.study_id.in_(studies))
        with self._database.read() as session:
            return frozenset(
                row.series_uid
                for row in session.execute(query)
                if unseen.covers(row.study_id, row.author, row.created_at)
            )

    # --- the course of a round ------------------------------------------------------------------

    def open(
        self, case_id: str, readers: Sequence[str], *, by: str, adjudicator: str | None = None
    ) -> RoundView:
        """Begin a round: from now on its readers' work is hidden from all others.

        Raises
        ------
        NotFound
            When there is no such case.
        Conflict
            When it has an unsettled round, somebody holds it who is no reader of the round, there
            are fewer than two readers, or one of them is to settle it.
        """
        names = sorted(set(readers))
        if len(names) < 2:
            raise Conflict("a round needs two readers or more")
        if adjudicator in names:
            raise Conflict("who settles a round cannot be one of its readers")
        now = self._clock()
        with self._database.write() as session:
            case = session.get(CaseRow, case_id, with_for_update=True)
            if case is None:
                raise NotFound("no such case")
            unsettled = sa.select(RoundRow.id).where(
                RoundRow.case_id == case_id, RoundRow.state != "settled"
            )
            if session.scalar(unsettled.limit(1)) is not None:
                raise Conflict("this case has a round that is not settled yet")
            held = case.lease_until is not None and case.lease_until > now
            if case.holder is not None and held and case.holder not in names:
                raise Conflict(f"{case.holder} holds this case, and is none of the readers")
            row = RoundRow(
                id=secrets.token_hex(12),
                case_id=case_id,
                study_id=case.study_id,
                state="open",
                opened_by=by,
                opened_at=now,
                adjudicator=adjudicator,
            )
            session.add(row)
            session.flush()
            session.add_all(ReadingRow(round_id=row.id, reader=name) for name in names)
            case.assigned_to, case.changed_at = None, now
            session.flush()
            return _view(session, row)

    def finish(self, case_id: str, reader: str) -> RoundView:
        """Note that a reader has done: their newest correction, or what they said, is the answer.

        The last one lifts the veil. When all accepted the same result, it is settled by that.

        Raises
        ------
        NotFound
            When no round of this case is open.
        Conflict
            When this reader has neither drawn nor said anything yet, or has done already.
        NotAllowed
            When the reader is none of the round's.
        """
        now = self._clock()
        with self._database.write() as session:
            case = session.get(CaseRow, case_id, with_for_update=True)
            row = session.scalar(_open_round(case_id).with_for_update())
            if case is None or row is None:
                raise NotFound("no round of this case is open")
            reading = session.get(ReadingRow, (row.id, reader))
            if reading is None:
                raise NotAllowed("you are none of the readers of this round")
            if reading.done_at is not None:
                raise Conflict("you have done your reading already")
            answer = _answer(session, row, case.series_id, reader)
            if answer is None:
                raise Conflict("accept, reject or correct a result first; then the reading is done")
            reading.verdict, reading.answer_id, reading.done_at = *answer, now
            if case.holder == reader:  # looks like letting go of it: of the answer nothing is told
                case.holder = case.lease_until = None
                case.changed_at = now
            session.flush()
            _close_if_read(session, row, now)
            return _view(session, row)

    def withdraw(self, round_id: str, reader: str, *, by: str, is_admin: bool = False) -> RoundView:
        """Go on without a reader who has not done: somebody fell ill. Two have to remain.

        Raises
        ------
        NotFound
        NotAllowed
            When `by` is neither that reader, nor who opened the round or an administrator; or
            reads in it: whether another has done is hidden from a reader.
        Conflict
            When it is not open, the reader has done, or fewer than two would remain.
        """
        now = self._clock()
        with self._database.write() as session:
            row = _round(session, round_id)
            if by != reader:
                _check_leads(session, row, by, is_admin=is_admin)
            reading = session.get(ReadingRow, (round_id, reader))
            if row.state != "open" or reading is None or reading.done_at is not None:
                raise Conflict("that reader has nothing open in this round")
            if len(_readings(session, [round_id])[round_id]) <= 2:
                raise Conflict("a round needs two readers or more")
            session.delete(reading)
            session.flush()
            _close_if_read(session, row, now)
            return _view(session, row)

    def cancel(self, round_id: str, *, by: str, is_admin: bool = False) -> RoundView:
        """Give a round up while it is open: what was drawn stays, and is everybody's to see.

        Raises
        ------
        NotFound
        NotAllowed
            When `by` neither opened it nor is an administrator, or is one of its readers.
        Conflict
            When it is not open.
        """
        now = self._clock()
        with self._database.write() as session:
            row = _round(session, round_id)
            if row.state != "open":
                raise Conflict("only an open round can be given up")
            _check_leads(session, row, by, is_admin=is_admin)
            row.state, row.settled_at, row.read_at = "settled", now, now
            _touch(session, row.case_id, now)
            session.flush()
            return _view(session, row)

    def settle(self, round_id: str, *, by: str, answer_id: str | None) -> RoundView:
        """Say what counts: one reader's answer, one's own correction, or nothing.

        Raises
        ------
        NotFound
        NotAllowed
            When it is somebody else's to settle, or `by` is one of the readers.
        Conflict
            When it is not read by all yet, is settled, or the answer is none of this case's.
        """
        now = self._clock()
        with self._database.write() as session:
            row = _round(session, round_id)
            readings = _readings(session, [round_id])[round_id]
            if row.state != "read":
                raise Conflict("this round is not one that waits to be settled")
            if row.adjudicator not in (None, by):
                raise NotAllowed(f"{row.adjudicator} is to settle this round")
            if by in {one.reader for one in readings}:
                raise NotAllowed("a reader of the round does not settle it")
            if answer_id is not None and answer_id not in {one.answer_id for one in readings}:
                own = session.get(CorrectionRow, answer_id)
                if own is None or own.study_id != row.study_id or own.author != by:
                    raise Conflict("that is no answer of this round, nor a correction of yours")
            row.state, row.settled_by, row.settled_at = "settled", by, now
            row.answer_id = answer_id
            _touch(session, row.case_id, now)
            session.flush()
            return _view(session, row)

    # --- looking --------------------------------------------------------------------------------

    def round(self, round_id: str) -> RoundView:
        """Return one round.

        Raises
        ------
        NotFound
        """
        with self._database.read() as session:
            return _view(session, _round(session, round_id))

    def of_case(self, case_id: str) -> list[RoundView]:
        """Return the rounds of a case, the newest first."""
        query = sa.select(RoundRow).where(RoundRow.case_id == case_id)
        with self._database.read() as session:
            rows = list(session.scalars(query.order_by(RoundRow.opened_at.desc())))
            return _views(session, rows)

    def series_of_result(self, result_id: str) -> str:
        """Return the series that a model's result was made of.

        Raises
        ------
        NotFound
        """
        query = sa.select(TaskRow.series_id).join(ResultRow, ResultRow.task_id == TaskRow.id)
        with self._database.read() as session:
            found = session.scalar(query.where(ResultRow.id == result_id))
        if found is None:
            raise NotFound("no such result")
        return found

    def unmeasured(self) -> list[str]:
        """Return the rounds that were read by all, and whose agreement nobody measured yet."""
        query = sa.select(RoundRow.id).where(
            RoundRow.read_at.is_not(None), RoundRow.measured_at.is_(None)
        )
        with self._database.read() as session:
            return list(session.scalars(query.order_by(RoundRow.read_at)))

    def keep_agreement(self, round_id: str, agreement: Mapping[str, Any] | None) -> None:
        """Keep how far the answers agree; None where there is nothing to compare."""
        now = self._clock()
        with self._database.write() as session:
            row = _round(session, round_id)
            row.agreement = dict(agreement) if agreement else None
            row.measured_at = now
            _touch(session, row.case_id, now)


def _check_leads(session: Session, row: RoundRow, by: str, *, is_admin: bool) -> None:
    """Make sure that somebody may end a round, or a part of it, before it is read."""
    reads = session.get(ReadingRow, (row.id, by)) is not None
    if reads or not (is_admin or by == row.opened_by):
        raise NotAllowed("who opened a round, or an administrator, does that; none of its readers")


def _close_if_read(session: Session, row: RoundRow, now: datetime) -> None:
    readings = _readings(session, [row.id])[row.id]
    if any(one.done_at is None for one in readings):
        return
    row.state, row.read_at = "read", now
    answers = {(one.verdict, one.answer_id) for one in readings}
    if len(answers) == 1 and readings[0].verdict == "accepted":
        row.state, row.settled_at, row.answer_id = "settled", now, readings[0].answer_id
    _touch(session, row.case_id, now)


def _answer(
    session: Session, row: RoundRow, series_id: str | None, reader: str
) -> tuple[str, str | None] | None:
    """Return a reader's verdict and answer in a round: the last thing that they did."""
    drawn = sa.select(CorrectionRow).where(
        CorrectionRow.study_id == row.study_id,
        CorrectionRow.author == reader,
        CorrectionRow.state == "stored",
        CorrectionRow.created_at >= row.opened_at,
    )
    if series_id is not None:
        drawn = drawn.where(CorrectionRow.series_id == series_id)
    last = session.scalar(drawn.order_by(CorrectionRow.created_at.desc()).limit(1))
    said = session.scalar(
        sa.select(AssessmentRow)
        .where(
            AssessmentRow.study_id == row.study_id,
            AssessmentRow.author == reader,
            AssessmentRow.verdict != "modified",  # a correction notes that by itself
            AssessmentRow.created_at >= row.opened_at,
        )
        .order_by(AssessmentRow.created_at.desc())
        .limit(1)
    )
    if said is not None and (last is None or said.created_at > last.created_at):
        return said.verdict, said.result_id if said.verdict == "accepted" else None
    return ("modified", last.id) if last is not None else None


def _open_round(case_id: str) -> sa.Select[RoundRow]:
    return sa.select(RoundRow).where(RoundRow.case_id == case_id, RoundRow.state == "open")


def _round(session: Session, round_id: str) -> RoundRow:
    row = session.get(RoundRow, round_id, with_for_update=True)
    if row is None:
        raise NotFound("no such round")
    return row


def _touch(session: Session, case_id: str, now: datetime) -> None:
    session.execute(sa.update(CaseRow).where(CaseRow.id == case_id).values(changed_at=now))


def _readings(session: Session, round_ids: Sequence[str]) -> dict[str, list[Reading]]:
    found: dict[str, list[Reading]] = defaultdict(list)
    query = sa.select(ReadingRow).where(ReadingRow.round_id.in_(round_ids))
    for row in session.scalars(query.order_by(ReadingRow.reader)):
        reading = Reading(row.reader, row.done_at, row.verdict, row.answer_id)
        found[row.round_id].append(reading)
    return found


def _view(session: Session, row: RoundRow) -> RoundView:
    return _views(session, [row])[0]


def _views(session: Session, rows: Sequence[RoundRow]) -> list[RoundView]:
    readings = _readings(session, [row.id for row in rows])
    series = {
        case.id: case.series_id
        for case in session.execute(
            sa.select(CaseRow.id, CaseRow.series_id).where(
                CaseRow.id.in_({row.case_id for row in rows})
            )
        )
    }
    return [
        RoundView(
            id=row.id,
            case_id=row.case_id,
            study_id=row.study_id,
            series_id=series[row.case_id],
            state=row.state,  # type: ignore[arg-type]  # this file alone writes it
            opened_by=row.opened_by,
            opened_at=row.opened_at,
            read_at=row.read_at,
            adjudicator=row.adjudicator,
            settled_by=row.settled_by,
            settled_at=row.settled_at,
            answer_id=row.answer_id,
            agreement=row.agreement,
            measured_at=row.measured_at,
            readings=tuple(readings[row.id]),
        )
        for row in rows
    ]
