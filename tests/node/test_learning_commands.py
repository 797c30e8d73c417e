"""From a folder to a better bundle, in the shell: import, train, evaluate."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom.errors import (
    CannotTrain,
    Conflict,
    InvalidGraph,
    InvalidPlan,
    InvalidRequest,
    NotFound,
    PatientInTwoSplits,
)
from models.learning.cases import read_dataset
from models.registry import Registry
from pipelines.store import Alarms
from tests.learning import kits
from tests.node.front import migrated_database
from tests.shell import radloop

SMALL = (
    'network={"kind":"unet","channels":[8,16,16],"strides":[2,2],"residual_units":1}',
    "patch=[32,32]",
    "batch=4",
    "steps_an_epoch=20",
    "rate=0.01",
    "average=0.8",
)

SMALL3 = 'network={"kind":"unet","channels":[4,8],"strides":[2],"residual_units":0}'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of discs with their masks, two of each person."""
    folder = tmp_path_factory.mktemp("learning")
    draw = np.random.default_rng(2)
    for name in ("images", "labels"):
        (folder / "in" / name).mkdir(parents=True)
    j, i = np.indices((48, 48))
    for number in range(10):
        at = draw.uniform(14, 34, 2)
        disc = (j - at[0]) ** 2 + (i - at[1]) ** 2 < 64
        grey = np.clip(90 + 80 * disc + draw.normal(0, 20, disc.shape), 0, 255).astype(np.uint8)
        stem = f"person{number // 2}_{number}"
        Image.fromarray(grey).save(folder / "in" / "images" / f"{stem}.png")
        Image.fromarray((disc * 255).astype(np.uint8)).save(
            folder / "in" / "labels" / f"{stem}.png"
        )
    return folder


def settings(*changes: str) -> list[str]:
    return ["--threads", "1", *(word for change in changes for word in ("--set", change))]


def test_from_pictures_to_a_bundle_and_its_figures(folder: Path):
    imported = radloop(
        "datasets", "import", "in", "--layout", "pairs", "--name", "discs",
        "--class", "1=Liver", "--patient", r"(person\d)", "--modality", "DX",
        "--license", "CC0", cwd=folder,
    )  # fmt: skip
    assert imported.exit_code == 0, imported.output
    assert "discs@1  6 train, 2 validation, 2 test" in imported.output
    assert "radloop train --dataset discs" in imported.output  # what comes next
    assert "counts as a patient" not in imported.output
    again = radloop(
        "datasets", "import", "in", "--layout", "pairs", "--name", "discs",
        "--class", "1=Liver", "--patient", r"(person\d)", "--modality", "DX",
        "--license", "CC0", cwd=folder,
    )  # fmt: skip
    assert isinstance(again.exception, Conflict)
    shown = radloop("datasets", "show", "discs", "--check", cwd=folder)
    assert "CC0" in shown.output
    assert "discs@1" in radloop("datasets", "list", cwd=folder).output
    assert "nothing changed" in radloop("datasets", "diff", "discs@1", "discs@1", cwd=folder).output

    planned = radloop(
        "train", "--dataset", "discs", "--task", "segmentation-2d", "--plan", cwd=folder
    )
    assert planned.exit_code == 0, planned.output
    assert "U-Net" in planned.output
    wrong = radloop(
        "train", "--dataset", "discs", "--name", "x", "--set", "patch=[33,33]", cwd=folder
    )
    assert isinstance(wrong.exception, InvalidPlan)
    assert "a multiple of" in str(wrong.exception)

    for task in ("classification", "segmentation-3d", "multi-label"):
        other = radloop("train", "--dataset", "discs", "--task", task, cwd=folder)
        assert isinstance(other.exception, CannotTrain)
        assert f"is for segmentation in 2D, not for {task}" in str(other.exception)
    unknown = radloop("train", "--dataset", "discs", "--task", "guessing", cwd=folder)
    assert isinstance(unknown.exception, InvalidRequest)

    (folder / "general").mkdir()  # a folder is no graph, whatever it is called
    for name in ("general", "polyp"):  # one that is shipped, and a recipe's
        drawn = radloop("train", "--dataset", "discs", "--augment", name, "--plan", cwd=folder)
        assert drawn.exit_code == 0, drawn.exception
    nowhere = radloop("train", "--dataset", "discs", "--augment", "nowhere", "--plan", cwd=folder)
    assert isinstance(nowhere.exception, InvalidGraph)
    assert "general, retina, vessels" in str(nowhere.exception)

    weak = radloop(
        "train", "--dataset", "discs", "--name", "discs", *settings(*SMALL, "steps=5"), cwd=folder
    )
    assert weak.exit_code == 0, weak.output
    strong = radloop(
        "train", "--dataset", "discs", "--name", "discs", "--version", "0.2.0",
        *settings(*SMALL, "steps=120"), cwd=folder,
    )  # fmt: skip
    assert strong.exit_code == 0, strong.output
    listed = radloop("models", "list", cwd=folder).output
    assert "discs@0.2.0" in listed and "chest_marker@0.1.0" in listed  # whole, on 80 columns

    compared = radloop(
        "evaluate", "discs@0.2.0", "--dataset", "discs", "--against", "discs@0.1.0",
        "--json", "figures.json", cwd=folder,
    )  # fmt: skip
    assert compared.exit_code == 0, compared.output
    figures = json.loads((folder / "figures.json").read_text())
    better, worse = (one["intervals"]["dice"]["mean"] for one in figures["evaluations"])
    assert better > 0.85
    assert figures["gain"]["mean"] == pytest.approx(better - worse)
    assert f"{better:.3f}" in compared.output
    # Pictures say no spacing: their lengths are not millimetres.
    assert {one["unit"] for one in figures["evaluations"]} == {"pixels"}
    assert "HD95 pixels" in compared.output


def test_a_cascade_learns_both_its_models_by_one_command(tmp_path: Path):
    kits(tmp_path / "data" / "datasets" / "kits@1")
    small = (
        "patch=[16,16,16]",
        "steps=2",
        "steps_an_epoch=2",
        "batch=1",
        "spacing_mm=null",
        SMALL3,
    )
    at = ("--data", str(tmp_path / "data"))
    learnt = radloop(
        "train", "--dataset", "kits", "--name", "kt", *at, *settings(*small), cwd=tmp_path
    )
    assert learnt.exit_code == 0, learnt.exception
    assert "First kt_first@0.1.0: Kidneys on" in learnt.output and "Then kt@0.1.0" in learnt.output
    bundles = Registry((tmp_path / "data" / "bundles",))
    after = bundles.get("kt").after
    assert (
        after is not None and after.bundle == "kt_first@0.1.0" == bundles.get("kt_first").identity
    )
    whole = radloop("train", "--dataset", "kits", "--recipe", "none", "--plan", *at, cwd=tmp_path)
    assert "spacing_mm" in whole.output and "the recipe:" not in whole.output


def test_classes_that_nobody_names_are_numbered_and_are_body_structures(
    folder: Path, tmp_path: Path
):
    made = radloop(
        "datasets", "import", str(folder / "in"), "--layout", "pairs", "--name", "things",
        cwd=tmp_path,
    )  # fmt: skip
    assert made.exit_code == 0, made.exception
    assert "Class 1" in made.output and "a body structure" in made.output
    assert "Each file counts as a patient" in made.output
    assert "Few patients" not in made.output
    nobody = ("--validation", "0", "--test", "0", "--name", "few")
    few = radloop(
        "datasets", "import", str(folder / "in"), "--layout", "pairs", *nobody, cwd=tmp_path
    )
    assert "Few patients" in few.output
    planned = radloop("train", "--dataset", "things", "--plan", cwd=tmp_path)
    assert planned.exit_code == 0, planned.exception
    (dataset,) = tmp_path.rglob("things@1")
    (row, *others) = read_dataset(dataset).dataset.segments
    assert (row.number, row.label, row.type.value) == (1, "Class 1", "123037004")
    named = radloop(
        "datasets", "import", str(folder / "in"), "--layout", "pairs", "--name", "livers",
        *("--class", "1=liver"), *(f"--class={n}=Thing {n}" for n in range(2, len(others) + 2)),
        cwd=tmp_path,
    )  # fmt: skip
    assert named.exit_code == 0, named.exception
    (dataset,) = tmp_path.rglob("livers@1")
    assert read_dataset(dataset).dataset.segments[0].type.meaning == "Liver"


def test_mistakes_have_codes(folder: Path, tmp_path: Path):
    missing = radloop("train", "--dataset", "none", "--name", "x", cwd=tmp_path)
    assert isinstance(missing.exception, NotFound)
    begin = ("datasets", "import", str(folder / "in"), "--name", "x", "--layout")
    assert isinstance(radloop(*begin, "guess", cwd=tmp_path).exception, InvalidRequest)
    wrong = radloop(*begin, "pairs", "--class", "one", cwd=tmp_path)
    assert isinstance(wrong.exception, InvalidRequest)
    (tmp_path / "splits.json").write_text('{"train": ["a"], "test": ["a"]}')
    twice = radloop(*begin, "pairs", "--splits", "splits.json", cwd=tmp_path)
    assert isinstance(twice.exception, PatientInTwoSplits)


def test_an_alarm_is_listed_until_somebody_has_seen_to_it(tmp_path: Path) -> None:
    database = migrated_database(tmp_path / "radloop.db")
    raised = Alarms(database).raise_alarm("effort", bundle="liver@1.0.0", message="they draw more")
    database.close()
    at = ("--data", str(tmp_path))
    said = radloop("alarms", "list", *at, cwd=tmp_path).stdout
    assert "liver@1.0.0" in said and raised.id[:8] in said
    done = radloop("alarms", "settle", raised.id[:6], *at, cwd=tmp_path)
    assert done.exit_code == 0, done.exception
    assert "No alarm is open" in radloop("alarms", "list", *at, cwd=tmp_path).stdout
    assert raised.id[:8] in radloop("alarms", "list", "--all", *at, cwd=tmp_path).stdout
    assert isinstance(radloop("alarms", "settle", "zz", *at, cwd=tmp_path).exception, NotFound)
