"""Faces off heads, without any server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dicom.errors import InputError, InvalidRequest, NotDicom
from node.commands.common import Device, out, progress_bar

if TYPE_CHECKING:
    from models.deface.series import DefacedSeries, DefacingPass


def deface(
    source: Annotated[Path, typer.Argument(exists=True, help="A DICOM file or folder.")],
    target: Annotated[Path, typer.Argument(help="A folder; made when absent.")],
    picture: Annotated[
        Path | None,
        typer.Option(help="A PNG of the head's surface before and after, to judge by."),
    ] = None,
    device: Device = "auto",
) -> None:
    """Take the faces off T1-weighted MR of heads; exit code 3: some series were held back.

    Brain voxels stay as they are. A series that cannot show a face is copied; one that may show a
    face which is not surely gone is not written. UIDs stay: de-identification replaces them.
    """
    from models.deface.series import DefacingPass, brain_by_bundle

    inside = source.resolve()
    if target.resolve() == inside or inside in target.resolve().parents:
        raise InvalidRequest("the target folder must not lie within the source folder")
    heads: list[DefacedSeries] = []
    faces = DefacingPass(source, brain_by_bundle(device=device), tell=heads.append)
    paths = [source] if source.is_file() else sorted(p for p in source.rglob("*") if p.is_file())
    done: Counter[str] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    with progress_bar("{task.completed}/{task.total} files") as bar:
        task = bar.add_task("defacing", total=len(paths))
        for path in paths:
            name = path.name if source.is_file() else path.relative_to(source)
            try:
                done[_written(path, target / name, faces)] += 1
            except InputError as error:
                held[error.code, error.message] += 1
            bar.advance(task)
    out.print(
        f"{done['defaced']} files defaced, {done['copied']} copied, {held.total()} held back",
        highlight=False,
    )
    for check in (head.check for head in heads):
        out.print(
            f"  a head: {check.brain_voxels_changed} voxels of {check.brain_ml:.0f} ml of brain "
            f"changed; the face is {check.median_mm:.0f} mm farther back, "
            f"{100 * check.left:.1f} % of it is left",
            highlight=False,
        )
    for (code, message), count in held.most_common():
        out.print(f"  {count} x {code}: {message}", highlight=False)
    if picture is not None and heads:
        _write_portraits(heads[-1], picture)
    raise typer.Exit(3 if held else 0)


def _written(path: Path, target: Path, faces: DefacingPass) -> str:
    """Write one file without the face, or as it is where it shows none; whole or not at all."""
    from pydicom import dcmread

    from dicom.part10 import PARSER_ERRORS, Extent, encoded, quiet_pydicom, write_whole
    from models.deface.series import declared

    with path.open("rb") as file, quiet_pydicom():
        try:
            ds = dcmread(file)
        except PARSER_ERRORS:
            raise NotDicom("the bytes are no DICOM file") from None
        faceless = faces(ds)
        if faceless is None:
            write_whole(target, b"", file, Extent(0, path.stat().st_size))
            return "copied"
        write_whole(target, encoded(declared(faceless)), file, Extent(0, 0))
    return "defaced"


def _write_portraits(head: DefacedSeries, picture: Path) -> None:
    """Write how a head looks before, above, and after."""
    import imagecodecs
    import numpy as np

    from models.deface.portrait import portrait

    volume = head.volume
    before = portrait(volume.voxels_kji, volume.affine_lps)
    after = portrait(volume.voxels_kji, volume.affine_lps, head.gone_kji)
    picture.write_bytes(imagecodecs.png_encode(np.vstack([before, after])))
