"""Series -> volume: arrays with their place in the patient, or a coded reason why not.

Axes are (k, j, i): slices, rows, columns. Affines map (k, j, i, 1) to LPS in mm.

`read` is the way in. It goes through `planes` (files to image planes, classic and enhanced alike),
`kind` (what a series is), `stack` (one affine or a refusal), `split` (several volumes in a series),
`pixels` (values) and `shear` (a tilt mended, and back). `picture` reads what has no place in the
patient, `facts` is what routing may ask, `report` says all of it of a folder.
"""

from dicom.volume.facts import SeriesFacts, describe_series
from dicom.volume.kind import Kind
from dicom.volume.picture import Picture, PictureSpacing, read_pictures
from dicom.volume.planes import ReadInstance, read_ahead
from dicom.volume.read import (
    NamedGrid,
    NamedVolume,
    read_grid,
    read_grids,
    read_volume,
    read_volumes,
)
from dicom.volume.split import Varying
from dicom.volume.values import Grid, Mending, Orientation, SliceSource, Volume

__all__ = [
    "Grid",
    "Kind",
    "Mending",
    "NamedGrid",
    "NamedVolume",
    "Orientation",
    "Picture",
    "PictureSpacing",
    "ReadInstance",
    "SeriesFacts",
    "SliceSource",
    "Varying",
    "Volume",
    "describe_series",
    "read_ahead",
    "read_grid",
    "read_grids",
    "read_pictures",
    "read_volume",
    "read_volumes",
]
