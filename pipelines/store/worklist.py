"""The worklist: cases in an order, who holds which, and which one is next.

A claim is a lease: one conditional UPDATE, which SQLite and PostgreSQL carry out for one reader
after the other, so that two never hold the same case. It ends by itself when nobody renews it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa

from dicom.errors import Conflict, NotFound
from pipelines.records import CaseRow, SeriesRow, WorklistLookRow
from pipelines.store.case_queries import around_of, conditions, may_hold, order_of, waits_for
from pipelines.store.case_views import (
    PRIORITIES,
    CaseView,
    Chosen,
    Priority,
    Shown,
    Sort,
    Strategy,
    WantedCases,
    case_view,
)
from pipelines.store.database import Database
from pipelines.store.keeping_up import Told, insert_cases, told, touched
from pipelines.store.standing import NO_IMAGES, case_values, facts_of, redrawn_share, stands

_LOOK_BACK: Final = timedelta(seconds=10)  # a transaction that was slow to end is seen, too
_LOOK: Final = 1
_AT_ONCE: Final = 400  # below SQLite's oldest limit of bound values
_TO_READ: Final = ("ready", "no_result", "failed")

LEASE: Final = timedelta(minutes=15)


class Worklist:
    """The cases of all readers.

    Parameters
    ----------
    lease : timedelta
        How long a claim holds without being renewed.
    clock : callable
        The time, with its zone.
    """

    def __init__(
        self,
        database: Database,
        *,
        lease: timedelta = LEASE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._lease = lease
        self._clock = clock

    # --- keeping up -----------------------------------------------------------------------------

    def look(self) -> int:
        """Bring the cases up to what happened since the last look; return how many changed.

        Every study has a case of its own from its first images on.
        """
        began = self._clock()
        with self._database.read() as session:
            mark = session.get(WorklistLookRow, _LOOK)
            since = mark.at - _LOOK_BACK if mark else None
            studies = sorted(touched(session, since))
        changed = 0
        for start in range(0, len(studies), _AT_ONCE):
            changed += self._bring_up(studies[start : start + _AT_ONCE], is_first=mark is None)
        if mark is None or changed or began - mark.at > _LOOK_BACK / 2:
            with self._database.write() as session:
                session.merge(WorklistLookRow(id=_LOOK, at=began))
        return changed

    def _bring_up(self, studies: Sequence[str], *, is_first: bool) -> int:
        if not is_first:
            with self._database.read() as session:  # nearly always there is nothing to write
                if not told(session, studies):
                    return 0
        now = self._clock()
        with self._database.write() as session:
            stand = told(session, studies)  # under the lock: nothing older overwrites newer
            made = [one for one in stand if one.is_new]
            if made:
                session.execute(insert_cases(session), [one.row(now) for one in made])
            for one in stand:
                if not one.is_new:
                    values = {**one.values, "changed_at": now}
                    session.execute(sa.update(CaseRow).where(CaseRow.id == one.id).values(**values))
        return len(stand)

    def moving(self, *, since: datetime) -> list[CaseView]:
        """Return the cases that changed since then, or whose lease ran out."""
        query = sa.select(CaseRow).where(
            sa.or_(
                CaseRow.changed_at >= since,
                CaseRow.lease_until.between(since, self._clock()),
            )
        )
        return self._views(query.order_by(CaseRow.changed_at).limit(_AT_ONCE))

    # --- looking --------------------------------------------------------------------------------

    def cases(
        self, wanted: WantedCases, *, sort: Sort = "urgency", limit: int = 50, offset: int = 0
    ) -> list[CaseView]:
        """Return a page of the list."""
        query = (
            sa.select(CaseRow).where(*conditions(wanted, self._clock())).order_by(*order_of(sort))
        )
        return self._views(query.limit(limit).offset(offset))

    def count(self, wanted: WantedCases) -> int:
        """Return how many cases that would be."""
        query = (
            sa.select(sa.func.count())
            .select_from(CaseRow)
            .where(*conditions(wanted, self._clock()))
        )
        with self._database.read() as session:
            return session.scalar(query) or 0

    def counts(self, wanted: WantedCases) -> dict[str, int]:
        """Return how many of them are in each state, whichever state is wanted."""
        found = conditions(replace(wanted, state=None), self._clock())
        query = (
            sa.select(CaseRow.state, sa.func.count().label("cases"))
            .where(*found)
            .group_by(CaseRow.state)
        )
        with self._database.read() as session:
            return {row.state: row.cases for row in session.execute(query)}

    def case(self, case_id: str) -> CaseView:
        """Return one case.

        Raises
        ------
        NotFound
        """
        found = self._views(sa.select(CaseRow).where(CaseRow.id == case_id))
        if not found:
            raise NotFound("no such case")
        return found[0]

    def of_study(self, study_id: str) -> list[CaseView]:
        """Return a study's cases: the study itself, and series that are cases of their own."""
        query = sa.select(CaseRow).where(CaseRow.study_id == study_id)
        return self._views(query.order_by(CaseRow.series_id.is_not(None), CaseRow.id))

    def modalities(self) -> list[str]:
        """Return what there is to choose from."""
        images = sa.and_(SeriesRow.ours.is_(False), SeriesRow.modality.not_in(NO_IMAGES))
        query = sa.select(SeriesRow.modality).where(images).distinct()
        with self._database.read() as session:
            return sorted(session.scalars(query))

    def shown(self, case_id: str) -> Shown:
        """Return what of a case a picture shows: its newest segmentation, else its largest series.

        Raises
        ------
        NotFound
            When there is no such case, or it has no images.
        """
        with self._database.read() as session:
            row = session.get(CaseRow, case_id)
            if row is None:
                raise NotFound("no such case")
            images = sa.select(SeriesRow).where(
                SeriesRow.study_id == row.study_id, SeriesRow.ours.is_(False)
            )
            if row.series_id is not None:
                images = images.where(SeriesRow.id == row.series_id)
            images = images.where(SeriesRow.modality.not_in(NO_IMAGES))
            series = {one.id: one for one in session.scalars(images)}
            if not series:
                raise NotFound("the case has no images")
            drawn = [
                one
                for one in facts_of(session, [row.study_id])[row.study_id].results
                if one.is_segmentation and one.series_id in series
            ]
            newest = max(drawn, key=lambda one: one.at, default=None)
            largest = max(series.values(), key=lambda one: (one.instance_count, one.id))
            chosen = series[newest.series_id] if newest else largest
            return Shown(
                chosen.id,
                f"{chosen.fingerprint} {chosen.instance_count}",
                newest.id if newest else None,
            )

    def _views(self, query: sa.Select[CaseRow]) -> list[CaseView]:
        with self._database.read() as session:
            rows = list(session.scalars(query))
            around = around_of(session, rows)
            now = self._clock()
            return [case_view(row, around[row.id], now) for row in rows]

    # --- arranging ------------------------------------------------------------------------------

    def add_series(self, study_id: str, series_id: str) -> CaseView:
        """Make one series of a study a case of its own; one that is there is left as it is.

        Raises
        ------
        NotFound
            When the study has no such series.
        """
        with self._database.write() as session:
            row = session.get(SeriesRow, series_id)
            if row is None or row.study_id != study_id or row.ours:
                raise NotFound("the study has no such series of images")
            facts = facts_of(session, [study_id])[study_id]
            values = case_values(stands(facts, series_id, redrawn_share(session)))
            made = Told(series_id, study_id, series_id, values, is_new=True)
            session.execute(insert_cases(session), [made.row(self._clock())])
        return self.case(series_id)

    def assign(self, case_id: str, reader: str | None) -> CaseView:
        """Say whose case it is to be; None: anybody's.

        Raises
        ------
        NotFound
        """
        return self._set(case_id, assigned_to=reader)

    def prioritise(self, case_id: str, priority: Priority) -> CaseView:
        """Say how urgent a case is.

        Raises
        ------
        NotFound
        """
        return self._set(case_id, priority=PRIORITIES.index(priority))

    def _set(self, case_id: str, **values: object) -> CaseView:
        with self._database.write() as session:
            done = session.scalar(
                sa.update(CaseRow)
                .where(CaseRow.id == case_id)
                .values(**values, changed_at=self._clock())
                .returning(CaseRow.id)
            )
            if done is None:
                raise NotFound("no such case")
        return self.case(case_id)

    # --- claims ---------------------------------------------------------------------------------

    def claim(self, case_id: str, reader: str) -> CaseView:
        """Take a case, or take it for longer: nobody else holds it until the lease runs out.

        Raises
        ------
        NotFound
        Conflict
            When somebody else holds it, it is assigned to somebody else, or it is being read by
            several and this reader is none of them, or has done.
        """
        now = self._clock()
        with self._database.write() as session:
            taken = session.scalar(
                sa.update(CaseRow)
                .where(CaseRow.id == case_id, may_hold(reader, now))
                .values(holder=reader, lease_until=now + self._lease, changed_at=now)
                .returning(CaseRow.id)
            )
        if taken is None:
            raise _why_not(self.case(case_id), reader)
        return self.case(case_id)

    def renew(self, reader: str, *, study_id: str | None = None) -> list[CaseView]:
        """Hold what a reader holds for longer, of one study or all; a lost lease stays lost."""
        now = self._clock()
        held = [CaseRow.holder == reader, CaseRow.lease_until > now]
        if study_id is not None:
            held.append(CaseRow.study_id == study_id)
        with self._database.write() as session:
            session.execute(sa.update(CaseRow).where(*held).values(lease_until=now + self._lease))
        return self._views(sa.select(CaseRow).where(*held).order_by(CaseRow.id))

    def release(self, case_id: str, reader: str) -> CaseView:
        """Let go of a case; one that this reader does not hold is left as it is.

        Raises
        ------
        NotFound
        """
        with self._database.write() as session:
            session.execute(
                sa.update(CaseRow)
                .where(CaseRow.id == case_id, CaseRow.holder == reader)
                .values(holder=None, lease_until=None, changed_at=self._clock())
            )
        return self.case(case_id)

    def hand_over(self, case_id: str, *, by: str, to: str) -> CaseView:
        """Give a case that one holds to somebody else, who holds it from now on.

        Raises
        ------
        NotFound
        Conflict
            When `by` does not hold it, or `to` may not: see :meth:`claim`.
        """
        now = self._clock()
        with self._database.write() as session:
            row = session.get(CaseRow, case_id, with_for_update=True)
            if row is None:
                raise NotFound("no such case")
            if row.holder != by or row.lease_until is None or row.lease_until <= now:
                raise Conflict("you do not hold this case (any longer)")
            row.holder, row.lease_until, row.changed_at = None, None, now
            if row.assigned_to is not None:
                row.assigned_to = to
            session.flush()
            taken = session.scalar(
                sa.update(CaseRow)
                .where(CaseRow.id == case_id, may_hold(to, now))
                .values(holder=to, lease_until=now + self._lease)
                .returning(CaseRow.id)
                .execution_options(synchronize_session=False)
            )
            if taken is None:
                raise Conflict(f"{to} is none of the readers of this round, or has done")
        return self.case(case_id)

    # --- the next one ---------------------------------------------------------------------------

    def next_case(
        self,
        reader: str,
        *,
        strategy: Strategy = "priority",
        wanted: WantedCases | None = None,
        claim: bool = False,
    ) -> Chosen | None:
        """Return the case that a reader should take next; with `claim` it is theirs at once.

        It waits to be read, nobody else holds it or has it assigned, and in a round this reader has
        not done yet. Of cases whose score nobody knows, none is chosen by it.
        """
        wanted = wanted or WantedCases()
        for _ in range(5):  # another reader may take it between the look and the claim
            chosen = self._choose(reader, strategy, wanted)
            if chosen is None or not claim:
                return chosen
            try:
                return replace(chosen, case=self.claim(chosen.case.id, reader))
            except Conflict:
                continue
        return None

    def _choose(self, reader: str, strategy: Strategy, wanted: WantedCases) -> Chosen | None:
        now = self._clock()
        asked = [*conditions(wanted, now), may_hold(reader, now), waits_for(reader)]
        if wanted.state is None:
            asked.append(CaseRow.state.in_(_TO_READ))
        asked.append(sa.or_(CaseRow.holder.is_(None), CaseRow.lease_until <= now))
        query = sa.select(CaseRow).where(*asked)
        match strategy:
            case "uncertainty":
                query = query.where(CaseRow.uncertainty.is_not(None))
            case "disagreement":
                query = query.where(CaseRow.disagreement.is_not(None))
        order = (sa.func.random(),) if strategy == "random" else order_of(_SORT_OF[strategy])
        found = self._views(query.order_by(*order).limit(1))
        if not found:
            return None
        case = found[0]
        match strategy:
            case "uncertainty":
                score, why = case.uncertainty, case.uncertainty_why or ""
            case "disagreement":
                score, why = case.disagreement, case.disagreement_why or ""
            case "priority":
                score, why = None, f"the oldest of priority {case.priority}"
            case "oldest":
                score, why = None, "came first of those that wait"
            case "random":
                score, why = None, "drawn by lot"
        return Chosen(case, strategy, score, why)


_SORT_OF: Final[dict[Strategy, Sort]] = {
    "priority": "urgency",
    "oldest": "oldest",
    "uncertainty": "uncertainty",
    "disagreement": "disagreement",
}


def _why_not(case: CaseView, reader: str) -> Conflict:
    if case.holder is not None and case.holder != reader:
        until = f"{case.lease_until:%H:%M} UTC" if case.lease_until else "now"
        return Conflict(f"{case.holder} holds this case until {until}")
    if case.readers and reader in case.readers_done:
        return Conflict("you have done your reading; the others have not yet")
    if case.readers:
        return Conflict(f"this case is read by {' and '.join(case.readers)}, each alone")
    if case.assigned_to not in (None, reader):
        return Conflict(f"this case is assigned to {case.assigned_to}")
    return Conflict("another reader was quicker")
