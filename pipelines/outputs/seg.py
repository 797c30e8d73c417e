"""Labels as a DICOM Segmentation (PS3.3 A.51)."""

from __future__ import annotations

import numpy as np

from dicom.seg import ResultUids, encode_seg
from dicom.uids import derived_uid
from models.prediction import Instances
from models.segments import as_segments, voxel_counts
from pipelines.outputs import Encoded, Made


def encode(made: Made) -> Encoded:
    """Write an answer as a Segmentation.

    Segments that overlap stay whole; of instances each is a segment. That the object holds exactly
    the answer is seen by :func:`pipelines.results.check_results`, in its file and by other code.

    Raises
    ------
    InvalidSegmentation
        When the labels cannot be written.
    """
    bundle = made.bundle
    voxels, segments = as_segments(bundle, made.answer)
    ds = encode_seg(
        voxels,
        made.source,
        segments,
        algorithm=bundle.algorithm,
        uids=ResultUids(
            series_uid=derived_uid(made.key, "series"),
            sop_instance_uid=derived_uid(made.key, "instance"),
            tracking=tuple(
                derived_uid(made.key, "tracking", str(segment.number)) for segment in segments
            ),
        ),
        series_number=made.series_number,
        series_description=f"AI: {bundle.name_in_dicom}"[:64],
        content_label="AI_SEGMENTATION",
        created=made.created,
        form=made.form,
    )
    return Encoded(ds=ds, summary=_millilitres(made))


def _millilitres(made: Made) -> dict[str, float]:
    """Return what each label takes; nothing on a single slice or on pictures, which hold none."""
    measured = {one.number: one.volume_ml for one in made.measured}
    if measured and not isinstance(made.answer, Instances):
        numbered = enumerate(made.bundle.segments, start=1)  # as the segmentation numbers them
        return {
            segment.label: round(volume_ml, 3)
            for number, segment in numbered
            if (volume_ml := measured[number]) is not None
        }
    if made.source.shape_kji[0] == 1 or not made.source.frame_of_reference_uid:
        return {}
    voxel_ml = float(np.prod(made.source.spacing_kji)) / 1000.0
    counts = voxel_counts(made.answer)
    return {
        segment.label: round(counts[segment.number] * voxel_ml, 3)
        for segment in made.bundle.segments
    }
