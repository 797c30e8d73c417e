"""Painting on a study's segmentation and saving it, with what is stored compared voxel by voxel."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom.seg import decode_seg
from dicom.study import Series
from dicom.volume import read_grid
from tests.browser.labelmap import read_labelmap
from tests.browser.panel import Panel
from tests.segmentations import bytes_of, read_by_highdicom
from tests.whole.nodes import Node


def stored(node: Node, study_uid: str) -> list[Dataset]:
    """Return the study's SEG objects, the oldest first."""
    with node.archive() as archive:
        found = [
            dcmread(BytesIO(archive.instance_bytes(uid))) for uid in node.segmentations(study_uid)
        ]
    return sorted(found, key=lambda ds: (ds.ContentDate, ds.ContentTime, int(ds.SeriesNumber)))


def painted_and_saved_twice(
    panel: Panel, node: Node, series: Series, study_uid: str, folder: Path
) -> None:
    """Paint and save, twice; compare what is shown with what is stored, each time, everywhere.

    What is shown at first is the newest segmentation of the study, whose first segment is painted.
    """
    grid = read_grid(series)
    in_order = replace(series, instances=grid.instances)
    before = stored(node, study_uid)
    shown = [read_labelmap(panel.page, in_order)]
    np.testing.assert_array_equal(shown[0], decode_seg(before[-1], grid).labels())
    panel.use("CircularBrush")
    for number, y in enumerate((0.12, 0.88), 1):
        panel.stroke(0.3, y)
        panel.save()
        shown.append(read_labelmap(panel.page, in_order))
        correction = stored(node, study_uid)[-1]
        np.testing.assert_array_equal(decode_seg(correction, grid).labels(), shown[-1])
        path = folder / f"{correction.SOPInstanceUID}.dcm"
        path.write_bytes(bytes_of(correction))
        theirs = read_by_highdicom(path, grid, 1)
        np.testing.assert_array_equal(theirs, shown[-1] == 1)
        changed = shown[-1] != shown[-2]
        assert changed.any(axis=(1, 2)).sum() == 1  # of the slice that was painted on, alone
        assert len(stored(node, study_uid)) == len(before) + number
