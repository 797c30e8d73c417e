"""Segmentations without any server: written from labels, read into labels, described."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from dicom.errors import InputError, InvalidSettings, MixedSeries, NoGeometry, NotAnImage
from node.commands.common import out

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from dicom.seg import DecodedSeg, Masks, Segment, SegmentationType
    from dicom.study import Series
    from dicom.volume import Grid

seg_app = typer.Typer(help="DICOM Segmentations.", no_args_is_help=True)

_SEGMENTS = "segments.json"
_FORMATS = ".nii, .nii.gz, .npy or a folder"


@seg_app.command("encode")
def encode(
    labels: Annotated[
        Path,
        typer.Argument(
            exists=True,
            help="Labels as .nii, .nii.gz or .npy; a .npy of four axes (segments first) or a "
            "folder of NIfTI files, 1.nii.gz, 2.nii.gz ..., for segments that overlap.",
        ),
    ],
    series: Annotated[Path, typer.Argument(exists=True, help="The DICOM series they lie on.")],
    target: Annotated[Path, typer.Argument(help="The SEG that is written.")],
    segments: Annotated[
        Path,
        typer.Option(exists=True, help="JSON: what each number is, in codes. See docs/seg.md."),
    ],
    type_: Annotated[
        str, typer.Option("--type", help="auto, binary, labelmap or fractional.")
    ] = "auto",
    rle: Annotated[bool, typer.Option(help="Compress label maps and fractions.")] = True,
    description: Annotated[str, typer.Option(help="SeriesDescription.")] = "Segmentation",
    series_number: Annotated[int, typer.Option(min=1, help="SeriesNumber.")] = 9001,
) -> None:
    """Write labels as a Segmentation that refers to its series, and check it voxel for voxel."""
    from dicom.codes import ARTIFICIAL_INTELLIGENCE
    from dicom.seg import Algorithm, Form, ResultUids, check_seg, write_seg
    from dicom.uids import derived_uid
    from dicom.volume import read_grid

    described, name, version = _described(segments)
    grid = read_grid(_series_in(series))
    drawn = _drawn(labels, grid, len(described))
    key = _digest(labels, segments) + grid.series_uid
    write_seg(
        target,
        drawn,
        grid,
        described,
        algorithm=Algorithm(name, version, name, ARTIFICIAL_INTELLIGENCE),
        uids=ResultUids(
            derived_uid(key, "series"),
            derived_uid(key, "instance"),
            tuple(derived_uid(key, "tracking", str(each.number)) for each in described),
        ),
        series_number=series_number,
        series_description=description,
        content_label="SEGMENTATION",
        created=datetime.now().astimezone(),
        form=Form(_type(type_), rle=rle),
    )
    check_seg(target, drawn, grid)
    out.print(
        f"[green]✓[/] {target}: {len(described)} segments, "
        f"{target.stat().st_size / 1e6:.1f} MB, read back and equal",
        highlight=False,
    )


@seg_app.command("decode")
def decode(
    seg: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A DICOM SEG.")],
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[SERIES] OUT",
            help=f"The folder of its series, to lie on its slices; then {_FORMATS}.",
        ),
    ],
) -> None:
    """Read a Segmentation into one label map, or into a folder with one file a segment.

    Without the series it has a grid of its own. A folder keeps segments that overlap, and holds
    segments.json, from which `radloop seg encode` makes the same again.
    """
    from dicom.seg import decode_seg
    from dicom.volume import read_grid

    if len(paths) > 2:
        raise typer.BadParameter("at most a series and OUT")
    target = paths[-1]
    grid = read_grid(_series_in(paths[0], _referenced(seg))) if len(paths) == 2 else None
    decoded = decode_seg(seg, grid)
    if target.suffix == ".npy":
        import numpy as np

        np.save(target, decoded.labels())
    elif target.name.endswith((".nii", ".nii.gz")):
        _write_nifti(target, decoded.labels(), decoded)
    else:
        _write_folder(target, decoded)
    out.print(
        f"[green]✓[/] {target}: {len(decoded.segments)} segments on "
        f"{' x '.join(str(size) for size in decoded.shape_kji)} voxels",
        highlight=False,
    )


@seg_app.command("info")
def info(
    seg: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A DICOM SEG.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, for programs.")] = False,
) -> None:
    """Say what a Segmentation holds: its form, its segments in codes, their voxels and volumes."""
    from dicom.seg import decode_seg

    facts = _facts(decode_seg(seg))
    if as_json:
        out.print(json.dumps(facts), highlight=False, markup=False, soft_wrap=True)
        return
    size = " x ".join(str(size) for size in facts["shape_kji"])
    out.print(
        f"{facts['type']}, {facts['frames']} frames, {size} voxels, {facts['transfer_syntax']}",
        highlight=False,
    )
    table = Table("number", "label", "type", "region", "side", "voxels", "ml", "made by", box=None)
    for each in facts["segments"]:
        table.add_row(
            str(each["number"]),
            each["label"],
            each["type"]["meaning"],
            each["region"]["meaning"] if each["region"] else "",
            each["laterality"]["meaning"] if each["laterality"] else "",
            str(each["voxels"]),
            "" if each["ml"] is None else f"{each['ml']:.2f}",
            each["algorithm_name"] or each["algorithm_type"].lower(),
        )
    out.print(table)


# --- labels in ----------------------------------------------------------------------------------


def _drawn(path: Path, grid: Grid, segments: int) -> npt.NDArray[np.generic] | Masks:
    """Return the labels in a file or folder, on the grid."""
    import numpy as np

    from dicom.seg import Masks, onto_grid
    from models.nifti import is_nifti, read_nifti

    if path.is_dir():
        files = [path / f"{number}.nii.gz" for number in range(1, segments + 1)]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise InvalidSettings(f"{missing[0]} is missing in the folder of labels")
        return Masks.of(_mask(onto_grid(*read_nifti(file), grid)) for file in files)
    if is_nifti(path):
        return _whole(onto_grid(*read_nifti(path), grid))
    if path.suffix != ".npy":
        raise InvalidSettings(f"labels are read from {_FORMATS}")
    try:
        voxels = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, EOFError):
        raise InvalidSettings("the labels are no NumPy array, or damaged") from None
    return Masks.of(voxels) if voxels.ndim == 4 else _whole(voxels)


def _mask(voxels_kji: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return a mask of zeros and ones as such, whatever type its file holds it in."""
    import numpy as np

    inside = voxels_kji.astype(np.bool_)
    return inside if np.array_equal(inside, voxels_kji) else voxels_kji


def _whole(voxels_kji: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Return labels as whole numbers, which NIfTI readers hand out as floating-point ones."""
    import numpy as np

    if voxels_kji.dtype.kind != "f":
        return voxels_kji
    whole = voxels_kji.astype(np.int32)
    if not np.array_equal(whole, voxels_kji):
        raise InvalidSettings("labels are whole numbers; shares need one mask a segment")
    return whole


def _described(path: Path) -> tuple[tuple[Segment, ...], str, str]:
    """Return the segments of a JSON file, and the algorithm's name and version."""
    from pydantic import BaseModel, ConfigDict, Field, ValidationError

    from dicom.codes import Code
    from dicom.seg import Segment

    class Row(BaseModel):
        model_config = ConfigDict(extra="forbid")
        number: int = Field(ge=1)
        label: str = Field(min_length=1, max_length=64)
        category: Code
        type: Code
        region: Code | None = None
        laterality: Code | None = None
        rgb: tuple[int, int, int] = Field((255, 255, 255))

    class Rows(BaseModel):
        model_config = ConfigDict(extra="forbid")
        segments: list[Row] = Field(min_length=1)
        algorithm: str = Field("unnamed", min_length=1, max_length=64)
        version: str = Field("0", min_length=1, max_length=64)

    try:
        rows = Rows.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidSettings(f"{path.name}: {place}: {first['msg']}") from None
    segments = tuple(
        Segment(r.number, r.label, r.category, r.type, r.region, r.laterality, r.rgb)
        for r in sorted(rows.segments, key=lambda row: row.number)
    )
    return segments, rows.algorithm, rows.version


def _type(name: str) -> SegmentationType:
    match name:
        case "auto" | "binary" | "labelmap" | "fractional":
            return name
        case _:
            raise typer.BadParameter("--type is auto, binary, labelmap or fractional")


def _digest(labels: Path, segments: Path) -> str:
    digest = hashlib.sha256(segments.read_bytes())
    for file in sorted(labels.iterdir()) if labels.is_dir() else [labels]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _series_in(folder: Path, wanted: Sequence[str] = ()) -> Series:
    """Return the series of images in a folder; of several, the one that is referred to."""
    from dicom.folder import read_folder
    from dicom.volume import describe_series

    every = [series for study in read_folder(folder).studies for series in study.series]
    named = [series for series in every if series.series_uid in wanted]
    if len(named) == 1:
        return named[0]
    images = [series for series in every if describe_series(series).slice_count]
    if not images:
        raise NotAnImage("the folder holds no images")
    if len(images) > 1:
        raise MixedSeries(f"the folder holds {len(images)} series of images; give one")
    return images[0]


def _referenced(seg: Path) -> list[str]:
    from pydicom import dcmread

    from dicom.part10 import PARSER_ERRORS

    try:
        ds = dcmread(seg, specific_tags=["ReferencedSeriesSequence"])
        return [str(item.SeriesInstanceUID) for item in ds.get("ReferencedSeriesSequence") or ()]
    except PARSER_ERRORS:
        return []  # reading it says what is wrong


# --- labels out ---------------------------------------------------------------------------------


def _write_nifti(path: Path, voxels_kji: npt.NDArray[Any], decoded: DecodedSeg) -> None:
    from models.nifti import write_labels

    if decoded.affine_lps is None:
        raise NoGeometry("the segmentation does not say where it lies; write .npy instead")
    write_labels(path, voxels_kji, decoded.affine_lps)


def _write_folder(folder: Path, decoded: DecodedSeg) -> None:
    """Write one file a segment, numbered from 1, and what they are."""
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    for number, segment in enumerate(decoded.segments, 1):
        if decoded.kind == "FRACTIONAL":
            _write_nifti(folder / f"{number}.nii.gz", decoded.shares(segment.number), decoded)
        else:
            mask = decoded.mask(segment.number).view(np.uint8)
            _write_nifti(folder / f"{number}.nii.gz", mask, decoded)
    rows = [
        {**asdict(segment), "number": number} for number, segment in enumerate(decoded.segments, 1)
    ]
    (folder / _SEGMENTS).write_text(json.dumps({"segments": rows}, indent=2) + "\n")


def _facts(decoded: DecodedSeg) -> dict[str, Any]:
    import numpy as np
    from pydicom.uid import UID

    voxels = decoded.voxels()
    affine = decoded.affine_lps
    voxel_ml = None if affine is None else float(abs(np.linalg.det(affine[:3, :3]))) / 1000
    overlap: bool | None
    try:
        decoded.labels()
        overlap = False
    except InputError as error:
        if error.code != "overlapping_segments":
            raise
        overlap = True
    return {
        "type": decoded.kind,
        "transfer_syntax": UID(decoded.stored.parsed.syntax).name,
        "frames": len(decoded.places),
        "shape_kji": list(decoded.shape_kji),
        "affine_lps": None if affine is None else affine.tolist(),
        "overlap": overlap,
        "segments": [
            {
                **asdict(segment),
                "voxels": voxels[segment.number],
                "ml": None if voxel_ml is None else round(voxels[segment.number] * voxel_ml, 4),
                "algorithm_type": origin.algorithm_type,
                "algorithm_name": origin.algorithm_name,
                "tracking_id": origin.tracking_id,
                "tracking_uid": origin.tracking_uid,
            }
            for segment, origin in zip(decoded.segments, decoded.origins, strict=True)
        ],
    }
