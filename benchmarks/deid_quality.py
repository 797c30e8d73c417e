"""How right de-identification is, beside dicognito, dicom-anonymizer, deid and Orthanc.

Four looks: a unique token in every attribute of PS3.15 Table E.1-1, at depth 0 to 4, in public and
private sequences, by every set of options; an answer key of more than 1,000 objects of 19 SOP
classes; every file of the corpus of awkward files; dciodvfy before and after. The peers get the
same files in the same run, as their documentation has them used.
"""

from __future__ import annotations

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydicom import Dataset, dcmwrite

from benchmarks.quality.answers import Case
from benchmarks.quality.corpus import CORPUS, Walked, new_errors, walk
from benchmarks.quality.objects import make_key
from benchmarks.quality.peers import ORTHANC, PEERS, run_peer
from benchmarks.quality.planting import Garden, gardens
from benchmarks.quality.scoring import CATEGORIES, Score, score
from benchmarks.table import Row, machine, publish
from dicom.burned_in import PixelCleaner
from dicom.deid import Deidentifier
from dicom.errors import InputError
from dicom.fast import EngineChoice, engine_for
from dicom.profile import NODE_OPTIONS, PIXEL_OPTIONS, Option, Profile

KEY: Final = bytes(range(32))
PATIENTS, VISITS, IMAGES = 9, 2, 3
ENOUGH: Final = 99.95
RESEARCH: Final = NODE_OPTIONS | {
    Option.RETAIN_SAFE_PRIVATE,
    Option.RETAIN_PATIENT_CHARACTERISTICS,
    Option.CLEAN_STRUCTURED_CONTENT,
    Option.CLEAN_GRAPHICS,
}
"""What the answer key asks for: safe private attributes and ages stay, dates are moved ..."""
TEXT: Final = Option.CLEAN_PIXEL_DATA
"""... and text in pixels is masked."""


def option_sets() -> Iterator[tuple[str, frozenset[Option]]]:
    """Yield every option by itself, none, and as many as go together."""
    headers = frozenset(Option) - PIXEL_OPTIONS
    yield "Basic Profile", frozenset()
    for option in Option:
        if option in headers:
            yield option.value, frozenset({option})
    yield "the node's", NODE_OPTIONS
    yield "all with full dates", headers - {Option.RETAIN_MODIFIED_DATES}
    moved = headers - {Option.RETAIN_FULL_DATES, Option.RETAIN_UIDS}
    yield "all with modified dates", moved


def main() -> None:
    """Measure all of it."""
    warnings.simplefilter("ignore")
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    about = machine()
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        folder = Path(name)
        rows = [*_planted(folder / "planted"), *_answered(folder / "key"), *_corpus(folder)]
    publish("deid_quality", rows, about)


# --- planted tokens -------------------------------------------------------------------------------


def _planted(folder: Path) -> Iterator[Row]:
    planted = [(depth, garden, _write(folder, depth, garden)) for depth, garden in gardens()]
    total = sum(len(garden.planted) for _, garden, _ in planted)
    yield Row("tokens planted, depth 0 to 4", "tokens", total)
    for title, options in option_sets():
        left = 0
        careful = Deidentifier(Profile(options), KEY)
        for engine in (careful, engine_for(EngineChoice.AUTO, careful)):
            for _, garden, path in planted:
                with path.open("rb") as file:
                    content = engine.clean(file).header
                left += len(garden.left_in(content, options))
        yield Row(f"tokens left: {title}", "tokens", left, target="0", met=left == 0)
    for peer in (*PEERS, ORTHANC):
        pairs = [(path, folder / peer / path.name) for _, _, path in planted]
        written = run_peer(peer, pairs)
        left = top = 0
        for depth, garden, path in planted:
            if path in written:
                found = len(garden.left_in(written[path].read_bytes()))
                left += found
                top += found if depth == 0 else 0
        yield Row("tokens left: Basic Profile, at the top", "tokens", 0, peer, top)
        yield Row("tokens left: Basic Profile, depth 0 to 4", "tokens", 0, peer, left)
        yield Row("planted files written", "files", len(planted), peer, len(written))


def _write(folder: Path, depth: int, garden: Garden) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"depth{depth}.dcm"
    ds: Dataset = garden.ds
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    path.write_bytes(buffer.getvalue())
    return path


# --- the answer key -------------------------------------------------------------------------------


def _answered(folder: Path) -> Iterator[Row]:
    cases = list(make_key(folder / "in", patients=PATIENTS, visits=VISITS, images=IMAGES))
    ours = score(cases, _ours(cases, folder / "ours"))
    yield Row("answer key: objects", "files", len(cases), target=">= 1000", met=len(cases) >= 1000)
    classes = len({case.sop_class for case in cases})
    yield Row("answer key: SOP classes", "classes", classes, target=">= 10", met=classes >= 10)
    yield Row("answer key: actions due", "actions", ours.due.total())
    for category in CATEGORIES:
        yield Row(
            f"answer key: {category} right",
            "%",
            ours.percent(category),
            target=f">= {ENOUGH}",
            met=ours.percent(category) >= ENOUGH,
        )
    for peer in (*PEERS, ORTHANC):
        pairs = [
            (case.path, folder / peer / case.path.relative_to(folder / "in")) for case in cases
        ]
        theirs = score(cases, run_peer(peer, pairs))
        yield from _beside(ours, theirs, peer)
    invalid = len(new_errors([(case.path, path) for case, path in _sample(cases, folder)]))
    yield Row("dciodvfy: key, new errors", "files", invalid, target="0", met=invalid == 0)


def _beside(ours: Score, theirs: Score, peer: str) -> Iterator[Row]:
    yield Row(
        "answer key: all right",
        "%",
        ours.percent(),
        peer,
        theirs.percent(),
        target=f">= {ENOUGH}",
        met=ours.percent() >= ENOUGH,
    )
    for category in CATEGORIES:
        here, there = ours.percent(category), theirs.percent(category)
        yield Row(f"answer key: {category} right", "%", here, peer, there)
    yield Row(
        "answer key: files with a leak",
        "files",
        ours.leaks,
        peer,
        theirs.leaks,
        target="0",
        met=ours.leaks == 0,
    )


def _ours(cases: list[Case], folder: Path) -> dict[Path, Path]:
    passes = {TEXT: PixelCleaner()}
    careful = Deidentifier(Profile(RESEARCH | {TEXT}), KEY, passes=passes)
    engine = engine_for(EngineChoice.AUTO, careful)
    written = {}
    for case in cases:
        try:
            written[case.path] = engine.deidentify_file(case.path, folder)[0].path
        except InputError:
            continue
    return written


def _sample(cases: list[Case], folder: Path) -> Iterator[tuple[Case, Path]]:
    """Yield two objects of each SOP class, with our outputs."""
    seen: dict[str, int] = {}
    written = _ours(cases, folder / "again")
    for case in cases:
        seen[case.sop_class] = seen.get(case.sop_class, 0) + 1
        if seen[case.sop_class] <= 2 and case.path in written:
            yield case, written[case.path]


# --- the corpus -----------------------------------------------------------------------------------


def _corpus(folder: Path) -> Iterator[Row]:
    if not CORPUS.exists():
        return
    for title, options in (("the node's", NODE_OPTIONS), ("research", RESEARCH)):
        profile = Profile(options)
        engine = engine_for(EngineChoice.AUTO, Deidentifier(profile, KEY))
        walked = walk(engine, profile, folder / title.replace(" ", "_"))
        yield from _walked(title, walked)


def _walked(title: str, walked: Walked) -> Iterator[Row]:
    held = walked.quarantined.total()
    yield Row(f"corpus, {title}: clean", "files", walked.clean)
    yield Row(f"corpus, {title}: quarantined with a code", "files", held)
    for what, count in (
        ("crashed", walked.crashed.total()),
        ("the second look found something", walked.findings.total()),
        ("readable, and taken for no DICOM", len(walked.unexpected)),
        ("dciodvfy reports a new error", len(new_errors(walked.pairs))),
    ):
        yield Row(f"corpus, {title}: {what}", "files", count, target="0", met=count == 0)


if __name__ == "__main__":
    main()
