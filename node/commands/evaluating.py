"""`radloop evaluate`: how good a bundle is on a dataset's split, without any server."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from node.commands.common import Config, Data, Device, out, progress_bar, settings_for

if TYPE_CHECKING:
    from models.learning.cases import DatasetFolder, Split
    from models.learning.evaluating import Evaluation
    from node.settings import Settings


def evaluate(
    bundle: Annotated[str, typer.Argument(help="NAME, NAME@VERSION, or a bundle's folder.")],
    dataset: Annotated[str, typer.Option(help="NAME or NAME@VERSION.")],
    split: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    against: Annotated[
        str | None, typer.Option(help="Another bundle: by how much this one is better.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures there.")
    ] = None,
    device: Device = "auto",
    config: Config = None,
    data: Data = None,
) -> None:
    """Measure a bundle on a dataset's split, on the images' own grid, with confidence intervals."""
    from models.learning.evaluating import gain
    from node import wiring
    from pipelines.datasets import Shelf

    settings = settings_for("evaluate", config, data)
    folder = Shelf(wiring.datasets_folder(settings)).get(dataset)
    found = [
        _evaluated(each, settings, folder, split, device)
        for each in ([bundle] if against is None else [bundle, against])
    ]
    first = found[0]
    for evaluation in found:
        _print_evaluation(evaluation, dict(folder.dataset.classes))
    better = gain(first, found[1]) if against is not None else None
    if better is not None:
        out.print(
            f"gain in Dice  {better.mean:+.4f}  (95 %: {better.low:+.4f} to {better.high:+.4f}, "
            f"{better.patients} patients)",
            highlight=False,
        )
    if len({score.case.patient for score in first.cases}) == 1:
        out.print("One patient: no interval can be told; more are needed to judge by.")
    if json_file is not None:
        content = {
            "evaluations": [_as_json(one) for one in found],
            "gain": None if better is None else asdict(better),
        }
        json_file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        out.print(f"Every case:  {json_file}", highlight=False, soft_wrap=True)


def _evaluated(
    name: str,
    settings: Settings,
    folder: DatasetFolder,
    split: str,
    device: str,
) -> Evaluation:
    from dicom.errors import InvalidRequest
    from models.bundle import read_bundle
    from models.learning.evaluating import evaluate as measure
    from models.predictor import open_predictor
    from models.registry import Registry
    from node import wiring

    if split not in ("train", "validation", "test"):
        raise InvalidRequest(f"there is no split {split!r}")
    chosen: Split = split  # type: ignore[assignment]
    registry = Registry(wiring.bundle_folders(settings))
    bundle = read_bundle(Path(name)) if Path(name).is_dir() else registry.get(name)
    with progress_bar("{task.completed}/{task.total}") as progress:
        bar = progress.add_task(bundle.identity, total=None)
        return measure(
            open_predictor(bundle, lambda: registry, device=device),
            folder,
            split=chosen,
            told=lambda done, of: progress.update(bar, completed=done, total=of),
        )


def _print_evaluation(found: Evaluation, classes: dict[int, str]) -> None:
    from models.learning.comparison import in_unit

    out.print(
        f"[bold]{found.bundle}[/] on {found.dataset}, {found.split}: {len(found.cases)} cases",
        highlight=False,
    )
    if found.cases[0].probability is not None:
        right = found.interval("correct")
        assert right is not None  # every case has an answer
        out.print(f"  accuracy {_spread(right)}", highlight=False)
        return
    names = _FIGURES if found.cases[0].boxes is None else _OF_BOXES
    table = Table("class", box=None)
    for each in names:
        table.add_column(in_unit(each, found.unit), no_wrap=True, justify="right")
    for number, name in (*classes.items(), (None, "all")):
        figures = [found.interval(figure, number) for figure in names.values()]
        table.add_row(name, *("-" if one is None else _spread(one, "\n") for one in figures))
    out.print(table)


_FIGURES = {
    "Dice": "dice",
    "surface Dice": "surface_dice",
    "HD95 mm": "hausdorff95_mm",
    "volume error": "volume_error",
    "added path mm": "added_path_mm",
}


_OF_BOXES = {"average precision": "ap50", "found": "found", "right": "right"}


def _spread(one: Any, between: str = " ") -> str:  # noqa: ANN401 - an Interval, loaded late
    """Return a mean with its interval; of one patient there is none."""
    if one.patients < 2:
        return f"{one.mean:.3f}"
    return f"{one.mean:.3f}{between}({one.low:.3f} to {one.high:.3f})"


def _as_json(found: Evaluation) -> dict[str, Any]:
    content = asdict(found)
    for score, case in zip(found.cases, content["cases"], strict=True):
        case["case"] = score.case.id
        case["patient"] = score.case.patient
    content["unit"] = found.unit
    first = found.cases[0]
    of_masks = _FIGURES if first.boxes is None else _OF_BOXES
    figures = ["correct"] if first.probability is not None else list(of_masks.values())
    intervals = {figure: found.interval(figure) for figure in figures}
    content["intervals"] = {
        figure: None if one is None else asdict(one) for figure, one in intervals.items()
    }
    return content
