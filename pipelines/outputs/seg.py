"""Labels as a DICOM Segmentation (PS3.3 A.51)."""

from __future__ import annotations

import numpy as np

from dicom.seg import ResultUids, check_seg, encode_seg
from dicom.uids import derived_uid
from pipelines.outputs import Encoded, Made


def encode(made: Made) -> Encoded:
    """Write labels as a BINARY Segmentation, read it back, and compare voxel for voxel.

    Raises
    ------
    InvalidSegmentation
        When the labels cannot be written, or the object does not hold exactly them.
    """
    bundle = made.bundle
    ds = encode_seg(
        made.labels_kji,
        made.source,
        bundle.segments,
        algorithm=bundle.algorithm,
        uids=ResultUids(
            series_uid=derived_uid(made.key, "series"),
            sop_instance_uid=derived_uid(made.key, "instance"),
            tracking=tuple(
                derived_uid(made.key, "tracking", str(segment.number))
                for segment in bundle.segments
            ),
        ),
        series_number=made.series_number,
        series_description=f"AI: {bundle.name} {bundle.version}"[:64],
        content_label="AI_SEGMENTATION",
        created=made.created,
    )
    check_seg(ds, made.labels_kji, made.source)
    return Encoded(ds=ds, summary=_millilitres(made))


def _millilitres(made: Made) -> dict[str, float]:
    voxel_ml = float(np.prod(made.source.spacing_kji)) / 1000.0
    counts = np.bincount(made.labels_kji.ravel(), minlength=256)
    return {
        segment.label: round(int(counts[segment.number]) * voxel_ml, 3)
        for segment in made.bundle.segments
    }
