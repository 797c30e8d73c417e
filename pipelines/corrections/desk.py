"""The reader's desk: drafts that survive, and corrections that are stored once, or not at all.

A save is kept as a sealed draft first; then the SEG is written, read back, stored in the archive
and seen there; last, in one transaction, the correction is noted as stored, its predecessor as
modified, and the draft is gone. Killed in between, the draft is still there, and
:meth:`Desk.finish` goes on: the UIDs derive from what was drawn, so that the same save twice is the
same object.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import structlog
from pydicom.uid import SegmentationStorage

from dicom.archive import Archive
from dicom.errors import (
    InputError,
    InvalidLabels,
    NotFound,
    NotTakenIn,
    PeerError,
    PeerRefused,
    PeerUnreachable,
    RadloopError,
)
from dicom.measure import masks_of
from dicom.seg import (
    Crop,
    Edited,
    Form,
    Masks,
    Predecessor,
    ResultUids,
    check_seg,
    write_seg,
)
from dicom.seg.form import LABEL_MAP_STORAGE
from dicom.uids import derived_uid
from dicom.volume import Grid
from pipelines.corrections.head import CorrectionHead
from pipelines.corrections.lineage import Before, Lineage, lineage
from pipelines.corrections.predecessors import Predecessors
from pipelines.corrections.source import SourceGrids
from pipelines.corrections.stored import StoredLabels
from pipelines.corrections.verdicts import Verdicts
from pipelines.drawer import Drawer
from pipelines.labels import Head, LabelsDocument, Referenced, read_labels
from pipelines.store import (
    Corrections,
    CorrectionSource,
    CorrectionView,
    DraftKeys,
    Drafts,
    DraftView,
    Judged,
    NewCorrection,
    SeriesView,
    Studies,
)

log = structlog.get_logger()

_FIRST_SERIES_NUMBER: Final = 9501  # after those of the models' results
_INTERRUPTED_AFTER: Final = timedelta(minutes=2)  # no save takes that long


@dataclass(frozen=True, slots=True, eq=False)
class OpenDraft:
    """A draft, opened: what it is about."""

    id: str
    saved_at: datetime
    head: CorrectionHead


@dataclass(frozen=True, eq=False)
class _Work:
    """A correction on its way: everything that was looked up and judged."""

    document: LabelsDocument[CorrectionHead]
    grid: Grid
    series: SeriesView
    labels: npt.NDArray[np.generic] | Masks
    masks: Masks
    predecessor: Predecessor | None
    before: Before | None
    judged: Judged | None
    author: str
    source: CorrectionSource

    @cached_property
    def overlapping(self) -> bool:
        """Whether any voxel belongs to two segments."""
        return isinstance(self.labels, Masks) and self.labels.overlap()


def _by_name(identity: str) -> str:
    return identity.replace("@", " ")


class Desk:
    """Drafts and corrections of the clinical archive; safe to use from threads.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    studies, corrections, drafts : Studies, Corrections, Drafts
        The rows.
    drawer : Drawer
        Seals drafts.
    form : Form
        How corrections are written; segments that overlap are never a label map.
    name_in_dicom : callable
        ``NAME@VERSION`` to what a SeriesDescription calls that model.
    """

    def __init__(
        self,
        archive: Archive,
        studies: Studies,
        corrections: Corrections,
        drafts: Drafts,
        drawer: Drawer,
        *,
        form: Form,
        name_in_dicom: Callable[[str], str] = _by_name,
    ) -> None:
        self._archive = archive
        self._studies = studies
        self._corrections = corrections
        self._drafts = drafts
        self._drawer = drawer
        self._form = form
        self._name_in_dicom = name_in_dicom
        self.grids = SourceGrids(archive)
        self.stored = StoredLabels(archive, self.grids)
        self._predecessors = Predecessors(archive)
        self.verdicts = Verdicts(archive, corrections, drawer)

    # --- drafts ---------------------------------------------------------------------------------

    def keep_draft(self, content: bytes, *, user: str) -> DraftView:
        """Keep a labels document as a draft; the archive is not asked, so it may be away.

        Raises
        ------
        InvalidLabels, TooLarge
            When it is none; nothing is changed then.
        """
        return self._put_draft(read_labels(content, CorrectionHead).head, content, user)

    def warm(self, content: bytes) -> None:
        """Read what saving a draft will need: images and predecessor. Nobody waits for it."""
        head = read_labels(content, CorrectionHead).head
        try:
            found = self.grids.series(head.study_uid, head.series_uid)
            grid = found.grid_with(name.sop_instance_uid for layer in head.layers for name in layer)
            self._predecessors.read(head.predecessor, head.study_uid, grid)
        except (InputError, PeerError) as error:  # saving will say so, to somebody who listens
            log.info("not_warmed", code=error.code)

    def drafts_of(self, study_uid: str, *, user: str) -> list[OpenDraft]:
        """Return what a reader has drawn on a study and not saved, as far as it can be opened."""
        opened = []
        for row in self._drafts.of_study(self._drawer.name(study_uid), user=user):
            try:
                document = read_labels(self._opened(row), CorrectionHead)
            except InputError as error:
                log.warning("draft_not_opened", code=error.code)
                continue
            opened.append(OpenDraft(row.id, row.saved_at, document.head))
        return opened

    def open_draft(self, draft_id: str, *, user: str) -> bytes:
        """Return a reader's draft as the labels document that it was.

        Raises
        ------
        NotFound
        DrawerLocked
        """
        return self._opened(self._drafts.draft(draft_id, user=user))

    def drop_draft(self, draft_id: str, *, user: str) -> None:
        """Throw a reader's draft away; one that is gone is no error."""
        self._drafts.delete(draft_id, user=user)

    def _put_draft(self, head: Head, content: bytes, user: str) -> DraftView:
        before = head.predecessor
        keys = DraftKeys(
            study=self._drawer.name(head.study_uid),
            series=self._drawer.name(head.series_uid),
            predecessor=self._drawer.name(before.sop_instance_uid) if before else "",
        )
        return self._drafts.put(
            user, keys, lambda draft_id: self._drawer.close(content, bound_to=f"draft {draft_id}")
        )

    def _opened(self, row: DraftView) -> bytes:
        return self._drawer.open(row.sealed, bound_to=f"draft {row.id}")

    # --- corrections ----------------------------------------------------------------------------

    def save(
        self, content: bytes, *, author: str, source: CorrectionSource = "viewer"
    ) -> CorrectionView:
        """Store a labels document as a DICOM SEG of its study.

        Returns
        -------
        CorrectionView
            Stored, and found in the archive. `stale` when somebody else's correction of the same
            predecessor was stored before: both are kept.

        Raises
        ------
        InvalidLabels, TooLarge, OtherGrid, ForeignSegmentation, NotFound
            When it does not fit the series: nothing is kept.
        NotTakenIn
            When the node has not read the study yet; it is kept as a draft.
        PeerError
            When the archive is away or refuses; it is kept as a draft.
        """
        document = read_labels(content, CorrectionHead)
        try:
            work = self._work(document, author, source)
        except (NotTakenIn, PeerError):
            self._put_draft(document.head, content, author)
            raise
        draft = self._put_draft(document.head, content, author)
        stored = self._store(work, draft.id)
        if document.head.draft and document.head.draft != draft.id:
            self._drafts.delete(document.head.draft, user=author)
        return stored

    def finish(self) -> int:
        """Store what a process that was killed did not come to; return how much it was.

        Raises
        ------
        PeerError
            When the archive is away: it is tried again at the next call.
        """
        done = 0
        for draft in self._drafts.interrupted(after=_INTERRUPTED_AFTER):
            try:
                document = read_labels(self._opened(draft), CorrectionHead)
                self._store(self._work(document, draft.user, "viewer"), draft.id)
                done += 1
            except InputError as error:  # a person has to look: the viewer offers it again
                self._drafts.not_saved(draft.id)
                log.warning("draft_not_saved", code=error.code)
        return done

    def _work(
        self, document: LabelsDocument[CorrectionHead], author: str, source: CorrectionSource
    ) -> _Work:
        """Look everything up, and judge the labels before anything is written."""
        head = document.head
        found = self.grids.series(head.study_uid, head.series_uid)
        grid = found.grid_with(name.sop_instance_uid for layer in head.layers for name in layer)
        labels = document.on(grid)
        if not head.segments:
            raise InvalidLabels("there is no segment to save")
        series = self._studies.series_in_archive(found.archived.orthanc_id)
        if series is None:
            raise NotTakenIn("the node has not read this study yet")
        masks = labels if isinstance(labels, Masks) else _all_masks(labels, len(head.segments))
        known = self._predecessors.read(head.predecessor, head.study_uid, grid)
        return _Work(
            document=document,
            grid=grid,
            series=series,
            labels=labels,
            masks=masks,
            predecessor=known[0] if known else None,
            before=known[1] if known else None,
            judged=self._judged(head.predecessor) if known else None,
            author=author,
            source=source,
        )

    def _judged(self, named: Referenced | None) -> Judged | None:
        """Return the row of what was corrected; None for another system's that nobody matched."""
        try:
            return self.verdicts.judged(named.sop_instance_uid) if named else None
        except NotFound:
            return None

    def _store(self, work: _Work, draft_id: str) -> CorrectionView:
        key = _digest(work)
        segments = lineage(work.document.head.segments, work.masks, work.before, key=key)
        judged = work.judged
        effort = work.document.head.effort
        new = NewCorrection(
            id=derived_uid(key, "instance"),
            series_uid=derived_uid(key, "series"),
            study_id=work.series.study_id,
            series_id=work.series.id,
            source=work.source,
            predecessor_id=judged.id if judged else None,
            result_id=judged.result_id if judged else None,
            bundle=judged.bundle if judged else None,
            author=work.author,
            title=self._title(work),
            segments=[_row(each, work.masks, work.grid) for each in segments],
            effort=effort.row if effort else None,
        )
        self._drafts.saving(draft_id)
        row = self._corrections.begin(new, first_series_number=_FIRST_SERIES_NUMBER)
        if row.is_stored and self._archive.holds(row.id):
            return self._corrections.stored(
                row.id, orthanc_id=row.orthanc_id or "", draft_id=draft_id
            )
        try:
            orthanc_id = self._put_in_archive(work, segments, row)
        except PeerUnreachable:  # it may have come through all the same: the row stays to know it
            self._drafts.not_saved(draft_id)
            raise
        except RadloopError:
            self._corrections.dropped(row.id)
            self._drafts.not_saved(draft_id)
            raise
        stored = self._corrections.stored(row.id, orthanc_id=orthanc_id, draft_id=draft_id)
        self._remember(work, segments, row)
        log.info("correction_stored", study=row.study_id)
        return stored

    def _title(self, work: _Work) -> str:
        """Return the SeriesDescription (LO: 64 characters)."""
        if work.predecessor is None:
            return f"Drawn by {work.author}"[:64]
        bundle = work.judged.bundle if work.judged else None
        model = f": {self._name_in_dicom(bundle)}" if bundle else ""
        return f"Corrected by {work.author}{model}"[:64]

    def _put_in_archive(self, work: _Work, segments: Sequence[Lineage], row: CorrectionView) -> str:
        """Write the SEG, read it back, store it, see it there; return its id in the archive."""
        with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
            path = Path(folder, "correction.dcm")
            write_seg(
                path,
                work.labels,
                work.grid,
                tuple(each.segment for each in segments),
                algorithm=Edited(
                    work.author, tuple(each.origin for each in segments), work.predecessor
                ),
                uids=ResultUids(
                    row.series_uid, row.id, tuple(each.origin.tracking_uid for each in segments)
                ),
                series_number=row.series_number,
                series_description=row.title,
                content_label="CORRECTION" if work.predecessor else "DRAWN",
                created=row.created_at.astimezone(),  # DICOM times are local (PS3.3 C.12.1)
                form=self._form_for(work),
            )
            check_seg(path, work.labels, work.grid)
            orthanc_id = self._archive.store(path)
        if not self._archive.holds(row.id):
            raise PeerRefused("the archive took the correction, and does not hold it")
        return orthanc_id

    def _remember(self, work: _Work, segments: Sequence[Lineage], row: CorrectionView) -> None:
        """Keep what was stored in memory: the next save of the session corrects it."""
        before = Before(
            tuple(each.segment for each in segments),
            tuple(each.origin for each in segments),
            work.masks,
        )
        kind = self._form_for(work).kind_for(
            len(segments), overlapping=work.overlapping, fractional=False
        )
        sop_class_uid = LABEL_MAP_STORAGE if kind == "LABELMAP" else SegmentationStorage
        name = Predecessor(work.document.head.study_uid, row.series_uid, row.id, sop_class_uid)
        self._predecessors.keep(name, work.grid, before)

    def _form_for(self, work: _Work) -> Form:
        wanted = self._form
        if wanted.segmentation_type == "labelmap" and work.overlapping:
            return Form("binary", rle=wanted.rle)
        return wanted


def _all_masks(labels_kji: npt.NDArray[np.generic], count: int) -> Masks:
    """Return a mask for every segment, empty ones too."""
    nothing = Crop((0, 0, 0), np.zeros((0, 0, 0), np.bool_))
    found = masks_of(labels_kji)
    return Masks(found.shape_kji, {n: found.crops.get(n, nothing) for n in range(1, count + 1)})


def _row(each: Lineage, masks: Masks, grid: Grid) -> dict[str, object]:
    """Return what is kept of a segment, to be listed without reading the object."""
    voxels = int(np.count_nonzero(masks.crops[each.segment.number].voxels_kji))
    placed = bool(grid.frame_of_reference_uid) and grid.shape_kji[0] > 1
    voxel_ml = abs(float(np.linalg.det(grid.affine_lps[:3, :3]))) / 1000.0
    return {
        "number": each.segment.number,
        "label": each.segment.label,
        "type": each.segment.type.value,
        "scheme": each.segment.type.scheme,
        "rgb": list(each.segment.rgb),
        "origin": each.came_from,
        "changed": each.changed,
        "voxels": voxels,
        "volume_ml": round(voxels * voxel_ml, 3) if placed else None,
    }


def _digest(work: _Work) -> str:
    """Return what makes a correction the one that it is: by whom, of what, which voxels."""
    head = work.document.head
    digest = hashlib.blake2b(digest_size=16)
    for text in (
        work.series.id,
        work.author,
        head.predecessor.sop_instance_uid if head.predecessor else "",
        *(segment.model_dump_json() for segment in head.segments),
    ):
        digest.update(text.encode() + b"\0")
    for number, crop in work.masks.crops.items():
        place = ",".join(str(part) for part in (number, *crop.corner_kji, *crop.voxels_kji.shape))
        digest.update(place.encode() + b"\0")
        digest.update(np.packbits(crop.voxels_kji != 0).data)
    return f"correction {digest.hexdigest()}"
