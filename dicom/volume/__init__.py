"""Series -> volume: arrays with their place in the patient, or a coded reason why not."""

from dicom.volume.read import SeriesFacts, describe_series, read_grid, read_volume
from dicom.volume.values import Grid, Mending, Orientation, SliceSource, Volume

__all__ = [
    "Grid",
    "Mending",
    "Orientation",
    "SeriesFacts",
    "SliceSource",
    "Volume",
    "describe_series",
    "read_grid",
    "read_volume",
]
