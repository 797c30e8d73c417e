"""MONAI Label's own client library against the node: images, labels, sessions, clicks.

The client is the one of the PyPI package, unchanged. Its files lie beside the environment, since
the package asks for a whole server's dependencies (`scripts/install.sh`).
"""

import importlib
import io
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import numpy as np
import pytest
import SimpleITK as sitk
from pydicom import dcmread

from dicom.seg import decode_seg
from dicom.volume import read_volume
from tests.bundles import write_threshold_bundle
from tests.node.front import PASSWORD, Front, make_front
from tests.node.serving import serving
from tests.orthanc import servers
from tests.orthanc.drawing import Room, blobs, overlapping, reading_room

pytestmark = pytest.mark.orthanc

CLIENT = Path(sys.prefix) / "monailabel"


@pytest.fixture(scope="module")
def kind() -> Iterator[type]:
    if not CLIENT.is_dir():
        pytest.skip("MONAI Label's client is not installed; `make install-dev` brings it")
    sys.path.append(str(CLIENT))
    try:
        yield importlib.import_module("monailabel.client").MONAILabelClient
    finally:
        sys.path.remove(str(CLIENT))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.RunningOrthanc]:
    with servers.running(servers.clinical_config(tmp_path_factory.mktemp("orthanc"))) as (one,):
        yield one


class Site:
    """A node with one series, its front on a port, and the library of its clients."""

    def __init__(self, room: Room, front: Front, url: str, kind: type, folder: Path) -> None:
        self.room, self.front, self.url, self.kind, self.folder = room, front, url, kind, folder
        self.image = room.images.id

    def client(self, user: str = "rita", password: str = PASSWORD):
        """Return a new client, logged in; Slicer's extension makes one for every request."""
        client = self.stranger()
        client.update_auth(client.auth_token(user, password))
        return client

    def stranger(self):
        return self.kind(self.url, str(self.folder), "slicer")

    def fetched(self) -> sitk.Image:
        """Fetch the image as Slicer does: by its address alone."""
        with urlopen(f"{self.url}/datastore/image?image={self.image}") as answer:
            return self.read(answer.read(), "image.nrrd")

    def read(self, content: bytes, name: str) -> sitk.Image:
        path = self.folder / name
        path.write_bytes(content)
        return sitk.ReadImage(str(path))

    def write(self, image: sitk.Image, name: str) -> str:
        path = self.folder / name
        sitk.WriteImage(image, str(path), useCompression=True)
        return str(path)

    def labels(self, labels_kji: np.ndarray) -> sitk.Image:
        """Return labels on the image that Slicer was given, as ITK has them."""
        image = sitk.GetImageFromArray(labels_kji.astype(np.uint8))
        image.CopyInformation(self.given)
        return image

    @property
    def given(self) -> sitk.Image:
        self.client().next_sample("first", {})
        return self.fetched()

    def newest(self) -> tuple[str, list[str], list[np.ndarray]]:
        """Return the newest correction: its SOPInstanceUID, names, masks."""
        (row, *_) = self.room.corrections.of_study(self.room.images.study_id)
        seg = decode_seg(self.room.seg(row.id, self.folder), self.room.grid)
        return row.id, [s.label for s in seg.segments], self.room.masks(row.id, self.folder)


@pytest.fixture
def site(
    kind: type, orthanc: servers.RunningOrthanc, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Site]:
    name = "".join(c if c.isalnum() else " " for c in request.node.name)
    with reading_room(tmp_path, orthanc, modality="MR", name=name) as room:
        room.take_in(quiet_s=0)
        for folder in ("bundles", "imported"):  # what is offered, and what can learn
            write_threshold_bundle(tmp_path / folder)
        front = make_front(tmp_path, clinical=room.archive, database=room.database)
        with serving(front.app) as address:
            yield Site(room, front, f"{address}/monailabel", kind, tmp_path)
        study = room.studies.study(room.images.study_id)
        room.archive.delete("studies", study.orthanc_id)  # the next test has its own alone


def test_who_may_enter(site: Site):
    stranger = site.stranger()
    assert stranger.auth_enabled()
    assert not stranger.auth_valid_token()
    with pytest.raises(Exception, match="login_needed"):
        stranger.info()
    with pytest.raises(Exception, match="wrong_password"):
        stranger.auth_token("rita", "wrong password")
    for role, name in (("researcher", "rob"), ("custodian", "cleo")):
        with pytest.raises(Exception, match="not_allowed"):
            stranger.auth_token(name, PASSWORD)
        token = site.front.parts.auth.add_token(f"{role}-token", user=name, lifetime=None)
        stranger.update_auth({"token_type": "Bearer", "access_token": token})
        with pytest.raises(Exception, match="not_allowed"):
            stranger.info()
    assert site.client().auth_valid_token()
    secret = site.front.parts.auth.add_token("slicer", user="rita", lifetime=None)
    assert site.client("anybody", secret).auth_valid_token()  # a token in place of the password
    assert "token_created" in [event.action for event in site.front.parts.trail.events()]


def test_what_the_node_offers(site: Site):
    info = site.client().info()
    model = info["models"]["threshold@0.1.0"]
    assert (model["type"], model["labels"]) == ("segmentation", {"Brain": 1})
    assert info["models"]["clicks"]["type"] == "deepgrow"
    assert info["labels"] == ["Brain"]
    assert set(info["strategies"]) == {"first", "random", "uncertainty"}
    assert info["models"]["scribbles"]["type"] == "scribbles"
    assert info["trainers"]["threshold@0.1.0"]["config"] == {"minutes": 60.0}
    assert info["datastore"] == {"total": 1, "completed": 0, "label_tags": {}}
    told = json.dumps([info, site.client().datastore()])
    for secret in (site.room.study_uid, site.room.series.series_uid):
        assert secret not in told


def test_slicer_is_given_the_image_where_it_lies(site: Site):
    with pytest.raises(HTTPError, match="401"):
        site.fetched()
    sample = site.client().next_sample("random", {})
    assert sample["id"] == site.image
    assert sample["name"].endswith(".nrrd")
    image = site.fetched()
    volume = read_volume(site.room.series)
    assert np.array_equal(sitk.GetArrayFromImage(image), volume.voxels_kji)
    for k, j, i in ((0, 0, 0), (8, 3, 5), (2, 19, 23)):
        expected = volume.affine_lps @ (k, j, i, 1)
        assert np.allclose(image.TransformIndexToPhysicalPoint((i, j, k)), expected[:3], atol=1e-6)
    with pytest.raises(HTTPError, match="401"):  # once alone
        site.fetched()


@pytest.mark.parametrize("name", ["label.nii.gz", "label.nrrd"])
def test_a_label_becomes_a_correction_voxel_for_voxel(site: Site, name: str):
    labels_kji = blobs(site.room.grid, count=2)
    before = site.room.result(labels_kji, "liver", "spleen")
    client = site.client()
    mask = sitk.ReadImage(client.download_label(site.image, "original"))
    assert np.array_equal(sitk.GetArrayFromImage(mask), labels_kji)
    info = client.datastore()["objects"][site.image]["labels"]["original"]["info"]
    assert info["params"]["label_names"] == {"liver": 1, "spleen": 2}
    labels_kji[4, 10, :3] = 3
    params = {
        "label_info": [
            {"name": n, "idx": at} for at, n in enumerate(("liver", "spleen", "cyst"), 1)
        ],
        "model": "organs@1.2.0",
    }
    saved = site.client().save_label(
        site.image, site.write(site.labels(labels_kji), name), params=params
    )
    assert (saved["image"], saved["label"]) == (site.image, site.image)
    uid, names, masks = site.newest()
    assert names == ["liver", "spleen", "cyst"]
    for number, mask in enumerate(masks, 1):
        assert np.array_equal(mask, labels_kji == number)
    ds = dcmread(site.room.seg(uid, site.folder))
    (series,) = ds.PredecessorDocumentsSequence[0].ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == before
    assert ds.ContentCreatorName == "rita"
    row = site.room.corrections.correction(uid)
    assert (row.source, row.author, row.effort, row.bundle) == (
        "client",
        "rita",
        None,
        "organs@1.2.0",
    )
    final = sitk.ReadImage(site.client().download_label(site.image, "final"))
    assert np.array_equal(sitk.GetArrayFromImage(final), labels_kji)
    assert site.client().info()["datastore"]["completed"] == 1
    assert site.client().next_sample("first", {}) == {}


def test_a_file_that_counts_otherwise_lies_on_the_same_voxels(site: Site):
    labels_kji = blobs(site.room.grid, count=3)
    turned = sitk.Flip(sitk.PermuteAxes(site.labels(labels_kji), [2, 0, 1]), [True, False, True])
    cropped = turned[2:, :, 1:]
    site.client().save_label(
        site.image,
        site.write(cropped, "turned.nii.gz"),
        params={"label_info": [{"name": n} for n in "abc"]},
    )
    kept = np.zeros_like(labels_kji)
    for index in np.ndindex(*cropped.GetSize()):
        point = cropped.TransformIndexToPhysicalPoint(index)
        i, j, k = _index(site, point)
        kept[k, j, i] = cropped[index]
    _, _, masks = site.newest()
    assert (kept > 0).sum() > 0
    for number, mask in enumerate(masks, 1):
        assert np.array_equal(mask, kept == number)


def _index(site: Site, point: tuple[float, ...]) -> tuple[int, int, int]:
    k, j, i, _ = np.rint(np.linalg.solve(site.room.grid.affine_lps, (*point, 1))).astype(int)
    return int(i), int(j), int(k)


def test_segments_that_overlap_come_and_go_whole(site: Site):
    masks = overlapping(site.room.grid)
    client = site.client()
    site.client().next_sample("first", {})
    given = site.fetched()
    stack = sitk.GetImageFromArray(
        np.stack([masks.whole(n).astype(np.uint8) for n in (1, 2, 3)], axis=-1), isVector=True
    )
    stack.CopyInformation(given)
    for n in range(3):
        for key, value in (("Name", f"part {n}"), ("LabelValue", "1"), ("Layer", str(n))):
            stack.SetMetaData(f"Segment{n}_{key}", value)
    client.save_label(site.image, site.write(stack, "parts.seg.nrrd"), params={})
    _, names, found = site.newest()
    assert names == ["part 0", "part 1", "part 2"]
    for number, mask in enumerate(found, 1):
        assert np.array_equal(mask, masks.whole(number))
    path = client.__class__(site.url, str(site.folder), "x")
    path.update_auth(path.auth_token("rita", PASSWORD))
    again = sitk.ReadImage(path.download_label(site.image, "final"))
    layers = sitk.GetArrayFromImage(again)
    values = [int(again.GetMetaData(f"Segment{n}_LabelValue")) for n in range(3)]
    for n, value in enumerate(values):
        layer = int(again.GetMetaData(f"Segment{n}_Layer"))
        assert np.array_equal(layers[..., layer] == value, masks.whole(n + 1))


def test_what_does_not_fit_is_refused_in_words_and_kept_nowhere(site: Site):
    good = site.labels(blobs(site.room.grid, count=1))
    moved = sitk.Image(good)
    moved.SetOrigin([c + 0.4 for c in good.GetOrigin()])
    finer = sitk.Expand(good, [1, 1, 2], sitk.sitkNearestNeighbor)
    named = {"label_info": [{"name": "a"}]}
    for image, name in ((moved, "moved.nrrd"), (finer, "finer.nii.gz")):
        with pytest.raises(Exception, match="other_grid"):
            site.client().save_label(site.image, site.write(image, name), params=named)
    more = site.write(site.labels(blobs(site.room.grid, count=3)), "more.nrrd")
    with pytest.raises(Exception, match="invalid_labels"):
        site.client().save_label(site.image, more, params=named)
    bomb = site.folder / "bomb.nrrd"
    bomb.write_bytes(Path(more).read_bytes().replace(b"sizes: 24 20 9", b"sizes: 99999 99999 9999"))
    with pytest.raises(Exception, match="too_large"):
        site.client().save_label(site.image, str(bomb), params=named)
    text = site.folder / "text.nrrd"
    text.write_text("no image")
    with pytest.raises(Exception, match="unreadable_pixels"):
        site.client().save_label(site.image, str(text), params=named)
    with pytest.raises(Exception, match="not_found"):
        site.client().save_label("1.2.3", more, params=named)
    assert site.room.corrections.of_study(site.room.images.study_id) == []
    user = site.room.desk._drawer.name(site.room.study_uid)
    assert site.room.drafts.of_study(user, user="rita") == []


def test_a_session_is_looked_at_and_forgotten(site: Site):
    client = site.client()
    voxels = np.zeros((6, 9, 11), np.int16)
    voxels[2:4, 3:5, 1:8] = 500
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-30, 12, 7))
    image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    session = client.create_session(site.write(image, "Müller^Eva.nrrd"))["session_id"]
    assert "ller" not in json.dumps(site.client().get_session(session))
    path, params = site.client().infer(
        "threshold@0.1.0", "", {"result_extension": ".nrrd"}, session_id=session
    )
    mask = sitk.ReadImage(path)
    assert params["label_names"] == {"Brain": 1}
    assert np.array_equal(sitk.GetArrayFromImage(mask), voxels > 100)
    assert np.allclose(mask.GetDirection(), image.GetDirection())
    assert np.allclose(mask.GetOrigin(), image.GetOrigin())
    with pytest.raises(Exception, match="not_found"):
        site.client("admin").get_session(session)
    site.client().remove_session(session)
    with pytest.raises(Exception, match="not_found"):
        site.client().get_session(session)
    path, _ = site.client().infer("threshold@0.1.0", "", {}, file=site.write(image, "again.nii.gz"))
    assert path.endswith(".nii.gz")
    again = sitk.ReadImage(path)
    assert np.array_equal(sitk.GetArrayFromImage(again), voxels > 100)
    assert np.allclose(again.GetDirection(), image.GetDirection(), atol=1e-6)


def test_clicks_are_answered_on_the_image(site: Site):
    volume = read_volume(site.room.series)
    k, j, i = np.unravel_index(int(volume.voxels_kji.argmax()), volume.shape_kji)
    params = {"label": "Lesion", "foreground": [[int(i), int(j), int(k)]], "background": []}
    path, told = site.client().infer("clicks", site.image, {**params, "result_extension": ".nrrd"})
    mask = sitk.ReadImage(path)
    assert told["label_names"] == {"Lesion": 1}
    assert mask[int(i), int(j), int(k)] == 1
    with pytest.raises(Exception, match="nothing was clicked"):
        site.client().infer("clicks", site.image, {})
    with pytest.raises(Exception, match="outside"):
        site.client().infer("clicks", site.image, {"foreground": [[99, 0, 0]]})


def test_images_come_as_dicom_and_nothing_is_thrown_away(site: Site):
    files = [instance.path for instance in site.room.series.instances]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number, path in enumerate(files):
            archive.writestr(f"{number}.dcm", path.read_bytes())
    path = site.folder / "study.zip"
    path.write_bytes(packed.getvalue())
    assert site.client().upload_image(str(path), "any")["image"] == site.image
    nifti = site.write(site.labels(blobs(site.room.grid)), "image.nii.gz")
    with pytest.raises(Exception, match="invalid_request"):
        site.client().upload_image(nifti, "image")


# --- what 3D Slicer's extension asks besides -----------------------------------------------------


def two_blocks(site: Site) -> tuple[sitk.Image, tuple[int, int, int], tuple[int, int, int]]:
    """Return an image of two bright blocks, and the middle of each as column, row, slice."""
    voxels_kji = np.zeros((8, 30, 40), np.int16)
    voxels_kji[2:6, 5:15, 4:14] = voxels_kji[2:6, 5:15, 24:34] = 800
    image = sitk.GetImageFromArray(voxels_kji)
    image.SetSpacing((0.9, 0.9, 3.0))
    image.SetOrigin((12, -40, 5))
    return image, (9, 10, 4), (29, 10, 4)


def test_an_image_of_slicers_own_is_clicked_on(site: Site):
    """What is not in the archive is uploaded to a session, and named along with it."""
    image, middle, other = two_blocks(site)
    path = site.write(image, "own.nii.gz")
    session = site.client().create_session(path)["session_id"]
    assert site.client().get_session(session)["name"] == session
    params = {"label": "Block", "foreground": [list(middle)], "background": [list(other)]}
    params |= {"result_extension": ".nrrd", "result_dtype": "uint8"}
    found, told = site.client().infer("clicks", "own volume", params, session_id=session)
    mask = sitk.ReadImage(found)
    assert told["label_names"] == {"Block": 1}
    assert (mask[middle], mask[other]) == (1, 0)
    inside = sitk.GetArrayFromImage(mask) > 0
    assert inside[2:6, 5:15, 4:14].mean() > 0.7 and not inside[:, :, 20:].any()
    assert np.allclose(mask.GetOrigin(), image.GetOrigin())
    box = {"label": "Block", "roi": [22, 36, 3, 17, 1, 7], "result_extension": ".nrrd"}
    found, _ = site.client().infer("clicks", "own volume", box, session_id=session)
    assert sitk.ReadImage(found)[other] == 1
    with pytest.raises(Exception, match="outside"):
        site.client().infer("clicks", "x", {"foreground": [[99, 0, 0]]}, session_id=session)


def test_scribbles_say_what_is_inside_and_what_is_not(site: Site):
    image, middle, other = two_blocks(site)
    session = site.client().create_session(site.write(image, "own.nrrd"))["session_id"]
    names = ["liver", "background_scribbles", "foreground_scribbles"]
    labels_kji = np.zeros(sitk.GetArrayFromImage(image).shape, np.uint8)
    labels_kji[4, 10, 27:32] = labels_kji[4, 25, 5:35] = labels_kji[1, 10, 5:12] = 2
    labels_kji[4, 10, 6:13] = 3
    drawn = sitk.GetImageFromArray(labels_kji)
    drawn.CopyInformation(image)
    params = {
        "label_info": [{"name": name, "id": n} for n, name in enumerate(names, 1)],
        "selected_label_name": "liver",
        "roi": [],
        "result_extension": ".nrrd",
    }
    path = site.write(drawn, "strokes.nii.gz")
    found, told = site.client().infer(
        "scribbles", "own volume", params, label_in=path, session_id=session
    )
    mask = sitk.ReadImage(found)
    assert told["label_names"] == {"liver": 1}
    assert (mask[middle], mask[other]) == (1, 0)
    assert (sitk.GetArrayFromImage(mask)[2:6, 5:15, 4:14] > 0).mean() > 0.7
    drawn.SetOrigin((0, 0, 0))
    path = site.write(drawn, "elsewhere.nii.gz")
    with pytest.raises(Exception, match="other_grid"):
        site.client().infer("scribbles", "x", params, label_in=path, session_id=session)
    with pytest.raises(Exception, match="label map"):
        site.client().infer("scribbles", "x", params, session_id=session)
    with pytest.raises(Exception, match="no label map"):
        site.client().infer("threshold@0.1.0", "x", {}, label_in=path, session_id=session)
    on_archive = site.labels(blobs(site.room.grid, count=3))
    path = site.write(on_archive, "archive.nrrd")
    found, _ = site.client().infer("scribbles", site.image, params, label_in=path)
    liver = sitk.GetArrayFromImage(on_archive)
    mask_kji = sitk.GetArrayFromImage(sitk.ReadImage(found))
    assert (mask_kji[liver == 3] == 1).mean() > 0.9  # what was scribbled in, and what was there
    assert (mask_kji[liver == 2] == 0).mean() > 0.9


def test_a_training_is_asked_for_watched_and_stopped(site: Site):
    admin = site.client("admin")
    assert admin.train_status(check_if_running=True) is False
    with pytest.raises(Exception, match="not_found"):
        admin.train_status()
    with pytest.raises(Exception, match="not_allowed"):
        site.client().train_start("threshold@0.1.0", {})
    with pytest.raises(Exception, match="minutes"):
        admin.train_start("threshold@0.1.0", {"minutes": "soon"})
    with pytest.raises(Exception, match="unknown_bundle"):
        admin.train_start("clicks", {})
    told = admin.train_start("threshold@0.1.0", {"minutes": "2.5"})  # its table holds texts
    assert (told["status"], told["model"], told["end_ts"]) == ("RUNNING", "threshold", None)
    school = site.front.parts.school
    (asked,) = school.freezings.all()
    assert (asked.asked_by, asked.then["minutes"], asked.picked["models"]) == (
        "admin",
        2.5,
        ["threshold"],
    )
    assert admin.train_status(check_if_running=True) is True
    assert admin.train_status()["id"] == asked.id
    with pytest.raises(Exception, match="conflict"):
        admin.train_start("threshold", {})
    assert admin.train_stop()["status"] == "CANCELED"
    assert admin.train_status(check_if_running=True) is False
    assert school.freezings.freezing(asked.id).state == "canceled"
    assert {"dataset_asked", "dataset_canceled"} <= {
        event.action for event in site.front.parts.trail.events(limit=50)
    }
