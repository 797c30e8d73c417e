"""The pages: what each state says, and who is shown a name."""

from io import BytesIO
from pathlib import Path

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from dicom.archive import Archive
from dicom.errors import (
    Canceled,
    MissingDevice,
    MissingSlice,
    OutOfMemory,
    PeerRefused,
    PeerUnreachable,
    RadloopError,
    TooFewSlices,
)
from node.pages.render import (
    dicom_date,
    dicom_name,
    millilitres,
    seconds,
    sentence,
    steps_in_short,
    with_code,
)
from node.views import view_job
from tests.node.front import Front, begin, complete, fail, make_front, receive, schedule
from tests.orthanc import servers

STUDY = "2.25.27182818284590452353602874713526"
NAME = "HOFMANN^Margarete^Elisabeth"
ORIGINAL_UID = "1.2.826.0.1.3680043.8.498.1001"


@pytest.fixture
def front(tmp_path: Path) -> Front:
    return make_front(tmp_path)


def work(front: Front, study: str = STUDY) -> str:
    return front.client("radiologist").get(f"/fragments/studies/{study}/work").text


# --- states -------------------------------------------------------------------------------------


def test_without_a_study_the_page_says_how_to_send_one(front: Front) -> None:
    page = front.client("researcher").get("/").text
    assert "No study yet" in page
    assert "<code>RADLOOP</code>" in page and "<code>4242</code>" in page


def test_without_a_worker_the_page_says_so_until_one_is_heard(front: Front) -> None:
    client = front.client("researcher")
    assert '<p class="banner" data-worker >' in client.get("/").text
    front.parts.access.beat("worker-1")
    assert '<p class="banner" data-worker hidden>' in client.get("/").text


def test_a_study_that_arrives_shows_how_much_has_come(front: Front) -> None:
    receive(front.parts, STUDY, count=57)
    assert "<span data-arriving>57</span> instances so far" in work(front)


def test_a_job_that_waits_can_be_canceled(front: Front) -> None:
    job = schedule(front.parts, STUDY)
    text = work(front)
    assert "Waiting" in text and f'action="/jobs/{job}/cancel"' in text
    front.parts.jobs.ask_cancel(job)
    text = work(front)
    assert "Canceling" in text and "/cancel" not in text


def test_a_job_that_runs_shows_its_step_progress_and_seconds(front: Front) -> None:
    begin(front.parts, STUDY, progress=0.42)
    text = work(front)
    assert "The model is at work" in text
    assert 'max="1" value="0.420"' in text and "42 %" in text
    for step in ("Fetch", "De-identify", "Route", "Volume", "Predict"):
        assert step in text


def test_a_step_without_progress_has_a_bar_without_a_value(front: Front) -> None:
    begin(front.parts, STUDY)
    text = work(front)
    assert "<progress" in text and "value=" not in text


def test_a_job_that_is_done_shows_volumes_and_where_they_went(front: Front) -> None:
    complete(front.parts, STUDY)
    text = work(front)
    assert "Done" in text and "1,423 ml" in text
    assert "clinical archive: stored" in text and "pacs: stored" in text
    assert "/retry" not in text and "/cancel" not in text


def test_a_delivery_that_is_tried_again_says_so(front: Front) -> None:
    complete(front.parts, STUDY, delivered=False)
    front.parts.jobs.note_delivery(f"{STUDY}.9.1", "pacs", PeerRefused("pacs said no"))
    text = work(front)
    assert "Sending the result to pacs" in text and "pacs: 1 try, going on" in text


@pytest.mark.parametrize(
    ("error", "acts"),
    [
        (MissingSlice("slices 41 and 42 are 3.0 mm apart"), "needs a person"),
        (PeerUnreachable("the archive did not answer"), "another system"),
        (OutOfMemory("9.1 GB are needed"), "this machine"),
        (MissingDevice("there is no GPU"), "this machine"),
    ],
)
def test_a_failed_job_shows_message_advice_code_and_who_acts(
    front: Front, error: RadloopError, acts: str
) -> None:
    job = fail(front.parts, STUDY, error)
    text = work(front)
    advice = str(with_code(error.advice))
    for part in (sentence(error.message), advice, f"<code>{error.code}</code>", acts):
        assert part in text
    assert "`" not in text
    assert f'action="/jobs/{job}/retry"' in text


def test_an_error_that_no_class_knows_is_shown_as_ours(front: Front) -> None:
    class Unknown(RadloopError):
        code = "unexpected_error_of_a_step"

    fail(front.parts, STUDY, Unknown("something"))
    text = work(front)
    assert "an error in radloop" in text and "send its id to whoever runs the node" in text


def test_a_canceled_job_is_no_failure(front: Front) -> None:
    fail(front.parts, STUDY, Canceled())
    text = work(front)
    assert "state-canceled" in text and "fault" not in text


def test_series_that_went_no_further_say_why(front: Front) -> None:
    job = schedule(front.parts, STUDY)
    front.parts.jobs.skip_series(job, f"{STUDY}.1", TooFewSlices("3 slices, 20 are needed"))
    front.parts.jobs.end_job(job)
    text = work(front)
    assert "Left out" in text and "3 slices, 20 are needed." in text
    assert "too_few_slices" in front.client("radiologist").get(f"/jobs/{job}").text


def test_a_job_page_has_steps_models_results_and_the_rules(front: Front) -> None:
    job = complete(front.parts, STUDY)
    page = front.client("radiologist").get(f"/jobs/{job}").text
    for part in ("mr_brain@0.1.0", "12.3 s", "head-mr", "took it", "modality is CT", STUDY, job):
        assert part in page


def test_the_buttons_work_without_a_script(front: Front) -> None:
    job = schedule(front.parts, STUDY)
    client = front.client("radiologist")
    answer = client.post(f"/jobs/{job}/cancel", headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job}")
    front.parts.jobs.end_job(job, Canceled())
    refused = client.post(f"/jobs/{job}/cancel", headers={"Accept": "text/html"})
    assert refused.status_code == 409 and "The job has ended already." in refused.text
    assert client.post(f"/jobs/{job}/retry").status_code == 303
    assert front.parts.jobs.job(job).state == "scheduled"


def test_a_page_that_is_not_there_is_a_page(front: Front) -> None:
    answer = front.client("radiologist").get("/jobs/nothing", headers={"Accept": "text/html"})
    assert answer.status_code == 404
    assert "Not found" in answer.text and "<code>not_found</code>" in answer.text


def test_studies_are_shown_a_page_at_a_time(front: Front) -> None:
    for number in range(27):
        receive(front.parts, f"2.25.{number}")
    client = front.client("researcher")
    first, second = client.get("/").text, client.get("/?page=2").text
    assert (first.count("<article"), second.count("<article")) == (25, 2)
    assert "Older" in first and "Newer" not in first
    assert "Newer" in second and "Older" not in second


def test_tabs_count_and_filter(front: Front) -> None:
    complete(front.parts, "2.25.1")
    fail(front.parts, "2.25.2", OutOfMemory())
    page = front.client("researcher").get("/?show=failed").text
    assert 'id="study-2.25.2"' in page and 'id="study-2.25.1"' not in page
    assert 'data-count="all">2<' in page and 'data-count="failed">1<' in page


def test_what_comes_from_outside_is_escaped(front: Front) -> None:
    job = schedule(front.parts, STUDY)
    front.parts.studies.describe(STUDY, "<script>alert(1)</script>")
    front.parts.jobs.end_job(job, MissingSlice("<b>bold</b>"))
    page = front.client("researcher").get("/").text
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "<b>bold</b>" not in page


def test_the_api_page_shows_every_operation_and_loads_nothing_from_elsewhere(front: Front) -> None:
    page = front.client("researcher").get("/api/docs").text
    for path in front.app.openapi()["paths"]:
        assert f"<code>{path}</code>" in page
    assert "https://" not in page and "<script" not in page
    assert "Body, JSON" in page and "list of Study" in page


def test_the_password_is_changed_on_the_account_page(front: Front) -> None:
    client = front.client("radiologist")
    wrong = client.post("/account", data={"present": "no", "new": "a fresh password"})
    assert wrong.status_code == 401 and "User name or password is wrong." in wrong.text
    present = "correct horse battery"
    short = client.post("/account", data={"present": present, "new": "short"})
    assert short.status_code == 422 and "at least 12 characters" in short.text
    done = client.post("/account", data={"present": present, "new": "a fresh password"})
    assert (done.status_code, done.headers["location"]) == (303, "/login")
    front.parts.auth.check("rita", "a fresh password", address="10.0.0.1")


# --- names --------------------------------------------------------------------------------------


def test_when_the_archive_is_down_the_page_comes_without_names(front: Front) -> None:
    complete(front.parts, STUDY)
    page = front.client("radiologist").get("/")
    assert page.status_code == 200
    assert "Name not at hand" in page.text and "1,423 ml" in page.text
    opened = front.client("radiologist").get(f"/open/{STUDY}", headers={"Accept": "text/html"})
    assert opened.status_code == 502 and "Another system does not answer" in opened.text


def store_study(archive: Archive) -> str:
    """Store one image of a named patient; return the study's id in Orthanc."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = f"{ORIGINAL_UID}.1.1"
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = f"{ORIGINAL_UID}.1.1"
    ds.SeriesInstanceUID = f"{ORIGINAL_UID}.1"
    ds.StudyInstanceUID = ORIGINAL_UID
    ds.PatientName, ds.PatientID, ds.PatientSex = NAME, "PID40211", "F"
    ds.PatientBirthDate, ds.StudyDate, ds.Modality = "19480312", "20261120", "MR"
    ds.StudyDescription = "MR Kopf nativ"
    content = BytesIO()
    ds.save_as(content, enforce_file_format=True)
    archive.store(content.getvalue())
    (study,) = archive.lookup("studies", ORIGINAL_UID)
    return study


@pytest.mark.orthanc
def test_names_are_for_clinical_roles_and_opening_a_study_is_audited(tmp_path: Path) -> None:
    with servers.running(servers.clinical_config(tmp_path / "orthanc")) as (orthanc,):
        front = make_front(tmp_path, clinical=orthanc.archive())
        job = complete(front.parts, STUDY, orthanc_id=store_study(orthanc.archive()))
        identity = ("HOFMANN, Margarete Elisabeth", "PID40211", "1948-03-12", "MR Kopf nativ")
        rita, rob = front.client("radiologist"), front.client("researcher")
        for path in ("/", f"/fragments/studies/{STUDY}"):
            assert all(part in rita.get(path).text for part in identity)
        assert identity[0] in rita.get(f"/jobs/{job}").text
        for path in ("/", f"/jobs/{job}", f"/fragments/studies/{STUDY}"):
            page = rob.get(path).text
            assert not any(part in page for part in identity)
            assert "/open/" not in page
        for path in ("/api/studies", f"/fragments/studies/{STUDY}/work", f"/fragments/jobs/{job}"):
            assert not any(part in rita.get(path).text for part in identity)

        opened = rita.get(f"/open/{STUDY}")
        assert opened.headers["location"] == f"/ohif/viewer?StudyInstanceUIDs={ORIGINAL_UID}"
        assert rob.get(f"/open/{STUDY}").status_code == 403

    trail = [(e.actor, e.action, e.object) for e in front.parts.trail.events()]
    assert trail[0] == ("rita", "study_opened", STUDY)
    assert ("rita", "names_listed", STUDY) in trail
    assert not any(actor == "rob" and action == "names_listed" for actor, action, _ in trail)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("radloop.db*"))
    for secret in (b"HOFMANN", b"PID40211", ORIGINAL_UID.encode()):
        assert secret not in kept


# --- words --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (NAME, "HOFMANN, Margarete Elisabeth"),
        ("LI^Xiaolong=李^小龙", "LI, Xiaolong"),
        ("Phantom", "Phantom"),
        ("^Jane", "Jane"),
        ("", ""),
    ],
)
def test_names_are_written_as_in_a_worklist(value: str, text: str) -> None:
    assert dicom_name(value) == text


def test_figures_have_the_digits_that_help() -> None:
    assert [seconds(s) for s in (None, 0.034, 1.24, 59.6, 3599, 7260)] == [
        "…",
        "0.03 s",
        "1.2 s",
        "1 min 00 s",
        "59 min 59 s",
        "2 h 01 min",
    ]
    assert [millilitres(v) for v in (3.14159, 1423.4, "n/a")] == ["3.1 ml", "1,423 ml", "n/a"]
    assert (dicom_date("20261120"), dicom_date("2026")) == ("2026-11-20", "2026")
    assert with_code("see `a<b` & c") == "see <code>a&lt;b</code> &amp; c"


def test_a_step_that_was_run_twice_counts_once(front: Front) -> None:
    job = begin(front.parts, STUDY)
    front.parts.jobs.begin_step(job, "predict", f"task-{STUDY}")  # the first was left by a crash
    short = steps_in_short(view_job(front.parts.jobs.job(job)))
    assert [name for name, _, _ in short].count("predict") == 1
    assert short[-1] == ("predict", None, False)
