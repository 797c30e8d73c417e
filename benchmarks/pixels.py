"""Pixels: text that is found and what it costs, beside rapidocr itself; faces that are taken off.

Planted texts of known letters, real radiographs without planted text, real files with burned-in
names whose places others marked, and real heads. A text counts as found when a box covers 99 % of
its letters. The peer is rapidocr's own pipeline, detection only, with the same network: what tiles
and thresholds of ours change, shows. Costs are processor seconds of all threads, which other work
on the machine changes least.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import imagecodecs
import numpy as np
import torch
from pydicom import dcmread

from benchmarks.table import Row, machine, publish
from dicom.burned_in import Box, PixelCleaner, PixelPolicy, mask_of
from dicom.burned_in.finding import TextFinder
from dicom.burned_in.reading import TextReader
from dicom.burned_in.views import Picture, searched_views, views_of
from dicom.folder import read_folder
from dicom.frames.painting import Canvas
from dicom.verify.pixels import PixelLook
from dicom.verify.tokens import Tokens
from dicom.volume import read_volume
from models.deface.face import face_mask
from models.deface.series import brain_by_bundle, deface_series
from models.nifti import read_nifti
from models.prediction import Image
from tests.dicom.test_burned_in import image
from tests.drawn import IDS, NAMES, background, covered, faintly, with_texts

DATA = Path(__file__).parents[2] / "shared/data"
DEID = DATA / "dicom-corpus/deid"
RADIOGRAPHS = DATA / "cxr/hannover_cc-by-3.0/png"
MR = DATA / "mr"
THREADS = len(os.sched_getaffinity(0))
TEXTS = (*NAMES, *IDS)
WANTED = 0.99
FRAMES = 12

Find = Callable[[Picture], Iterable[Box]]


@dataclass
class Tally:
    """What one finder found in one group of pictures."""

    covers: list[float] = field(default_factory=list)
    seconds: float = 0.0
    megapixels: float = 0.0

    @property
    def found(self) -> float:
        """Return the share of texts that are masked whole, per cent."""
        return 100 * float(np.mean(np.array(self.covers) >= WANTED))

    @property
    def missed(self) -> int:
        """Return how many texts no box lies over."""
        return sum(cover < 0.1 for cover in self.covers)


def groups() -> dict[str, list[tuple[str, int, int, object, tuple[int, int]]]]:
    """Return pictures to draw, by group: background, letter height, degrees, ink, size."""
    small, large = (600, 800), (2000, 2500)
    return {
        "8 to 12 pixels, white": [
            ("speckle", 8, 0, 255, small),
            ("soft", 10, 0, 255, small),
            ("noise", 12, 0, 255, small),
        ],
        "16 to 48 pixels, upright to upside down": [
            ("soft", height, turn, 255, small) for height, turn in ((16, 90), (48, 180), (24, 270))
        ],
        "14 pixels, aslant": [("speckle", 14, turn, 255, small) for turn in (15, 45)],
        "14 pixels, in colours": [
            ("soft", 14, turn, ink, small)
            for ink, turn in (
                ((255, 220, 0), 0),
                ((0, 200, 0), 90),
                ((200, 30, 30), 0),
                ((60, 60, 255), 90),
            )
        ],
        "large radiograph, 16 to 120 pixels": [
            ("soft", height, 0, ink, large) for height, ink in ((20, 255), (120, 0))
        ],
    }


def tried(find: Find, pictures: list[tuple[str, int, int, object, tuple[int, int]]]) -> Tally:
    """Return what a finder finds in one group; the same pictures for each finder."""
    tally, rng = Tally(), np.random.default_rng(7)
    for kind, height, turn, ink, size in pictures:
        plain = background(kind, *size, rng)
        if isinstance(ink, tuple):
            plain = np.repeat(plain[..., None], 3, axis=2)
        texts = [(text, height, turn) for text in rng.choice(TEXTS, 5, replace=False)]
        drawn = with_texts(plain, texts, rng, ink=ink)
        begun = time.process_time()
        boxes = list(find(drawn.picture))
        tally.seconds += time.process_time() - begun
        tally.megapixels += size[0] * size[1] / 1e6
        mask = mask_of(boxes, *size)
        tally.covers += [covered(letters, mask) for letters in drawn.letters]
    return tally


def by_rapidocr() -> Find:
    """Return rapidocr's own detection, as it comes."""
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Global.log_level": "error",
            "EngineConfig.onnxruntime.intra_op_num_threads": THREADS,
        }
    )

    def find(picture: Picture) -> list[Box]:
        colour = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
        answer = engine(colour[..., ::-1].copy(), use_det=True, use_cls=False, use_rec=False)
        rows, columns = picture.shape[:2]
        boxes = []
        for corners in [] if answer.boxes is None else answer.boxes:
            low, high = np.floor(corners.min(axis=0)), np.ceil(corners.max(axis=0))
            left, top = (max(0, int(edge)) for edge in low)
            box = Box(left, top, max(left + 1, int(high[0])), max(top + 1, int(high[1])))
            inside = box.within(rows, columns)
            boxes += [inside] if inside is not None else []
        return boxes

    return find


def planted(find: Find) -> list[Row]:
    """Return recall and cost on planted texts, beside rapidocr."""
    peer, rows = by_rapidocr(), []
    ours_total, peer_total = Tally(), Tally()
    for name, pictures in groups().items():
        ours, theirs = tried(find, pictures), tried(peer, pictures)
        for total, one in ((ours_total, ours), (peer_total, theirs)):
            total.covers += one.covers
            total.seconds += one.seconds
            total.megapixels += one.megapixels
        told = f"{len(ours.covers)} texts, {ours.missed} missed"
        rows.append(
            Row(
                f"planted text masked whole: {name} ({told})",
                "%",
                round(ours.found, 1),
                "rapidocr",
                round(theirs.found, 1),
                target=">= 98",
                met=ours.found >= 98,
            )
        )
    costs = [total.seconds / total.megapixels for total in (ours_total, peer_total)]
    what = "search, all planted pictures"
    rows.append(
        Row(
            what, "CPU s/megapixel", round(costs[0], 3), "rapidocr", round(costs[1], 3),
            round(costs[0] / costs[1], 2),
        )
    )  # fmt: skip
    return rows


def faint() -> list[Row]:
    """Return recall of faint texts in real radiographs, by contrast and by height of the letters.

    Beside it, that of the pictures as they are, without the view of evened contrast.
    """
    finder = TextFinder(threads=THREADS)
    pictures = [_grey(path) for path in sorted(RADIOGRAPHS.glob("*.png"))[:30:5]]
    rows = []
    for height in (8, 14, 32):
        for contrast in (12, 20, 32, 50):
            rng, all_views, plain = np.random.default_rng(5), Tally(), Tally()
            for picture in pictures:
                texts = [(text, height, 0) for text in rng.choice(TEXTS, 5, replace=False)]
                drawn = faintly(picture, texts, rng, contrast=contrast)
                for tally, views in ((all_views, searched_views), (plain, views_of)):
                    boxes = [box for view in views(drawn.picture) for box in finder.find(view)]
                    mask = mask_of(boxes, *picture.shape)
                    tally.covers += [covered(letters, mask) for letters in drawn.letters]
            told = f"{len(all_views.covers)} texts, {all_views.missed} missed wholly"
            rows.append(
                Row(
                    f"radiographs, letters of {height}, {contrast} of 255 levels ({told})",
                    "%",
                    round(all_views.found, 1),
                    "without evened contrast",
                    round(plain.found, 1),
                )
            )
    return rows


def film() -> list[Row]:
    """Return what a film costs in which a part moves, and the same frames as single images."""
    rng = np.random.default_rng(11)
    frames = np.repeat(background("speckle", 600, 800, rng)[None], FRAMES, axis=0)
    for frame in frames[1:]:
        frame[150:450, 250:550] = background("speckle", 300, 300, rng)
    canvas = Canvas(image(frames))
    cleaner = PixelCleaner(threads=THREADS)
    begun = time.process_time()
    cleaner._found(canvas, ())
    whole = time.process_time() - begun
    begun = time.process_time()
    for frame in frames:
        cleaner._in_picture(frame, np.zeros(frame.shape, bool))
    each = time.process_time() - begun
    megapixels = frames.size / 1e6
    return [
        Row(
            f"film of {FRAMES} frames, a fifth of which moves",
            "CPU s/megapixel",
            round(whole / megapixels, 3),
            "as single images",
            round(each / megapixels, 3),
            round(each / whole, 2),
        )
    ]


def _grey(path: Path) -> Picture:
    picture: Picture = imagecodecs.png_decode(path.read_bytes())
    return picture if picture.ndim == 2 else picture[..., 0]


def radiographs() -> list[Row]:
    """Return what is masked on real radiographs, whose only texts are markers and remarks."""
    cleaner = PixelCleaner(PixelPolicy(keep_markers=True), threads=THREADS)
    reader = TextReader(threads=THREADS)
    seconds = megapixels = area = 0.0
    masked = kept = unread = doubted = 0
    paths = sorted(RADIOGRAPHS.glob("*.png"))[::2]
    for path in paths:
        picture = _grey(path)
        nothing = np.zeros(picture.shape, bool)
        begun = time.process_time()
        boxes, markers, doubts = cleaner._in_picture(picture, nothing)
        seconds += time.process_time() - begun
        megapixels += picture.size / 1e6
        masked, kept = masked + len(boxes), kept + len(markers)
        doubted += bool(doubts)
        area += float(mask_of(boxes, *picture.shape).mean()) / len(paths)
        unread += sum(not _readable(reader, picture, box) for box in boxes)
    count = f"{len(paths)} real radiographs"
    return [
        Row(f"{count}: searched, markers read", "CPU s/megapixel", round(seconds / megapixels, 3)),
        Row(f"{count}: side markers kept by option", "boxes", kept),
        Row(f"{count}: boxes masked beside them", "boxes", masked),
        Row(f"{count}: in doubt, so that they are not called clean", "images", doubted),
        Row(f"{count}: of these, nothing to be read in them", "boxes", unread),
        Row(f"{count}: area masked", "%", round(100 * area, 3), target="<= 0.5", met=area <= 0.005),
    ]


def _readable(reader: TextReader, picture: Picture, box: Box) -> bool:
    reading = reader.best(picture, box)
    return reading.confidence >= 0.5 and any(one.isalnum() for one in reading.text)


def real_files() -> list[Row]:
    """Return whether burned-in names that others marked are masked, and what a whole file costs."""
    cleaner = PixelCleaner(threads=THREADS)
    marked = json.loads((DEID / "presidio_pseudo-phi/ground_truth_docs_sample.json").read_text())
    whole = total = 0
    rows = []
    for name in ("0_ORIGINAL_compressed.dcm", "2_ORIGINAL.dcm", "us_greyscale.dcm"):
        (path,) = DEID.glob(f"*/{name}")
        ds = dcmread(path)
        begun = time.process_time()
        cleaned = cleaner.clean(ds)
        seconds = time.process_time() - begun
        megapixels = ds.Rows * ds.Columns / 1e6
        what = f"{path.stem}, {megapixels:.1f} megapixels: decoded, searched, masked, coded"
        rows.append(Row(what, "CPU s/megapixel", round(seconds / megapixels, 3)))
        mask = mask_of(cleaned.boxes, ds.Rows, ds.Columns)
        for word in marked.get(f"sample_data/{name.replace('_compressed', '')}", ()):
            # Their picture has an edge of 25 pixels.
            top, left = word["top"] - 25, word["left"] - 25
            total += 1
            whole += bool(mask[top : top + word["height"], left : left + word["width"]].all())
    share = 100 * whole / total
    what = f"burned-in words of real files masked whole ({total})"
    return [
        Row(what, "%", round(share, 1), target="100", met=whole == total),
        *rows,
        _second_look(),
    ]


def _second_look() -> Row:
    (path,) = DEID.glob("*/us_greyscale.dcm")
    ds = dcmread(path, stop_before_pixels=True)
    look = PixelLook(Tokens(words=frozenset({"nobodyatall"})), threads=THREADS)
    begun = time.process_time()
    look.look(path)
    each = (time.process_time() - begun) / (ds.Rows * ds.Columns / 1e6)
    return Row("second look, us_greyscale: text found and read", "CPU s/megapixel", round(each, 3))


def heads() -> list[Row]:
    """Return what defacing leaves of real faces, and what it changes of their brains."""
    torch.set_num_threads(THREADS)
    brain = brain_by_bundle(device="cpu", threads=THREADS)
    rows = []
    voxels, affine = read_nifti(MR / "t1_nifti/brainchop_t1_crop.nii.gz")
    silver, _ = read_nifti(MR / "silver_labels/t1crop_silver_brainmask.nii.gz")
    begun = time.process_time()
    gone, check = face_mask(voxels, affine, brain(Image(voxels, affine)))
    seconds = time.process_time() - begun
    rows += _of_head("adult, T1, 1 mm", check.left, check.median_mm, seconds)
    touched = int((gone & (silver > 0)).sum())
    rows.append(
        _untouched(f"adult: voxels changed of {int((silver > 0).sum())} silver ones", touched)
    )
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        with tarfile.open(MR / "sag_anon_t1_dicom/dicom.tar.xz") as opened:
            opened.extractall(name, filter="data")
        series = read_folder(Path(name)).studies[0].series[0]
        begun = time.process_time()
        defaced = deface_series(series, brain)
        seconds = time.process_time() - begun
        slices = len(read_volume(series).sources)
    check = defaced.check
    rows += _of_head(f"child, T1, {slices} DICOM slices", check.left, check.median_mm, seconds)
    rows.append(_untouched("child: voxels changed of mr_brain's mask", check.brain_voxels_changed))
    return rows


def _of_head(name: str, left: float, moved_mm: float, seconds: float) -> list[Row]:
    return [
        Row(f"{name}: face left", "%", round(100 * left, 2), target="<= 3", met=left <= 0.03),
        Row(
            f"{name}: face farther back, median", "mm", moved_mm, target=">= 15", met=moved_mm >= 15
        ),
        Row(f"{name}: read, brain and face", "CPU s", round(seconds, 2)),
    ]


def _untouched(what: str, count: int) -> Row:
    return Row(what, "voxels", count, target="0", met=count == 0)


def main() -> None:
    """Measure, print, and write `results/pixels.json`."""
    if not DEID.is_dir() or not RADIOGRAPHS.is_dir() or not MR.is_dir():
        raise SystemExit(f"{DATA} does not hold the pictures")
    about = machine()
    find = TextFinder(threads=THREADS).find
    rows: list[Row] = []
    for part in (lambda: planted(find), faint, film, real_files, heads, radiographs):
        rows += part()
        publish("pixels", rows, about)  # what is measured so far stays, should the rest fail


if __name__ == "__main__":
    main()
