"""What was corrected, read from the archive once: its name, its segments, where each of them is."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Final

import structlog

from dicom.archive import Archive
from dicom.errors import ForeignSegmentation, InputError
from dicom.header import read_header
from dicom.seg import Predecessor, decode_seg
from dicom.volume import Grid
from pipelines.corrections.lineage import Before
from pipelines.labels import Referenced

log = structlog.get_logger()

_KEPT: Final = 16
_NAMES: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_Known = tuple[Predecessor, Before | None]


class Predecessors:
    """The segmentations that were corrected last; an instance never changes, so each is read once.

    Parameters
    ----------
    archive : Archive
        The clinical archive.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._kept: OrderedDict[tuple[str, str], _Known] = OrderedDict()
        self._lock = Lock()

    def read(self, named: Referenced | None, study_uid: str, grid: Grid) -> _Known | None:
        """Return what was corrected; its voxels are None where they cannot be read on this grid.

        None where there was nothing, or where it was deleted: what was drawn stands by itself.

        Raises
        ------
        ForeignSegmentation
            When it belongs to another study.
        PeerError
            When the archive does not answer.
        """
        if named is None:
            return None
        if not self._archive.holds(named.sop_instance_uid):
            log.warning("predecessor_gone")
            return None
        key = named.sop_instance_uid, grid.series_uid
        with self._lock:
            known = self._kept.get(key)
        if known is None:
            known = self._read(named.sop_instance_uid, grid)
            self._keep(key, known)
        if known[0].study_uid != study_uid:
            raise ForeignSegmentation("what was corrected belongs to another study")
        return known

    def keep(self, predecessor: Predecessor, grid: Grid, before: Before) -> None:
        """Remember what was just stored: mostly it is corrected next."""
        self._keep((predecessor.sop_instance_uid, grid.series_uid), (predecessor, before))

    def _read(self, sop_instance_uid: str, grid: Grid) -> _Known:
        content = self._archive.instance_bytes(sop_instance_uid)
        with tempfile.TemporaryDirectory(prefix="radloop-") as folder:
            path = Path(folder, "before.dcm")
            path.write_bytes(content)
            header = read_header(path, _NAMES)
            predecessor = Predecessor(*(header.text(name) or "" for name in _NAMES))
            try:
                return predecessor, Before.of(decode_seg(path, grid))
            except InputError as error:  # another program's: it is named, and nothing of it is kept
                log.info("predecessor_not_read", code=error.code)
                return predecessor, None

    def _keep(self, key: tuple[str, str], known: _Known) -> None:
        with self._lock:
            self._kept[key] = known
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
