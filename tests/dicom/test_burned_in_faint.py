"""Faint text in pixels, what is doubted, and films of which only what changed is searched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmwrite

from dicom.burned_in import Box, PixelCleaner, is_installed, mask_of
from dicom.burned_in.films import Film, Part
from dicom.burned_in.finding import TextFinder
from dicom.burned_in.views import views_of
from dicom.deid import Deidentifier, Undeclared
from dicom.errors import BurnedInText
from dicom.profile import Option, Profile
from tests.dicom.test_burned_in import image
from tests.drawn import FONTS, IDS, NAMES, Drawn, background, covered, faintly

needs_networks = pytest.mark.skipif(
    not (is_installed() and FONTS.exists()), reason="needs rapidocr, onnxruntime, DejaVu fonts"
)
SIZE = (420, 480)


def faint(height: int, contrast: float) -> Drawn:
    rng = np.random.default_rng(20)
    soft = background("soft", *SIZE, rng)
    texts = [(NAMES[0], height, 0), (IDS[0], height, 0)]
    return faintly(soft, texts, rng, contrast=contrast)


@needs_networks
def test_text_twice_as_strong_as_the_noise_is_masked_whole() -> None:
    """The picture as it is shows it to nobody's search; with its contrast evened it does."""
    drawn = faint(14, 8)
    finder = TextFinder(threads=1)
    shown = mask_of([box for view in views_of(drawn.picture) for box in finder.find(view)], *SIZE)
    assert not shown.any()
    cleaned = PixelCleaner(threads=1).clean(image(drawn.picture))
    mask = mask_of(cleaned.boxes, *SIZE)
    assert [round(covered(letters, mask), 2) for letters in drawn.letters] == [1, 1]
    assert mask.mean() < 0.1


@needs_networks
@pytest.mark.parametrize("said", ["NO", None, "YES"])
def test_an_image_in_doubt_is_not_called_clean(tmp_path: Path, said: str | None) -> None:
    """A piece of a text is masked; nobody vouches for the rest, and nobody's NO stays."""
    cleaner = PixelCleaner(threads=1)
    attributes = {} if said is None else {"BurnedInAnnotation": said}
    ds = image(faint(20, 6).picture, Modality="DX", **attributes)
    passed = cleaner(ds)
    assert isinstance(passed, Undeclared)
    assert cleaner.clean(ds).doubts > 0
    assert ds.get("BurnedInAnnotation") == said  # the original is left as it is
    path = tmp_path / "in.dcm"
    dcmwrite(path, ds, enforce_file_format=True)
    profile = Profile(frozenset({Option.CLEAN_PIXEL_DATA}))
    engine = Deidentifier(profile, bytes(32), passes={Option.CLEAN_PIXEL_DATA: cleaner})
    with path.open("rb") as file:
        if said == "YES":
            with pytest.raises(BurnedInText):
                engine.clean(file)
            return
        header = engine.clean(file).header
    assert b"113101" not in header
    assert b"\x28\x00\x01\x03" not in header


@needs_networks
def test_a_picture_without_text_is_in_no_doubt() -> None:
    for kind in ("soft", "speckle", "noise"):
        plain = background(kind, *SIZE, np.random.default_rng(21))
        assert PixelCleaner(threads=1).clean(image(plain)).doubts == 0, kind


def test_of_a_film_only_what_changed_is_searched() -> None:
    film, frame = Film(), np.full((400, 600), 90, np.uint8)
    frame[0, 0] = 255
    assert film.changed(frame) == Part(0, 0, 400, 600)
    assert film.changed(frame + np.uint8(0)) is None
    frame[100:110, 200:240] = 180
    part = film.changed(frame)
    assert part == Part(68, 168, 142, 272)
    assert part.in_frame(Box(1, 2, 3, 4)) == Box(169, 70, 171, 72)
    assert film.changed(frame) is None
    frame[300:380, 10:590], frame[0:40, 300] = 10, 10
    assert film.changed(frame) == Part(0, 0, 400, 600)


def test_what_fades_in_is_searched_once_it_can_be_seen() -> None:
    """Each frame differs from the one before by less than anybody looks at."""
    film, frame = Film(), np.zeros((200, 200), np.int16)
    frame[0, 0] = 255
    film.changed(frame)
    searched = 0
    for level in range(1, 21):
        frame[50:60, 50:90] = level
        searched += film.changed(frame) is not None
    assert searched == 4


@needs_networks
def test_text_that_comes_and_goes_within_a_film_is_masked() -> None:
    rng = np.random.default_rng(3)
    plain = background("soft", *SIZE, rng)
    drawn = faintly(plain, [(NAMES[1], 14, 0)], rng, contrast=60)
    film = np.stack([plain, plain, drawn.picture, plain])
    cleaned = PixelCleaner(threads=1).clean(image(film))
    assert covered(drawn.letters[0], mask_of(cleaned.boxes, *SIZE)) > 0.99
