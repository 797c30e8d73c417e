"""NRRD beside ITK's: the same voxels in the same place, and nothing inflated that was not told."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from dicom.errors import NoGeometry, TooLarge, UnreadablePixels, UnsupportedPixelFormat
from models.nrrd import NrrdSegment, read_nrrd, write_nrrd

OBLIQUE = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, -1.0)


def of_itk(dtype: type) -> sitk.Image:
    random = np.random.default_rng(3)
    image = sitk.GetImageFromArray(random.integers(0, 200, (4, 5, 6)).astype(dtype))
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((-31.5, 12.25, 7.125))
    image.SetDirection(OBLIQUE)
    return image


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("packed", [True, False])
def test_what_itk_writes_is_read_where_it_lies(tmp_path: Path, dtype: type, packed: bool) -> None:
    image, path = of_itk(dtype), tmp_path / "image.nrrd"
    sitk.WriteImage(image, str(path), useCompression=packed)
    found = read_nrrd(path.read_bytes())
    assert np.array_equal(found.layers_nkji[0], sitk.GetArrayFromImage(image))
    assert found.layers_nkji.dtype == dtype
    for k, j, i in ((0, 0, 0), (3, 1, 5)):
        expected = image.TransformIndexToPhysicalPoint((i, j, k))
        assert np.allclose((found.affine_lps @ (k, j, i, 1))[:3], expected, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_what_is_written_itk_reads_where_it_lies(tmp_path: Path, dtype: type) -> None:
    affine = read_nrrd(write_nrrd(np.zeros((2, 2, 2), np.uint8), np.eye(4))).affine_lps
    affine[:3] = [[0.0, 0.0, -1.5, 4], [0.0, 2.0, 0.0, -5], [2.5, 0.0, 0.0, 6]]
    voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    path = tmp_path / "image.nrrd"
    path.write_bytes(write_nrrd(voxels, affine))
    image = sitk.ReadImage(str(path))
    assert np.array_equal(sitk.GetArrayFromImage(image), voxels)
    assert np.allclose(image.TransformIndexToPhysicalPoint((3, 1, 1)), (affine @ (1, 1, 3, 1))[:3])


def test_ras_and_big_endian_are_turned() -> None:
    values = np.arange(8, dtype=">i2").reshape(2, 2, 2)
    head = (
        "NRRD0005\n# a comment\ntype: short\ndimension: 3\nspace: right-anterior-superior\n"
        "sizes: 2 2 2\nspace directions: (1,0,0) (0,2,0) (0,0,3)\nendian: big\n"
        "encoding: raw\nspace origin: (10,20,30)\n\n"
    )
    found = read_nrrd(head.encode() + values.tobytes())
    assert np.array_equal(found.layers_nkji[0], values)
    assert np.allclose(found.affine_lps @ (1, 1, 1, 1), (-11, -22, 33, 1))


def test_layers_and_names_come_back() -> None:
    layers = np.zeros((2, 3, 4, 5), np.uint8)
    layers[0, 1], layers[1, :, 2] = 1, 2
    segments = (NrrdSegment("liver", 1, 0), NrrdSegment("cyst", 2, 1))
    found = read_nrrd(write_nrrd(layers, np.eye(4), segments=segments))
    assert np.array_equal(found.layers_nkji, layers)
    assert found.segments == segments


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"NRRD0004", b"NRRT0004", UnreadablePixels),
        (b"sizes: 4 3 2", b"sizes: 40000 40000 40000", TooLarge),
        (b"sizes: 4 3 2", b"sizes: 4 3 200", UnreadablePixels),
        (b"sizes: 4 3 2", b"sizes: 4 3", UnreadablePixels),
        (b"type: unsigned char", b"type: block", UnsupportedPixelFormat),
        (b"encoding: gzip", b"encoding: hex", UnsupportedPixelFormat),
        (b"encoding: gzip", b"encoding: gzip\ndata file: /etc/passwd", UnreadablePixels),
        (b"space: left-posterior-superior\n", b"", NoGeometry),
        (b"space origin: (0.0,0.0,0.0)", b"space origin: (0.0,nan,0.0)", NoGeometry),
        (b"(1.0,0.0,0.0)", b"(0.0,0.0,0.0)", NoGeometry),
    ],
)
def test_what_makes_no_sense_is_refused(old: bytes, new: bytes, error: type[Exception]) -> None:
    content = write_nrrd(np.zeros((2, 3, 4), np.uint8), np.eye(4))
    content = content.replace(b"type: uchar", b"type: unsigned char").replace(
        b"type: uint8_t", b"type: unsigned char"
    )
    assert old in content
    with pytest.raises(error):
        read_nrrd(content.replace(old, new))


def test_a_bomb_is_inflated_no_further_than_it_says() -> None:
    head, _, _ = write_nrrd(np.zeros((2, 3, 4), np.uint8), np.eye(4)).partition(b"\n\n")
    bomb = gzip.compress(bytes(1 << 26))
    assert read_nrrd(head + b"\n\n" + bomb).layers_nkji.size == 24
