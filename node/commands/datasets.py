"""Datasets from the shell: import, look, compare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.table import Table

from dicom.errors import InvalidRequest, PatientInTwoSplits
from node.commands.common import Config, Data, out, progress_bar, settings_for
from node.commands.freezing import freeze, sheet

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.learning.cases import Split
    from models.table import WithoutRow
    from pipelines.datasets import Found, Shelf

datasets_app = typer.Typer(help="Datasets to learn from.", no_args_is_help=True)
datasets_app.command()(freeze)
datasets_app.command()(sheet)


@datasets_app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    layout: Annotated[
        str,
        typer.Option(
            help="pairs, nnunet, decathlon, dicom, rtstruct, folders, table, boxes or coco."
        ),
    ],
    name: Annotated[str, typer.Option(help="The dataset's name.")],
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help='"1=Liver": names, where the layout has none; repeatable.'),
    ] = None,
    recipe: Annotated[
        str, typer.Option(help="Its classes and codes: radloop recipes lists them.")
    ] = "",
    other_values: Annotated[
        list[str] | None,
        typer.Option("--map", help='"3=0": label 3 becomes background; repeatable.'),
    ] = None,
    without: Annotated[
        str,
        typer.Option(help="A bundle that finds markers: they are painted over in every image."),
    ] = "",
    patient: Annotated[
        str, typer.Option(help=r"Whose a file is: a pattern with a group, such as 'Image_(\d+)'.")
    ] = "",
    validation: Annotated[float, typer.Option(min=0, max=1, help="Share of patients.")] = 0.2,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of patients.")] = 0.2,
    seed: Annotated[str, typer.Option(help="Shares patients out in another way.")] = "",
    splits: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help='JSON: {"train": [patients], "validation": [...]}.'
        ),
    ] = None,
    modality: Annotated[str, typer.Option(help="DICOM's, of the images: MR, CT, DX ...")] = "",
    licence: Annotated[str, typer.Option("--license", help="Of the data.")] = "",
    source: Annotated[str, typer.Option(help="Where the data are from.")] = "",
    config: Config = None,
    data: Data = None,
) -> None:
    """Freeze a folder as the next version of a dataset, split by patient, with a hash."""
    from dicom.codes import BODY_STRUCTURE
    from models.learning.recipe import get_recipe
    from pipelines.datasets import Wanted, get_layout
    from pipelines.exports.cases import Shares

    shelf = _shelf(config, data)
    change, row = _clearing(without, config, data) if without else (None, None)
    named = dict(_class_of(one) for one in classes or [])
    chosen = get_recipe(recipe) if recipe else None
    wanted = Wanted(
        name=name,
        shares=Shares(validation, test, seed),
        splits=_read_splits(splits) if splits else {},
        classes=named or (chosen.classes if chosen else {}),
        segments=chosen.segment if chosen else (),
        findings=chosen.finding if chosen else (),
        question=chosen.question if chosen else None,
        recipe=chosen.name if chosen else None,
        change=change,
        without=row,
        mapping=dict(_mapped(one) for one in other_values or []),
        patient=patient,
        modality=modality,
        modalities=chosen.modalities if chosen else (),
        licence=licence,
        source=source,
    )
    with progress_bar("{task.completed}/{task.total}") as progress:
        bar = progress.add_task("reading", total=None)
        frozen = shelf.freeze(
            get_layout(layout),
            folder,
            wanted,
            told=lambda done, of: progress.update(bar, completed=done, total=of),
        )
    dataset = frozen.dataset
    counts = ", ".join(f"{len(dataset.of(split))} {split}" for split in _SPLITS)
    out.print(f"{dataset.identity}  {counts}  sha256 {dataset.sha256[:16]}", highlight=False)
    plain = [row.label for row in dataset.segments if row.type.value == BODY_STRUCTURE.value]
    if plain:
        out.print(
            f"{', '.join(plain)}: no name that DICOM has, so a result says a body structure; "
            'say what it is with --class "1=Liver", or by a recipe.',
            highlight=False,
        )
    if not dataset.segments and not dataset.findings:
        out.print(
            "Its classes have no codes yet: name them as the vocabulary does to make a bundle.",
            highlight=False,
        )
    alone = len({case.patient for case in dataset.cases}) == len(dataset.cases)
    if alone and not patient and layout not in ("dicom", "rtstruct"):
        out.print(
            "Each file counts as a patient. Where some are of one patient, say whose they are, or "
            r"what is tested was learnt from: --patient 'P(\d+)'.",
            highlight=False,
        )
    learning, *others = ({case.patient for case in dataset.of(split)} for split in _SPLITS)
    if len(learning) < 2 or not all(others):
        out.print(
            "Few patients: to learn from it takes two, one more to choose the best epoch by, and "
            "one more to measure on.",
            highlight=False,
        )
    out.print(
        f"To look at it:     radloop datasets sheet {dataset.identity} {dataset.name}.png\n"
        f"To learn from it:  radloop train --dataset {dataset.name} --minutes 60",
        highlight=False,
        soft_wrap=True,
    )


@datasets_app.command("derive")
def derive(
    dataset: Annotated[str, typer.Argument(help="NAME or NAME@VERSION; it stays as it is.")],
    name: Annotated[str, typer.Option(help="What the new one is called.")],
    recipe: Annotated[
        str,
        typer.Option(help="A cascade's: the cases of its first model, or with --after its second."),
    ] = "",
    after: Annotated[
        str, typer.Option(help="NAME@VERSION of the model that looks first in the cascade.")
    ] = "",
    about: Annotated[
        list[str] | None, typer.Option(help="Cut parts about this class; repeatable.")
    ] = None,
    margin: Annotated[float, typer.Option(min=0, help="mm about it.")] = 20.0,
    other_values: Annotated[
        list[str] | None, typer.Option("--map", help='"2=1": label 2 counts as 1; repeatable.')
    ] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Make a dataset of another: other labels, or parts cut out about a structure."""
    from models.learning.cascades import for_first, for_second
    from models.learning.deriving import Derivation
    from models.learning.recipe import get_recipe

    shelf = _shelf(config, data)
    folder = shelf.get(dataset)
    if recipe:
        cascade = get_recipe(recipe)
        if cascade.first is None:
            raise InvalidRequest(f"the recipe {recipe} is no cascade")
        how = for_second(cascade, after) if after else for_first(cascade)
    else:
        numbers = {label: number for number, label in folder.dataset.classes.items()}
        unknown = [each for each in about or () if each not in numbers]
        if unknown:
            raise InvalidRequest(f"{folder.dataset.identity} has no class {unknown[0]}")
        how = Derivation(
            mapping=dict(_mapped(one) for one in other_values or []),
            about=frozenset(numbers[each] for each in about or ()),
            margin_mm=margin,
        )
    made = shelf.derive(folder, name, how).dataset
    out.print(
        f"{made.identity}  {len(made.cases)} of {len(folder.dataset.cases)} cases, "
        f"{', '.join(made.classes.values())}",
        highlight=False,
    )


@datasets_app.command("list")
def list_(config: Config = None, data: Data = None) -> None:
    """List the datasets of this node."""
    shelf = _shelf(config, data)
    if not shelf.names():
        out.print(
            'No dataset is here yet: "radloop datasets import" takes one in from a folder, '
            '"radloop datasets freeze" makes one of what readers corrected.'
        )
        return
    table = Table(box=None)
    table.add_column("dataset", no_wrap=True, overflow="fold")  # what other commands are given
    for column in ("task", "classes", *_SPLITS, "licence", "sha256"):
        table.add_column(column, overflow="fold")
    for name in shelf.names():
        dataset = shelf.get(name).dataset
        counts = [str(len(dataset.of(split))) for split in _SPLITS]
        names = ", ".join(dataset.classes.values())
        kind = f"{dataset.task} {dataset.dimensions}D"
        table.add_row(name, kind, names, *counts, dataset.licence, dataset.sha256[:8])
    out.print(table)


@datasets_app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")],
    check: Annotated[
        bool, typer.Option("--check", help="Read every file and compare its hash.")
    ] = False,
    config: Config = None,
    data: Data = None,
) -> None:
    """Say what a dataset holds: cases, patients, sizes, voxels of each class."""
    from models.learning.cases import class_counts

    folder = _shelf(config, data).get(name)
    dataset = folder.dataset
    if check:
        folder.check()
    out.print(f"[bold]{dataset.identity}[/]  {dataset.task}, {dataset.dimensions}D")
    facts = {
        "sha256": dataset.sha256,
        "channels": ", ".join(dataset.channels),
        "licence": dataset.licence,
        "source": dataset.source,
    }
    for key, value in facts.items():
        if value:
            out.print(f"  {key:10} {value}", highlight=False, soft_wrap=True)
    table = Table("split", "cases", "patients", *dataset.classes.values(), box=None)
    for split in _SPLITS:
        cases = dataset.of(split)
        labelled = [
            case for case in cases if case.label_sha256 or case.boxes or case.finding is not None
        ]
        counts = class_counts(folder, labelled)
        patients = len({case.patient for case in cases})
        voxels = [str(counts[number]) for number in dataset.classes]
        table.add_row(split, str(len(cases)), str(patients), *voxels)
    out.print(table)


@datasets_app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    new: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Say what changed from one version to another."""
    from dataclasses import asdict

    from models.learning.cases import difference

    shelf = _shelf(config, data)
    changes = asdict(difference(shelf.get(old).dataset, shelf.get(new).dataset))
    for what, names in changes.items():
        if names:
            out.print(f"{what.replace('_', ' '):14} {', '.join(names)}", highlight=False)
    if not any(changes.values()):
        out.print("nothing changed")


_SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def _shelf(config: Path | None, data: Path | None) -> Shelf:
    from node import wiring
    from pipelines.datasets import Shelf

    return Shelf(wiring.datasets_folder(settings_for("datasets", config, data)))


def _class_of(text: str) -> tuple[int, str]:
    number, equals, name = text.partition("=")
    if not equals or not number.strip().isdigit() or not name.strip():
        raise InvalidRequest(f"--class is NUMBER=NAME, not {text!r}")
    return int(number), name.strip()


def _clearing(
    name: str, config: Path | None, data: Path | None
) -> tuple[Callable[[Found], Found], WithoutRow]:
    """Return what paints markers over, and what the dataset says of it."""
    from models.predictor import open_predictor
    from models.registry import Registry
    from models.table import WithoutRow
    from node import wiring
    from pipelines.datasets.clearing import clearing

    registry = Registry(wiring.bundle_folders(settings_for("datasets", config, data)))
    bundle = registry.get(name)
    row = WithoutRow(bundle=bundle.identity)
    return clearing(open_predictor(bundle, lambda: registry), row.margin), row


def _mapped(text: str) -> tuple[int, int]:
    number, equals, becomes = text.partition("=")
    if not equals or not number.strip().isdigit() or not becomes.strip().isdigit():
        raise InvalidRequest(f"--map is NUMBER=NUMBER, not {text!r}")
    return int(number), int(becomes)


def _read_splits(path: Path) -> dict[str, Split]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path.name} is no JSON: {error}") from None
    if not isinstance(content, dict) or not set(content) <= set(_SPLITS):
        raise InvalidRequest(f"{path.name} names other splits than {', '.join(_SPLITS)}")
    found: dict[str, Split] = {}
    for split, patients in content.items():
        for patient in patients:
            if found.setdefault(str(patient), cast("Split", split)) != split:
                raise PatientInTwoSplits(f"{path.name}: patient {patient} is in two splits")
    return found
