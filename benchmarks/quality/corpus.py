"""Real and awkward files: clean, or quarantined with a reason; and valid where they were."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom.deid import Engine
from dicom.errors import InputError, NotDicom
from dicom.part10 import PARSER_ERRORS
from dicom.profile import Profile
from dicom.verify import Originals, SecondLook

CORPUS = Path(__file__).parents[3] / "shared" / "data" / "dicom-corpus"


@dataclass(slots=True)
class Walked:
    """What became of a corpus.

    Attributes
    ----------
    clean : int
        Written, and the second look found nothing.
    quarantined : Counter
        Held back, by code.
    findings : Counter
        Rules that the second look saw broken.
    crashed : Counter
        Errors without a code: there must be none.
    unexpected : list of str
        Files that were taken although the index says that they cannot be read, or the other way.
    pairs : list of (Path, Path)
        Source and output of what was written.
    """

    clean: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    crashed: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    pairs: list[tuple[Path, Path]] = field(default_factory=list)


def walk(engine: Engine, profile: Profile, folder: Path, *, every: int = 1) -> Walked:
    """De-identify every file of the corpus, and look at each a second time."""
    walked = Walked()
    rows = list(csv.DictReader((CORPUS / "INDEX.csv").open()))[::every]
    for number, row in enumerate(rows):
        source = CORPUS / row["path"]
        try:
            instance, _ = engine.deidentify_file(source, folder / str(number))
        except InputError as error:
            walked.quarantined[error.code] += 1
            readable = row["read"] == "ok" and row["decode"].startswith("ok")
            if readable and isinstance(error, NotDicom):
                walked.unexpected.append(row["path"])
            continue
        except Exception as error:  # noqa: BLE001 - this is what is counted
            walked.crashed[type(error).__name__] += 1
            continue
        if row["read"] != "ok":
            walked.unexpected.append(row["path"])
        originals = Originals(profile)
        before = originals.read(source)
        findings = SecondLook(profile, originals.tokens).look(instance.path, before)
        walked.findings.update(finding.rule for finding in findings)
        walked.clean += not findings
        walked.pairs.append((source, instance.path))
    return walked


def new_errors(pairs: Sequence[tuple[Path, Path]]) -> list[tuple[Path, set[str]]]:
    """Return the outputs in which dciodvfy reports an error that it did not report before.

    Raises
    ------
    FileNotFoundError
        When dicom3tools is not installed.
    """
    if shutil.which("dciodvfy") is None:
        raise FileNotFoundError("dciodvfy")
    worse = []
    for source, output in pairs:
        more = errors_of(output) - errors_of(source)
        if more:
            worse.append((source, more))
    return worse


def errors_of(path: Path) -> set[str]:
    """Return dciodvfy's errors, without the values and numbers that they quote."""
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as folder:
        readable = _inflated(path, Path(folder))
        run = subprocess.run(["dciodvfy", str(readable)], capture_output=True, check=False)
    lines = (run.stderr + run.stdout).decode("latin-1").splitlines()
    quoted = re.compile(r"<[^>]*>|\b\d+(\.\d+){2,}\b|value .*? (?=for|in|of)|(?<=UID )\S+")
    return {quoted.sub("", line).strip() for line in lines if "Error" in line}


def _inflated(path: Path, folder: Path) -> Path:
    """Return a file that dciodvfy can read: it does not know the deflated transfer syntax."""
    try:
        ds = dcmread(path)
    except PARSER_ERRORS:
        return path
    if ds.file_meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return path
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(folder / "inflated.dcm")
    return folder / "inflated.dcm"
