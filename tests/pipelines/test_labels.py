"""Labels between a viewer and the node: exact, or refused with a reason."""

import gzip
import json
import struct

import numpy as np
import pytest

from dicom.errors import ForeignSegmentation, InvalidLabels, OtherGrid, TooLarge
from dicom.seg import Masks
from dicom.volume import Grid, read_grid
from pipelines import labels as labels_module
from pipelines.labels import Head, layers_of, read_labels, write_labels
from tests.series import write_series


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return read_grid(write_series(tmp_path_factory.mktemp("series"), shape_kji=(9, 14, 11)))


def head_of(grid: Grid, layers, *, numbers=(1, 2, 3), bits=8, **changed) -> dict:
    _, rows, columns = grid.shape_kji
    head = {
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": grid.series_uid,
        "rows": rows,
        "columns": columns,
        "bits": bits,
        "layers": [[name.model_dump(by_alias=True) for name in layer] for layer in layers],
        "segments": [{"number": number, "label": f"segment {number}"} for number in numbers],
        "predecessor": None,
    }
    return {**head, **changed}


def document(grid: Grid, labels, **changed) -> bytes:
    layers, planes = layers_of(labels, grid)
    return write_labels(head_of(grid, layers, **changed), planes)


def spotted(grid: Grid, seed: int = 5) -> np.ndarray:
    voxels = np.random.default_rng(seed).integers(0, 4, grid.shape_kji, np.uint8)
    voxels[[0, 4]] = 0
    return voxels


def test_a_label_map_arrives_voxel_by_voxel(grid):
    labels_kji = spotted(grid)
    content = document(grid, labels_kji)
    found = read_labels(content, Head)
    assert len(found.head.layers[0]) == 7  # empty slices do not travel
    assert np.array_equal(found.on(grid), labels_kji)


def test_segments_are_numbered_in_their_order(grid):
    labels_kji = spotted(grid)
    gaps = np.array([0, 7, 300, 2], np.uint16)[labels_kji]
    layers, planes = layers_of(gaps, grid)
    content = write_labels(head_of(grid, layers, numbers=(7, 300, 2), bits=16), planes)
    assert np.array_equal(read_labels(content, Head).on(grid), labels_kji)


def test_segments_that_overlap_arrive_whole(grid):
    random = np.random.default_rng(3)
    masks_nkji = random.random((3, *grid.shape_kji)) < 0.4
    content = document(grid, Masks.of(masks_nkji))
    assert len(read_labels(content, Head).head.layers) == 3
    arrived = read_labels(content, Head).on(grid)
    assert isinstance(arrived, Masks)
    for number, mask_kji in enumerate(masks_nkji, 1):
        assert np.array_equal(arrived.whole(number), mask_kji)


def test_nothing_at_all_is_an_empty_label_map(grid):
    content = write_labels(head_of(grid, []), [])
    assert not read_labels(content, Head).on(grid).any()


def test_a_liver_is_small(tmp_path):
    grid = Grid((300, 512, 512), np.eye(4), (), "1.2", "1.3", "CT")
    k, j, i = np.ogrid[:300, :512, :512]
    ball = ((k - 150) / 90) ** 2 + ((j - 260) / 120) ** 2 + ((i - 200) / 140) ** 2 < 1
    held = [k for k in range(300) if ball[k].any()]
    layers = [[labels_module.SliceName(sop_instance_uid=f"1.2.{k}") for k in held]]
    content = write_labels(head_of(grid, layers), [ball[k].astype(np.uint8) for k in held])
    assert len(content) < 1 << 20


def broken(grid, kind: str) -> bytes:
    labels_kji = spotted(grid)
    layers, planes = layers_of(labels_kji, grid)
    head = head_of(grid, layers)
    text = json.dumps(head).encode()
    voxels = b"".join(plane.tobytes() for plane in planes)
    whole = struct.pack("<I", len(text)) + text
    match kind:
        case "nothing":
            return b""
        case "a head that ends early":
            return whole[:-5]
        case "a head that is no JSON":
            return struct.pack("<I", 3) + b"{,}"
        case "voxels too many":
            return whole + gzip.compress(voxels + b"\0")
        case "voxels too few":
            return whole + gzip.compress(voxels[:-1])
        case "voxels cut off":
            return whole + gzip.compress(voxels)[:-12]
        case "no gzip":
            return whole + voxels
        case "more after the voxels":
            return whole + gzip.compress(voxels) + b"more"
        case "a value without a segment":
            return write_labels(head_of(grid, layers, numbers=(1, 2)), planes)
        case "a value within a gap":
            return write_labels(head_of(grid, layers, numbers=(1, 3, 9)), planes)
        case "two of one number":
            return write_labels(head_of(grid, layers, numbers=(1, 2, 2, 3)), planes)
        case "a number beyond the bits":
            return write_labels(head_of(grid, layers, numbers=(1, 2, 3, 256)), planes)
        case "a slice twice":
            return write_labels(head_of(grid, [[*layers[0][:-1], layers[0][0]]]), planes)
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    [
        "nothing",
        "a head that ends early",
        "a head that is no JSON",
        "voxels too many",
        "voxels too few",
        "voxels cut off",
        "no gzip",
        "more after the voxels",
        "a value without a segment",
        "a value within a gap",
        "two of one number",
        "a number beyond the bits",
        "a slice twice",
    ],
)
def test_what_is_broken_is_refused(grid, kind):
    with pytest.raises(InvalidLabels):
        read_labels(broken(grid, kind), Head).on(grid)


def test_another_grid_is_refused_before_anything_is_inflated(grid, tmp_path):
    wide = read_grid(write_series(tmp_path, shape_kji=(9, 14, 12), name="b"))
    layers, _ = layers_of(spotted(grid), grid)
    with pytest.raises(OtherGrid, match="14 x 11"):
        read_labels(write_labels(head_of(grid, layers), []), Head).on(wide)
    other = read_grid(write_series(tmp_path / "c", shape_kji=(9, 14, 11), name="c"))
    with pytest.raises(ForeignSegmentation, match="7 slices"):
        read_labels(write_labels(head_of(grid, layers), []), Head).on(other)


def test_a_small_body_cannot_become_a_large_one(grid, monkeypatch):
    layers, planes = layers_of(spotted(grid), grid)
    text = json.dumps(head_of(grid, layers)).encode()
    bomb = struct.pack("<I", len(text)) + text + gzip.compress(bytes(1 << 24))
    with pytest.raises(InvalidLabels, match="announced"):
        read_labels(bomb, Head).on(grid)
    monkeypatch.setattr(labels_module, "_MOST_VOXELS", 1000)
    with pytest.raises(TooLarge):
        read_labels(write_labels(head_of(grid, layers), planes), Head)


def test_a_refusal_names_no_uid(grid):
    head = head_of(grid, [], StudyInstanceUID="Muster^Max")
    with pytest.raises(InvalidLabels) as refused:
        read_labels(write_labels(head, []), Head)
    assert "Muster" not in str(refused.value) and "StudyInstanceUID" in str(refused.value)
