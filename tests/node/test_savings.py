"""What models save: mending beside drawing the same from scratch, as it was timed."""

from pathlib import Path

import pytest

from node.savings import pieces_of_work, savings
from pipelines.store import Effort, NewCorrection
from tests.node.front import Front, complete, make_front
from tests.node.test_worklist_api import READER_PASSWORD, login

STUDY = "2.25.31415926535897932384626433832795"
RESULT = f"{STUDY}.9.1"
LIVER, VESSEL = ("SCT", "10200004"), ("SCT", "8993003")


@pytest.fixture
def front(tmp_path: Path) -> Front:
    front = make_front(tmp_path)
    complete(front.parts, STUDY)
    for name in ("anna", "carl"):
        front.parts.auth.add_user(name, role="radiologist", password=READER_PASSWORD)
    return front


def save(
    front: Front,
    seconds: float | None,
    *,
    author: str = "anna",
    before: str | None = None,
    result: str | None = None,
    what: tuple[tuple[str, str], ...] = (LIVER,),
) -> str:
    """Store a correction as the desk does: of a result, of what was drawn `before`, or of none."""
    rows = front.parts.corrections
    new = NewCorrection(
        id=f"2.25.888.{len(rows.measured())}",
        series_uid=f"2.25.889.{len(rows.measured())}",
        study_id=STUDY,
        series_id=f"{STUDY}.1",
        source="viewer" if seconds is not None else "client",
        predecessor_id=before or result,
        result_id=result,
        bundle="liver@1.0.0" if result else None,
        author=author,
        title="",
        segments=[
            {"number": n, "label": "x", "scheme": scheme, "type": value}
            for n, (scheme, value) in enumerate(what, 1)
        ],
        effort=None if seconds is None else Effort(seconds, 5.0, 3),
    )
    rows.begin(new, first_series_number=9501)
    rows.stored(new.id, orthanc_id=f"o{new.id}")
    return new.id


def test_what_is_saved_is_the_difference_of_the_middles(front: Front) -> None:
    for number, seconds in enumerate((60.0, 100.0, 500.0)):
        save(front, seconds, result=f"{RESULT}{number}")
    for seconds in (800.0, 1000.0, 1400.0):
        save(front, seconds, author="carl")
    save(front, 9999.0, what=(VESSEL,))  # another structure is beside nothing here
    (told,) = login(front, "anna").get("/api/effort/saved").json()
    assert told["bundle"] == "liver@1.0.0"
    assert told["mended_s"] == {"count": 3, "median": 100.0, "least": 60.0, "most": 500.0}
    assert told["drawn_s"] == {"count": 3, "median": 1000.0, "least": 800.0, "most": 1400.0}
    assert (told["saved_s"], told["saved_share"]) == (900.0, 0.9)
    assert (told["readers"], told["is_few"]) == (2, True)
    page = login(front, "anna").get("/corrections").text
    for words in ("1 min 40 s", "17 min", "15 min", "90 %", "Too few"):
        assert words in page, words


def test_what_is_saved_several_times_is_one_piece_of_work(front: Front) -> None:
    first = save(front, 300.0)
    second = save(front, 200.0, before=first, what=(LIVER, VESSEL))
    save(front, 30.0, author="carl", before=second)  # goes on with anna's: not from scratch
    mended = save(front, 40.0, result=RESULT)
    save(front, 20.0, before=mended, result=RESULT)
    save(front, None, author="carl", result=RESULT)  # a program that counts no seconds
    done = pieces_of_work(front.parts.corrections.measured())
    assert sorted((one.author, one.bundle, one.seconds) for one in done if one.bundle) == [
        ("anna", "liver@1.0.0", 60.0)
    ]
    (drawn,) = (one for one in done if one.bundle is None)
    assert (drawn.author, drawn.seconds) == ("anna", 500.0)
    assert drawn.structures == {LIVER, VESSEL}


def test_without_a_drawing_from_scratch_nothing_is_claimed(front: Front) -> None:
    save(front, 40.0, result=RESULT)
    save(front, 400.0, what=(VESSEL,))
    (told,) = savings(front.parts.corrections.measured())
    assert (told.drawn_s, told.saved_s, told.saved_share) == (None, None, None)
    page = login(front, "anna").get("/corrections").text
    assert "what it saves is not known" in page and "saved a case" not in page


def test_a_page_without_corrections_says_what_will_be_here(front: Front) -> None:
    assert "When somebody mends" in login(front, "anna").get("/corrections").text
