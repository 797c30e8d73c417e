"""What the series of a folder are, without any server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dicom.volume.values import Mending
from node.commands.common import out

if TYPE_CHECKING:
    from dicom.volume.report import PictureReport, SeriesReport, VolumeReport

volume_app = typer.Typer(help="Series as volumes.", no_args_is_help=True)

_MOST_NAMES = 6


@volume_app.command("info")
def info(
    folder: Annotated[Path, typer.Argument(exists=True, help="A DICOM file or folder.")],
    mend: Annotated[
        list[Mending] | None,
        typer.Option(help="Look as a model does that allows this; may be given several times."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list, for programs.")] = False,
) -> None:
    """Say what each series is, or the code why it is no volume and what to do.

    Exit code 1: not one series can be read.
    """
    from dicom.folder import read_folder
    from dicom.volume.report import report_series

    read = read_folder(folder)
    reports = [
        report_series(series, mend=frozenset(mend or ()))
        for study in read.studies
        for series in study.series
    ]
    if as_json:
        out.print(
            json.dumps([_plain(report) for report in reports]),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    else:
        _show(reports)
        if read.passed_over:
            out.print(f"{read.passed_over} files are no DICOM instance", highlight=False)
    raise typer.Exit(0 if any(report.error is None for report in reports) else 1)


def _show(reports: list[SeriesReport]) -> None:
    """Print a line a series; what is too long for a terminal goes on in the next line."""
    refused: Counter[tuple[str, str]] = Counter()
    for number, report in enumerate(reports, 1):
        modality = report.facts.modality if report.facts else report.series.modality
        head = f"{number:>3}  {modality or '-':<9}  {report.kind or '-':<14}"
        out.print(head + "  " + _what(report), highlight=False, markup=False, soft_wrap=True)
        if report.error is not None:
            refused[report.error.code, report.error.advice] += 1
    for (code, advice), count in refused.most_common():
        out.print(f"{count} x {code}: {advice}", highlight=False, markup=False, soft_wrap=True)


def _what(report: SeriesReport) -> str:
    """Return shape, spacing, plane, unit and what varies, or why there is nothing."""
    described = f'"{report.facts.description}"' if report.facts and report.facts.description else ""
    if report.error is not None:
        return "  ".join(filter(None, [f"{report.error.code}: {report.error.message}", described]))
    words = [word for word in _geometry(report) if word]
    if report.pictures:
        colour = "colour" if any(p.colour for p in report.pictures) else "grey scale"
        words.append(f"{len(report.pictures)} x {colour}")
    else:
        words.extend(_several(report.volumes))
    return "  ".join(filter(None, [*words, described]))


def _several(volumes: tuple[VolumeReport, ...]) -> list[str]:
    words = [volumes[0].unit or "no unit"]
    if len(volumes) > 1:
        keywords = list(dict.fromkeys(key for v in volumes for key in v.varies))
        names = [v.name for v in volumes[:_MOST_NAMES]]
        more = ["..."] if len(volumes) > _MOST_NAMES else []
        words.append(f"{len(volumes)} volumes by {', '.join(keywords)}: {'; '.join(names + more)}")
    mended = sorted({mending for v in volumes for mending in v.mended})
    if mended:
        words.append(f"mended: {', '.join(mended)}")
    return words


def _geometry(report: SeriesReport) -> tuple[str, str, str]:
    """Return size, spacing and plane; several, where the volumes or pictures differ."""
    if report.volumes:
        return (
            _each(" x ".join(map(str, v.shape_kji)) for v in report.volumes),
            _each(" x ".join(f"{mm:.4g}" for mm in v.spacing_kji) + " mm" for v in report.volumes),
            _each(f"{v.orientation} {v.axes}" for v in report.volumes),
        )
    return (
        _each(f"{p.frames} x {p.rows} x {p.columns}" for p in report.pictures),
        _each(_pixel(p) for p in report.pictures),
        "",
    )


def _pixel(picture: PictureReport) -> str:
    if picture.spacing is None:
        return "no pixel spacing"
    spacing = picture.spacing
    return f"{spacing.row_mm:.4g} x {spacing.column_mm:.4g} mm by {spacing.attribute}"


def _each(words: Iterable[str]) -> str:
    return " | ".join(dict.fromkeys(words))


def _plain(report: SeriesReport) -> dict[str, Any]:
    return {
        "series": report.series.series_uid,
        "instances": len(report.series.instances),
        "modality": report.facts.modality if report.facts else report.series.modality,
        "kind": report.kind,
        "description": report.facts.description if report.facts else None,
        "volumes": [_plain_volume(volume) for volume in report.volumes],
        "pictures": [_plain_picture(picture) for picture in report.pictures],
        "error": None
        if report.error is None
        else {
            "code": report.error.code,
            "message": report.error.message,
            "advice": report.error.advice,
        },
    }


def _plain_volume(volume: VolumeReport) -> dict[str, Any]:
    return {
        "name": volume.name,
        "shape_kji": volume.shape_kji,
        "spacing_kji_mm": volume.spacing_kji,
        "orientation": volume.orientation,
        "axes": volume.axes,
        "unit": volume.unit,
        "varies": volume.varies,
        "mended": volume.mended,
    }


def _plain_picture(picture: PictureReport) -> dict[str, Any]:
    spacing = picture.spacing
    return {
        "frames": picture.frames,
        "rows": picture.rows,
        "columns": picture.columns,
        "colour": picture.colour,
        "spacing_mm": None if spacing is None else [spacing.row_mm, spacing.column_mm],
        "spacing_from": None if spacing is None else spacing.attribute,
    }
