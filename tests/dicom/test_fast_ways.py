"""The fast engine: which files are its own, and less of everything else."""

from __future__ import annotations

import gc
import io
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom import config
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)

from dicom.deid import Clean, Cleaned, Deidentifier, Quarantined
from dicom.deid.pixels import Heads
from dicom.errors import NeedsCarefulReading
from dicom.fast import EitherEngine, EngineChoice, FastDeidentifier, engine_for
from dicom.profile import Option, Profile, node_profile
from tests.engines import (
    EXPLICIT,
    KEY,
    RETAINING,
    Attribute,
    image,
    part10,
    said,
    without_engine,
    written,
)


@pytest.fixture(autouse=True)
def _written_as_it_is() -> Iterator[None]:
    before = config.settings.writing_validation_mode
    config.settings.writing_validation_mode = config.IGNORE
    yield
    config.settings.writing_validation_mode = before


# --- who does it ----------------------------------------------------------------------------------


def _preamble_lost(content: bytes) -> bytes:
    return content[:128] + b"dicm" + content[132:]


def _cut_in_the_header(content: bytes) -> bytes:
    return content[:500]


def _tags_swapped(content: bytes) -> bytes:
    """Write modality before the series date: pydicom sorts them again."""
    at = content.index(b"\x08\0\x60\0CS\2\0CT")
    modality = content[at : at + 10]
    rest = content[:at] + content[at + 10 :]
    start = rest.index(b"\x08\0\x16\0UI")
    return rest[:start] + modality + rest[start:]


@pytest.mark.parametrize("damage", [_preamble_lost, _cut_in_the_header, _tags_swapped])
def test_what_the_fast_engine_cannot_read_with_certainty_goes_to_the_careful_one(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = written(image(), tmp_path / "odd.dcm")
    path.write_bytes(damage(path.read_bytes()))
    careful = Deidentifier(node_profile(), KEY)
    assert said(FastDeidentifier(careful), path)[0] == NeedsCarefulReading.code  # type: ignore[index]
    assert without_engine(said(EitherEngine(careful), path)) == without_engine(said(careful, path))


@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
def test_other_orders_of_bytes_and_deflated_files_are_the_fast_engines_work_too(
    tmp_path: Path, syntax: UID
) -> None:
    path = written(image(), tmp_path / "in.dcm", syntax)
    careful = Deidentifier(node_profile(), KEY)
    clean = said(FastDeidentifier(careful), path)
    assert isinstance(clean, Clean)
    assert without_engine(clean) == without_engine(said(careful, path))


def test_pixels_that_have_to_be_looked_at_are_the_careful_engines_work(tmp_path: Path) -> None:
    profile = Profile(frozenset({Option.CLEAN_PIXEL_DATA}))
    careful = Deidentifier(profile, KEY, passes={Option.CLEAN_PIXEL_DATA: lambda ds: ds})
    clean = said(EitherEngine(careful), written(image(), tmp_path / "in.dcm"))
    assert isinstance(clean, Clean)
    assert clean.engine == "careful"
    assert b"113101" in clean.header


def test_a_head_that_a_project_refuses_is_refused_by_both(tmp_path: Path) -> None:
    careful = Deidentifier(node_profile(), KEY, heads=Heads.REFUSE)
    fast = FastDeidentifier(careful)
    chest = written(image(1, BodyPartExamined="CHEST"), tmp_path / "chest.dcm")
    head = written(image(2, BodyPartExamined="HEAD"), tmp_path / "head.dcm")
    assert isinstance(said(fast, chest), Clean)
    assert said(fast, head) == said(careful, head)
    assert said(fast, head)[0] == "head_not_defaced"  # type: ignore[index]


def test_a_file_cut_anywhere_is_what_the_careful_engine_says_it_is(tmp_path: Path) -> None:
    content = written(image(), tmp_path / "in.dcm").read_bytes()
    careful = Deidentifier(node_profile(), KEY)
    either = EitherEngine(careful)
    cut = tmp_path / "cut.dcm"
    for end in range(0, len(content), 5):
        cut.write_bytes(content[:end])
        assert without_engine(said(either, cut)) == without_engine(said(careful, cut)), end


def test_no_warning_quotes_what_was_met(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    odd: list[Attribute] = [
        ("UI", 0x00200052, b"Weaver 4711"),
        ("DA", 0x00080021, b"4711"),
        ("DS", 0x00101030, b"Weaver"),
    ]
    path = tmp_path / "in.dcm"
    path.write_bytes(part10(1, odd, EXPLICIT))
    recwarn.clear()
    said(FastDeidentifier(Deidentifier(RETAINING, KEY)), path)
    assert not [str(each.message) for each in recwarn]


def test_a_folder_says_who_did_what(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    written(image(1), source / "1.dcm")
    swapped = written(image(2), source / "2.dcm")
    swapped.write_bytes(_tags_swapped(swapped.read_bytes()))
    (source / "3.txt").write_text("no DICOM")
    done = list(
        engine_for(EngineChoice.AUTO, Deidentifier(node_profile(), KEY)).deidentify_folder(
            source, tmp_path / "out"
        )
    )
    assert [each.engine for each in done if isinstance(each, Cleaned)] == ["fast", "careful"]
    assert [each.error.code for each in done if isinstance(each, Quarantined)] == ["not_dicom"]


def test_the_fast_engine_alone_holds_back_what_is_not_its_own(tmp_path: Path) -> None:
    swapped = written(image(2), tmp_path / "2.dcm")
    swapped.write_bytes(_tags_swapped(swapped.read_bytes()))
    engine = engine_for(EngineChoice.FAST, Deidentifier(node_profile(), KEY))
    (held,) = engine.deidentify_folder(tmp_path / "2.dcm", tmp_path / "out")
    assert isinstance(held, Quarantined)
    assert held.error.code == NeedsCarefulReading.code


# --- less of everything else ----------------------------------------------------------------------


def test_threads_share_an_engine(tmp_path: Path) -> None:
    paths = [
        written(image(n, PatientID=f"p{n % 3}", StudyDate=f"2024010{n % 9 + 1}"), tmp_path / f"{n}")
        for n in range(24)
    ]
    careful = Deidentifier(node_profile(), KEY)
    expected = [without_engine(said(careful, path)) for path in paths]
    fast = FastDeidentifier(careful)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = pool.map(lambda path: without_engine(said(fast, path)), paths)
            assert list(found) == expected


def test_memory_does_not_grow_with_the_study(tmp_path: Path) -> None:
    """What differs in every instance is soon no longer kept."""
    fast = FastDeidentifier(Deidentifier(node_profile(), KEY))

    def one(number: int) -> None:
        ds = image(number, ContentDate=f"2024{number % 12 + 1:02}{number % 28 + 1:02}")
        ds.ImageComments = f"a comment that differs {number} " * 20
        said(fast, written(ds, tmp_path / "one.dcm"))

    for number in range(100):
        one(number)
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(100, 400):
            one(number)
        gc.collect()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 300_000, grown


def test_bytes_are_read_from_files_alone() -> None:
    """Pixels are copied within the kernel: something without a descriptor is a caller's mistake."""
    with pytest.raises(OSError):
        FastDeidentifier(Deidentifier(node_profile(), KEY)).clean(io.BytesIO(b""))
