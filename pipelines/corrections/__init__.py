"""What people draw: from a viewer's labels to a DICOM SEG with its history, and what it cost.

`head` is what a viewer says beside the voxels, `source` the series that they lie on, `lineage` what
each segment was and becomes, `desk` keeps drafts and saves, `verdicts` hears what people say.
"""

from pipelines.corrections.desk import Desk, OpenDraft
from pipelines.corrections.head import CorrectionHead, EditingEffort
from pipelines.corrections.source import SourceGrids, SourceSeries
from pipelines.corrections.verdicts import REASONS, Assessed, Verdicts

__all__ = [
    "REASONS",
    "Assessed",
    "CorrectionHead",
    "Desk",
    "EditingEffort",
    "OpenDraft",
    "SourceGrids",
    "SourceSeries",
    "Verdicts",
]
