"""What people draw: from a viewer's labels to a DICOM SEG with its history, and what it cost.

`head` is what a viewer says beside the voxels, `source` the series that they lie on, `lineage` what
each segment was and becomes, `desk` keeps drafts and saves, `verdicts` hears what people say,
`elsewhere` finds out what other systems drew. `aftercare` has the workflows that follow, and with
them the durable engine: the front does not load it.
"""

from pipelines.corrections.desk import Desk, OpenDraft
from pipelines.corrections.elsewhere import Elsewhere
from pipelines.corrections.head import CorrectionHead, EditingEffort
from pipelines.corrections.objects import DrawnObject, about, pairs_of, read_object
from pipelines.corrections.source import SourceGrids, SourceSeries
from pipelines.corrections.verdicts import REASONS, Assessed, Verdicts

__all__ = [
    "REASONS",
    "Assessed",
    "CorrectionHead",
    "Desk",
    "DrawnObject",
    "EditingEffort",
    "Elsewhere",
    "OpenDraft",
    "SourceGrids",
    "SourceSeries",
    "Verdicts",
    "about",
    "pairs_of",
    "read_object",
]
