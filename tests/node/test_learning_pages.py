"""Learning without code: what the pages and their API say, and who decides."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from dicom.errors import WithdrawnBundle
from models.bundle import read_bundle
from models.learning.cases import write_dataset
from models.learning.planning import Plan
from models.learning.recipe import get_recipe
from models.learning.watching import looks_of
from node import wiring
from node.app import create_app
from node.settings import Settings
from pipelines.learning import Picked, learn_from_corrections, sign
from pipelines.store import EpochView
from pipelines.store.observed import Observations, ShownGreys
from tests.bundles import write_threshold_bundle
from tests.learning import blobs, kits
from tests.node.front import USERS, Front, complete, make_front

SPLITS = ("train",) * 4 + ("validation",) * 2 + ("test",) * 2


@pytest.fixture
def front(tmp_path: Path) -> Front:
    made = make_front(tmp_path)
    blobs(tmp_path / "datasets" / "blobs@1", patients=SPLITS)
    return made


@pytest.fixture
def client(front: Front) -> TestClient:
    return front.client("researcher")


def sent(client: TestClient, **fields: str) -> str:
    """Return the page that answers the form."""
    return client.post("/learning/train", data={"dataset": "blobs@1", **fields}).text


def typed(page: str, name: str) -> str:
    """Return what a text area of the page holds."""
    start = page.index(f'<textarea name="{name}"')
    return page[page.index(">", start) + 1 : page.index("</textarea>", start)].replace("&#34;", '"')


# --- datasets -----------------------------------------------------------------------------------


def test_without_a_dataset_the_page_says_how_to_make_one(tmp_path: Path) -> None:
    client = make_front(tmp_path).client("researcher")
    assert "No dataset yet" in client.get("/learning/datasets").text
    assert "Nothing was learnt here yet" in client.get("/learning").text
    assert "There is nothing to learn from yet" in client.get("/learning/train").text


def test_a_dataset_is_shown_with_figures_pictures_and_what_changed(
    front: Front, client: TestClient, tmp_path: Path
) -> None:
    blobs(tmp_path / "datasets" / "blobs@2", patients=SPLITS[1:])
    content = (tmp_path / "datasets" / "blobs@2" / "dataset.json").read_text()
    changed = content.replace('"version": "1"', '"version": "2"')
    (tmp_path / "datasets" / "blobs@2" / "dataset.json").write_text(changed)
    summary = client.get("/api/learning/datasets/blobs@2").json()
    assert summary["splits"] == {"train": 3, "validation": 2, "test": 2}
    found = client.get("/api/learning/datasets/blobs@2/difference?older=blobs@1").json()
    assert found["removed"] == ["c7"]
    page = client.get("/learning/datasets/blobs@2?older=blobs@1").text
    assert "Cases that are gone</dt><dd>1: c7" in page
    picture = client.get("/api/learning/datasets/blobs@1/sheet.png?split=train")
    assert picture.headers["content-type"] == "image/png"
    (tmp_path / "sheet.png").write_bytes(picture.content)
    pixels = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert pixels.shape == (160, 4 * 164 - 4, 3)
    edge = (pixels == (200, 99, 99)).all(axis=2)
    assert all(edge[:, at * 164 : at * 164 + 160].any() for at in range(4))
    assert client.get("/api/learning/datasets/blobs@1/sheet.png?page=2").status_code == 404


# --- the form -----------------------------------------------------------------------------------


def test_the_plan_is_a_form_with_reasons_and_a_drawn_network(client: TestClient) -> None:
    page = client.get("/learning/train?dataset=blobs@1").text
    elsewhere = {"task", "dimensions", "in_channels", "classes", "network", "why"}
    for name in set(Plan.model_fields) - elsewhere - {"typical_box"}:  # that of detections
        assert f' name="{name}"' in page, name
    folded = page.index("<details")
    assert page.index(' name="loss"') < folded < page.index(' name="decay"')
    assert "weight decay 0.0001" in page  # what is folded away is said in a line
    assert "Dice minds small structures" in page
    assert 'class="diagram" role="img" aria-label="The network: ' in page
    assert "style=" not in page  # the content security policy would drop it


def test_a_field_is_changed_and_a_wrong_one_is_named(client: TestClient) -> None:
    page = sent(client, planned="1", batch="3", patch="48, 48", loss="tversky")
    assert "with 3 in a batch" in page and page.count("<b>changed</b>") == 2
    answer = client.post(
        "/learning/train", data={"dataset": "blobs@1", "planned": "1", "patch": "50, 48"}
    )
    assert answer.status_code == 400
    assert "each side of patch is a multiple of" in answer.text
    assert 'value="50, 48"' in answer.text  # what was typed stays


def test_a_patch_that_outgrows_this_machine_is_said_on_the_form(client: TestClient) -> None:
    first = sent(client)
    assert "more memory than this machine has" not in first
    patch = first.partition('name="was-patch" value="')[2].partition('"')[0]
    grown = {"patch": "65536, 65536", "was-patch": patch, "planned": "blobs@1"}
    assert "more memory than this machine has" in sent(client, **grown)


def test_what_was_not_changed_is_planned_anew(client: TestClient) -> None:
    """Another dataset, or other minutes: only what a person changed stays."""
    page = sent(
        client, planned="blobs@1", minutes="60", steps="1800", batch="3", **{"was-steps": "1800"}
    )
    assert 'value="3600"' in page and page.count("<b>changed</b>") == 1


def test_a_recipes_graph_is_drawn_from_the_beginning_and_goes_with_its_dataset(
    front: Front, client: TestClient, tmp_path: Path
) -> None:
    folder = blobs(tmp_path / "datasets" / "few@1", patients=SPLITS)
    known = get_recipe("chest_lungs")
    own = {"name": "few", "recipe": known.name, "classes": known.classes}
    write_dataset(folder.root, folder.dataset.model_copy(update={**own, "segments": known.segment}))
    page = client.get("/learning/train?dataset=few@1").text
    assert f"the graph of the recipe {known.name}" in page
    assert 'aria-label="The augmentation graph: ' in page
    graph = typed(page, "graph")
    kept = {"graph": graph, "planned": "few@1", "graph-from": known.name}
    assert 'name="graph"' not in sent(client, **kept)  # blobs@1 has no recipe
    assert 'name="graph"' in sent(client, **{**kept, "graph": f"{graph}# mine"})
    without = {**kept, "graph": "", "dataset": "few@1"}
    assert 'name="graph"' not in client.post("/learning/train", data=without).text


def test_both_models_of_a_cascade_are_one_deed(
    front: Front, client: TestClient, tmp_path: Path
) -> None:
    kits(tmp_path / "datasets" / "kits@1")
    page = client.get("/learning/train?dataset=kits@1").text
    assert "First: Kidneys on computed tomography" in page and "Train both" in page
    assert page.count('aria-label="The augmentation graph: ') == 2
    single = {"dataset": "kits@1", "way": "single"}
    assert "Train both" not in client.post("/learning/train", data=single).text
    form = {"dataset": "kits@1", "way": "cascade", "name": "kidney_tumour", "minutes": "10"}
    wrong = client.post("/learning/train", data={**form, "second-rate": "3"})
    assert wrong.status_code == 400 and "less than or equal to 1" in wrong.text
    assert page.count("<svg") == wrong.text.count("<svg") + 1  # the first still fits
    form |= {"first-rate": "0.004", "second-steps": "12", "second-steps_an_epoch": "6"}
    answer = client.post("/learning/train", data={**form, "do": "train"})
    (made,) = front.parts.school.trainings.all()
    assert answer.headers["location"] == f"/learning/trainings/{made.id}"
    assert made.plan["rate"] == 0.004 and made.minutes == 5
    assert made.then is not None and made.then["minutes"] is None  # so many steps end it
    assert made.then["changes"] == {"steps": 12, "steps_an_epoch": 6}
    plans = client.post(
        "/api/learning/cascades/plans", json={"dataset": "kits@1", "second": {"batch": 1}}
    ).json()
    assert plans["second"]["plan"]["batch"] == 1 != plans["first"]["plan"]["batch"]
    assert "Then kidney_tumour@0.1.0 is learnt" in client.get(answer.headers["location"]).text
    asked = {"dataset": "blobs@1", "name": "blobs"}
    refused = client.post("/api/learning/cascades", json=asked)
    assert refused.json()["code"] == "invalid_recipe"


def test_blocks_are_changed_on_the_page_and_an_impossible_one_is_shown(client: TestClient) -> None:
    opened = typed(sent(client, do="open-network"), "design")
    fewer = sent(client, design=opened, do="remove-block:out0")
    assert '"name": "out0"' not in typed(fewer, "design")
    more = sent(
        client,
        design=opened,
        do="add-block",
        **{"new-kind": "convolutions", "new-from": "in0", "new-channels": "7"},
    )
    assert '"channels": 7' in typed(more, "design")
    joined = sent(
        client,
        design=opened,
        do="change-block",
        **{"change-name": "join0", "change-from": "in0, up0, image"},
    )
    assert "in0, up0, image" in joined
    wrong = sent(
        client,
        design=opened,
        do="change-block",
        **{"change-name": "join0", "change-from": "in1, up0"},
    )
    assert "Block join0: in1 has 24 x 24 voxels, up0 has 48 x 48" in wrong
    assert 'class="box box-join box-wrong"' in wrong
    assert 'value="remove-block:join0"' in wrong and 'name="change-name"' in wrong
    gone = sent(client, design=opened, do="remove-block:down1", **{"design-before": opened})
    assert "box-wrong" in gone and typed(gone, "design") != opened
    back = {"design": typed(gone, "design"), "design-before": typed(gone, "design-before")}
    assert typed(sent(client, do="undo-network", **back), "design") == opened
    assert 'name="design"' in wrong  # and can be mended


def test_a_shape_becomes_blocks(client: TestClient) -> None:
    shape = {"shape-channels": "8, 16", "shape-strides": "2", "shape-attention": "1"}
    page = sent(client, do="shape-network", **shape)
    assert '"kind": "attention"' in typed(page, "design")
    shape["shape-strides"] = "2, 2"
    assert "2 of them have 1 strides between them, not 2" in sent(
        client, do="shape-network", **shape
    )


def test_a_graph_is_drawn_previewed_changed_and_refused_in_its_place(
    client: TestClient, tmp_path: Path
) -> None:
    page = sent(client, do="take-graph", shipped="retina")
    assert "<b>176</b> samples in train" in page  # of 4 images: 4 x 4 x 11
    address = page[page.index("/api/learning/previews/") :].split('"')[0]
    picture = client.get(address)
    assert picture.headers["content-type"] == "image/png"
    (tmp_path / "samples.png").write_bytes(picture.content)
    assert Image.open(tmp_path / "samples.png").size == (6 * 154 - 4, 2 * 154 - 4)
    graph = typed(page, "graph")
    wrong = client.post(
        "/learning/train", data={"dataset": "blobs@1", "graph": graph.replace("0.8]", "8]")}
    )
    assert wrong.status_code == 400
    assert 'class="box box-step box-wrong"' in wrong.text  # what can be read of it is drawn
    assert "Node parts: " in wrong.text and "share is a range within 0 and 1" in wrong.text
    missing = client.post(
        "/api/learning/graphs/preview", json={"dataset": "blobs@1", "graph": "nothing"}
    )
    assert missing.json()["code"] == "invalid_graph"
    assert client.get("/api/learning/previews/forgotten").status_code == 404


def test_a_split_is_put_in_by_a_button_and_a_node_behind_one_of_its_shares(
    client: TestClient,
) -> None:
    images = 'seed = 1\n[[node]]\nname = "images"\nkind = "source"\n'
    graph = images + '[[node]]\nname = "train"\nkind = "sink"\nfrom = ["images"]\n'
    add = {"do": "add-node", "node-kind": "split", "node-after": "images"}
    shared = sent(client, graph=graph, **add)
    assert 'from = ["split1:one", "split1:other"]' in typed(shared, "graph")
    assert "<b>4</b> samples in train" in shared  # of both shares: nothing is lost
    assert "<option >split1:other</option>" in shared and "<option >split1</option>" not in shared
    add = {"do": "add-node", "node-kind": "multiply", "node-after": "split1:other"}
    more = sent(client, graph=typed(shared, "graph"), **add)
    assert 'from = ["split1:one", "multiply1"]' in typed(more, "graph")
    assert "<b>7</b> samples in train" in more  # one patient is in the first share, three are twice
    less = sent(client, graph=typed(more, "graph"), do="remove-node:split1")
    assert "<b>12</b> samples in train" in less and "split1" not in typed(less, "graph")


# --- trainings ----------------------------------------------------------------------------------


def test_a_training_is_asked_for_followed_and_called_off(
    front: Front, client: TestClient, tmp_path: Path
) -> None:
    shape = {"shape-channels": "8, 16", "shape-strides": "2", "shape-deep": "1"}
    design = typed(sent(client, do="shape-network", **shape), "design")
    graph = typed(sent(client, do="take-graph", shipped="general"), "graph")
    form = {"dataset": "blobs@1", "design": design, "graph": graph, "name": "blobs"}
    answer = client.post(
        "/learning/train", data={**form, "planned": "1", "batch": "4", "do": "train"}
    )
    assert answer.status_code == 303, answer.text
    where = answer.headers["location"]
    made = front.parts.school.trainings.all()[0]
    assert where == f"/learning/trainings/{made.id}"
    assert made.plan["network"]["kind"] == "blocks" and made.plan["batch"] == 4
    assert made.graph is not None and made.asked_by == USERS["researcher"]
    assert Plan.model_validate(made.plan).network.head.name == "answer"
    assert "Waiting for its turn" in client.get(where).text
    epochs = [
        EpochView(n, 10 * n, 1 / n, 0.2 * n, {"1": 0.3, "2": 0.1}, 0.01, 2.0, 0.1) for n in (1, 2)
    ]
    front.parts.school.trainings.doing(made.id, "learning")
    front.parts.school.trainings.keep_epochs(made.id, epochs, progress=0.25)
    looks = front.parts.school.run_folder(made.id) / "looks"
    looks.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(looks / "0002-1.png")
    assert list(looks_of(looks.parent)) == [2]
    page = client.get(f"/fragments/learning/trainings/{made.id}").text
    assert "25 %" in page and "about 12.0 s left" in page
    assert "Bright 0.300" in page and page.count("<polyline") == 2
    picture = f"/api/learning/trainings/{made.id}/pictures/0002-1"
    assert picture in page and client.get(picture).status_code == 200
    assert client.get(f"{picture}9").status_code == 404
    assert client.post(f"/learning/trainings/{made.id}/cancel").status_code == 303
    assert front.parts.school.trainings.training(made.id).cancel_requested
    deeds = [event.action for event in front.parts.trail.events(limit=10)]
    assert {"training_asked", "training_canceled"} <= set(deeds)


def test_a_name_that_is_none_is_refused_on_the_form(client: TestClient) -> None:
    answer = client.post(
        "/learning/train", data={"dataset": "blobs@1", "name": "No Such Name", "do": "train"}
    )
    assert answer.status_code == 400
    assert "small letters" in answer.text


def test_the_api_plans_and_trains(front: Front, client: TestClient) -> None:
    planned = client.post(
        "/api/learning/plans", json={"dataset": "blobs@1", "changes": {"batch": 2}}
    ).json()
    assert planned["plan"]["batch"] == 2 and planned["why"]["loss"]
    assert planned["parameters"] == sum(block["parameters"] for block in planned["blocks"])
    refused = client.post(
        "/api/learning/plans", json={"dataset": "blobs@1", "changes": {"batch": 0}}
    )
    assert refused.json()["code"] == "invalid_plan" and "batch" in refused.json()["message"]
    made = client.post("/api/learning/trainings", json={"dataset": "blobs@1", "name": "blobs"})
    assert made.status_code == 201
    again = client.post(f"/api/learning/trainings/{made.json()['id']}/cancel").json()
    assert again["state"] == "canceled"
    with client.stream("GET", f"/api/learning/trainings/{made.json()['id']}/events") as told:
        text = "".join(told.iter_text())
    assert "event: training" in text and text.endswith("event: end\ndata: {}\n\n")


@pytest.mark.parametrize(("people", "stage"), [("one", "current"), ("two", "candidate")])
def test_so_many_people_decide_as_the_settings_say(
    tmp_path: Path, front: Front, people: str, stage: str
) -> None:
    settings = Settings.model_validate({"data": str(tmp_path), "training": {"promote": people}})
    parts = replace(front.parts, policies=wiring.policies(settings))
    bundle = read_bundle(write_threshold_bundle(parts.school.bundles, "liver"))
    sign(parts.school, bundle, by="anna")
    answer = (
        Front(create_app(parts), parts)
        .client("admin")
        .post(f"/api/learning/models/{bundle.identity}/promote", json={"why": "better"})
    )
    assert answer.json()["stage"] == stage
    page = front.client("admin").get(f"/learning/models/{bundle.identity}").text
    assert f"radloop evaluate {bundle.identity}" in page  # nobody has measured it
    assert ("no version before it" in page) is (stage == "current")
    assert "Roll back" not in page


def test_the_only_version_can_be_withdrawn_and_its_name_then_names_nothing(front: Front) -> None:
    school, client = front.parts.school, front.client("admin")
    first = read_bundle(write_threshold_bundle(school.bundles, "liver"))
    sign(school, first, by="anna")
    page = f"/learning/models/{first.identity}"
    assert client.post(f"{page}/promote", data={"why": "the first"}).is_redirect
    assert "Withdraw liver@0.1.0" in client.get(page).text
    assert "say why" in client.post(f"{page}/withdraw").text.lower()
    assert school.registry.get("liver").identity == "liver@0.1.0"

    assert client.post(f"{page}/withdraw", data={"why": "misses lesions"}).is_redirect
    text = client.get(page).text
    assert "Withdrawn" in text and "misses lesions" in text
    assert "none: the version that was current is withdrawn" in text
    assert "Withdraw liver@0.1.0" not in text
    again = client.post(f"/api{page}/withdraw", json={"why": "misses lesions"})
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    # What is installed and was never promoted does not step in by itself.
    write_threshold_bundle(school.bundles, "liver@0.0.9", version="0.0.9")
    for name in ("liver", "liver@0.1.0"):
        with pytest.raises(WithdrawnBundle):
            school.registry.get(name)
    # It is what its readers corrected that the next one learns from.
    assert learn_from_corrections(school, model="liver", asked_by="anna").name == "liver"

    second = write_threshold_bundle(school.bundles, "liver@0.2.0", version="0.2.0")
    sign(school, read_bundle(second), by="anna")
    with pytest.raises(WithdrawnBundle):
        school.registry.get("liver")
    promoted = {"why": "finds them"}
    assert client.post("/learning/models/liver@0.2.0/promote", data=promoted).is_redirect
    assert school.registry.get("liver").identity == "liver@0.2.0"
    assert school.versions.version("liver@0.2.0").predecessor is None
    deeds = [(e.action, e.object, e.reason) for e in front.parts.trail.events()]
    assert deeds.count(("model_withdrawn", "liver@0.1.0", "misses lesions")) == 1


def test_a_candidate_that_is_withdrawn_leaves_what_is_current(front: Front) -> None:
    school, client = front.parts.school, front.client("admin")
    write_threshold_bundle(school.bundles, "liver")  # the newest, though nobody promoted it
    worse = write_threshold_bundle(school.bundles, "liver@0.2.0", version="0.2.0")
    sign(school, read_bundle(worse), by="anna")
    answer = client.post("/api/learning/models/liver@0.2.0/withdraw", json={"why": "worse"})
    assert answer.json()["version"]["stage"] == "withdrawn" and answer.json()["results"] == []
    assert school.registry.get("liver").identity == "liver@0.1.0"


def test_a_model_card_is_read_as_a_page_and_its_html_is_not_run(front: Front) -> None:
    school = front.parts.school
    bundle = read_bundle(write_threshold_bundle(school.bundles, "liver"))
    sign(school, bundle, by="anna")
    client = front.client("researcher")
    page, card = (f"/learning/models/{bundle.identity}{end}" for end in ("", "/card"))
    docs = bundle.root / "docs"
    for name, said in (("README.md", "From elsewhere"), ("model-card.md", "Learnt here")):
        (docs / name).write_text(
            f"# {said}\n\n| what | is |\n|---|---|\n| Dice | 0.9 |\n\n"
            "<script>bad()</script> [bad](javascript:bad())\n"
        )
        assert f'href="{card}"' in client.get(page).text
        text = client.get(card).text
        assert f"<h1>{said}</h1>" in text and "<td>0.9</td>" in text
        assert "&lt;script&gt;bad()" in text and 'href="javascript' not in text
    shutil.rmtree(bundle.root)  # as of a version that was taken away
    front.parts.school.registry.title_of("another@1.0.0")  # it looks again
    assert client.get(card).status_code == 404 and "model card" not in client.get(page).text


# --- what readers corrected ---------------------------------------------------------------------


def accepted(front: Front, *studies: str) -> None:
    """Let rita find these studies' results right."""
    for study in studies:
        complete(front.parts, study)
        front.parts.corrections.assess(
            f"{study}.9.1", verdict="accepted", reason=None, comment=None, author="rita"
        )


def test_cases_are_picked_on_the_page_and_a_dataset_is_asked_for(front: Front) -> None:
    client = front.client("radiologist")
    assert "Nothing was corrected or accepted yet" in client.get("/learning/datasets/new").text
    accepted(front, "2.25.1", "2.25.2", "2.25.3")
    page = client.get("/learning/datasets/new").text
    assert "<b>All 3</b> of 3 studies" in page and page.count('name="series"') == 3
    assert "/api/worklist/cases/2.25.1/preview" in page
    assert "preview" not in front.client("researcher").get("/learning/datasets/new").text
    look = {"do": "look", "reader": "sara", "description": "T1"}
    assert "Nothing fits" in client.post("/learning/datasets/new", data=look).text
    wrong = client.post("/learning/datasets/new", data={"description": "(", "do": "look"})
    assert wrong.status_code == 400 and "is no regular expression" in wrong.text
    form = {
        "name": "heads",
        "series": ["2.25.1.1", "2.25.3.1"],
        "classes": "Whole brain = Brain",
        "fusion": "majority",
        "test": "30",
        "then": "train",
        "train_name": "brain",
        "minutes": "5",
        "do": "freeze",
    }
    refused = client.post("/learning/datasets/new", data={**form, "classes": "Brain"})
    assert refused.status_code == 400 and "Labels are written" in refused.text
    assert "Whole brain" not in refused.text and 'value="brain"' in refused.text
    answer = client.post("/learning/datasets/new", data=form)
    (asked,) = front.parts.school.freezings.all()
    assert answer.headers["location"] == f"/learning/freezings/{asked.id}"
    picked = Picked.from_json(asked.picked)
    assert picked.series == ("2.25.1.1", "2.25.3.1") and picked.fusion == "majority"
    assert picked.classes == {"Whole brain": "Brain"}
    assert asked.test == 0.3 and asked.asked_by == "rita"
    assert asked.then == {"name": "brain", "minutes": 5.0, "start_from": None, "at_once": True}
    again = client.post("/learning/datasets/new", data=form)
    assert "is being made already" in again.text

    front.parts.school.freezings.read(asked.id, 1, 2)
    assert "1 of 2" in client.get(f"/fragments/learning/freezings/{asked.id}").text
    assert client.post(f"/learning/freezings/{asked.id}/cancel").status_code == 303
    assert not front.parts.school.freezings.read(asked.id, 2, 2)  # the worker gives up then
    assert "Canceled" in client.get(f"/learning/freezings/{asked.id}").text
    deeds = {event.action for event in front.parts.trail.events(limit=10)}
    assert {"dataset_asked", "dataset_canceled"} <= deeds


def test_several_results_of_a_task_are_one_observation(front: Front) -> None:
    accepted(front, "2.25.1")
    front.parts.jobs.keep_prediction(
        "task-2.25.1", forward_s=1.0, device="cpu", greys={"percentiles": [1, 2], "unlike": 0.5}
    )
    front.parts.jobs.keep_result(
        "task-2.25.1",
        sop_instance_uid="2.25.1.9.2",
        series_uid="2.25.1.9",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.88.34",
        summary={"Brain": 1423.4},
        destinations=("archive",),
    )
    database = front.parts.school.alarms._database
    (one,) = Observations(database).since(datetime(2020, 1, 1, tzinfo=UTC))
    assert one.greys == ShownGreys((1, 2), unlike=0.5) and one.amounts == {"Brain": 1423.4}


def test_an_alarm_is_shown_until_somebody_has_seen_to_it(front: Front, client: TestClient) -> None:
    alarms = front.parts.school.alarms
    raised = alarms.raise_alarm("greys", bundle="liver@1.0.0", message="they lie 50% off")
    page = client.get("/learning").text
    assert "Other grey values" in page and "I have seen to it" in page
    assert client.post(f"/learning/alarms/{raised.id}/settle").status_code == 303
    page = client.get("/learning").text
    assert "I have seen to it" not in page and USERS["researcher"] in page
    assert client.get("/api/learning/alarms?open_only=true").json() == []
    assert client.post("/api/learning/alarms/none/settle").status_code == 404
    assert front.parts.trail.events(limit=1)[0].reason == "greys liver@1.0.0"
