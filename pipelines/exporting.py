"""An export, from de-identified studies to a folder that may leave the hospital.

Written beside, looked at file by file, and only then given its name: an export that was stopped or
refused never looks finished. A second call with the same dataset and target goes on where the first
one stopped.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from pydicom import Dataset as PydicomDataset
from pydicom import dcmread

from dicom.errors import Canceled, Conflict, InputError, InvalidRequest
from dicom.study import Instance
from dicom.verify import SecondLook
from pipelines.exports import MANIFEST, Case, Dataset, get_format
from pipelines.exports.cases import LeftOut
from pipelines.exports.volumes import write_json, write_whole

Gate = Callable[[Path], None]
"""The second look at one file; raises an :class:`~dicom.errors.InputError` on a leak."""

Progress = Callable[[int, int], None]
"""Called with (done, of all) after each case."""

CARD: Final = "CARD.md"
_DONE: Final = ".done.json"
_NIFTI_HEADER: Final = 352
_VOLUME: Final = ".nii.gz"
_DIRECTORY: Final = "DICOMDIR"
_TEXTS: Final = frozenset({".json", ".tsv", ".md", ".bidsignore", "README"})


@dataclass(frozen=True, slots=True)
class Order:
    """What is exported, and how.

    Attributes
    ----------
    dataset : Dataset
        See :func:`pipelines.exports.cases.gather`.
    left_out : tuple of LeftOut
        Series that are no case; the card counts them.
    formats : tuple of str
        Names of export formats; several lie side by side.
    profile : str
        How the studies were de-identified, with the edition of the table: for the card.
    version : str
        Of radloop.
    """

    dataset: Dataset
    left_out: tuple[LeftOut, ...]
    formats: tuple[str, ...]
    profile: str
    version: str


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes
    ----------
    path : Path
        The folder, or the zip file.
    sha256 : str
        Of the manifest, which holds the hash of every file.
    files : int
    refused : tuple of (int, str, str)
        Cases that a format could not hold: number, code, words.
    """

    path: Path
    sha256: str
    files: int
    refused: tuple[tuple[int, str, str], ...]


def export(
    order: Order,
    target: Path,
    *,
    gate: Gate,
    zipped: bool = False,
    progress: Progress = lambda done, total: None,
    canceled: Callable[[], bool] = lambda: False,
) -> Exported:
    """Write a dataset.

    Parameters
    ----------
    order : Order
    target : Path
        The folder to make, or with `zipped` the file; it must not exist.
    gate : Gate
        Looks at every source first, and at every file before the export gets its name; one refusal
        refuses all of it.
    zipped : bool
        One file instead of a folder.

    Raises
    ------
    Conflict
        When the target is there already.
    InputError
        What a format's `check` or the gate raises; what was written so far is removed by the gate's
        refusal, and kept for another try otherwise.
    Canceled
        Between two cases; a later call goes on.
    OSError
        When the disk is full; a later call goes on.
    """
    if target.exists():
        raise Conflict("there is something at the target already; nothing was written over it")
    formats = {name: get_format(name) for name in order.formats}
    for each in formats.values():
        each.check(order.dataset)
    half = target.with_name(f".{target.name}.part")
    half.mkdir(parents=True, exist_ok=True)
    done = _Done(half, order)
    try:
        for instance in _instances(order.dataset):
            gate(instance.path)
    except InputError:
        shutil.rmtree(half)
        raise
    for place, case in enumerate(order.dataset.cases):
        if canceled():
            raise Canceled
        if not done.has(case):
            try:
                for each in formats.values():
                    each.write(case, order.dataset, half)
            except InputError as error:
                done.note(case, error)
            else:
                done.note(case)
        progress(place + 1, len(order.dataset.cases))
    whole = done.dataset()
    if not whole.cases:
        raise InvalidRequest("no case could be written; see the reason of each")
    for each in formats.values():
        each.check(whole)
        each.finish(whole, half)
    _write_card(half, order, whole, done.refused())
    _drop_scratch(half)
    try:
        sha256, files = _sealed(half, gate)
    except InputError:
        shutil.rmtree(half)
        raise
    if zipped:
        _zip(half, target)
        shutil.rmtree(half)
    else:
        half.replace(target)
    return Exported(target, sha256, files, done.refused())


def check_manifest(home: Path) -> list[str]:
    """Return the files of an export that are missing, changed or not in its manifest.

    Parameters
    ----------
    home : Path
        The folder, or the zip file.

    Raises
    ------
    InvalidRequest
        When it is neither, or has no manifest.
    """
    try:
        listed, found = _zipped(home) if home.is_file() else _laid_out(home)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        raise InvalidRequest("that is no export: its manifest cannot be read") from None
    wrong = set(listed.keys() ^ found.keys())
    wrong |= {name for name, sha256 in found.items() if listed.get(name) != sha256}
    return sorted(wrong)


def _laid_out(home: Path) -> tuple[dict[str, str], dict[str, str]]:
    listed = json.loads((home / MANIFEST).read_text())["files"]
    files = (path for path in home.rglob("*") if path.is_file() and path.name != MANIFEST)
    return dict(listed), {path.relative_to(home).as_posix(): _sha256(path) for path in files}


def _zipped(home: Path) -> tuple[dict[str, str], dict[str, str]]:
    with zipfile.ZipFile(home) as archive:
        (manifest,) = (name for name in archive.namelist() if name.split("/")[-1] == MANIFEST)
        top = manifest.removesuffix(MANIFEST)
        listed = json.loads(archive.read(manifest))["files"]
        found = {}
        for entry in archive.infolist():
            if not entry.is_dir() and entry.filename != manifest:
                with archive.open(entry) as file:
                    found[entry.filename.removeprefix(top)] = _digest(file)
        return dict(listed), found


def _instances(dataset: Dataset) -> Iterator[Instance]:
    for case in dataset.cases:
        yield from case.series.instances
        if case.seg is not None:
            yield case.seg
        yield from case.related


class _Done:
    """Which cases are written, for a call that goes on; another dataset starts anew."""

    def __init__(self, half: Path, order: Order) -> None:
        self._path = half / _DONE
        self._dataset = order.dataset
        text = json.dumps([_key(order.dataset), order.formats])
        self._of = hashlib.sha256(text.encode()).hexdigest()
        self._cases: dict[str, list[str]] = {}
        if self._path.exists():
            content = json.loads(self._path.read_text())
            if content["of"] == self._of:
                self._cases = content["cases"]
                return
        for path in half.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def has(self, case: Case) -> bool:
        return str(case.number) in self._cases

    def note(self, case: Case, error: InputError | None = None) -> None:
        self._cases[str(case.number)] = [error.code, error.message] if error else []
        write_whole(self._path, json.dumps({"of": self._of, "cases": self._cases}).encode())

    def refused(self) -> tuple[tuple[int, str, str], ...]:
        problems = ((int(number), problem) for number, problem in self._cases.items() if problem)
        return tuple((number, code, words) for number, (code, words) in problems)

    def dataset(self) -> Dataset:
        """Return the dataset without the cases that a format could not hold."""
        kept = tuple(case for case in self._dataset.cases if not self._cases[str(case.number)])
        return Dataset(
            self._dataset.name,
            kept,
            self._dataset.labels,
            self._dataset.licence,
            self._dataset.description,
        )


def _key(dataset: Dataset) -> list[Any]:
    return [
        dataset.name,
        [
            [
                case.number,
                case.patient,
                case.split,
                case.seg.sop_instance_uid if case.seg else "",
                [instance.sop_instance_uid for instance in case.series.instances],
                [instance.sop_instance_uid for instance in case.related],
            ]
            for case in dataset.cases
        ],
        [[label.number, label.name] for label in dataset.labels],
    ]


def _drop_scratch(half: Path) -> None:
    """Remove what only the making needed, the list of written cases among it: last of all."""
    for path in sorted(half.glob(".*"), key=lambda path: path.name == _DONE):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def is_text(path: Path) -> bool:
    """Whether a file of an export is no instance of somebody: a volume, a table, a text."""
    return path.name.endswith((_VOLUME, _DIRECTORY)) or path.suffix in _TEXTS or path.name in _TEXTS


def export_gate(look: SecondLook) -> Gate:
    """Return the second look at the files of an export: DICOM, NIfTI headers, tables and texts."""

    def gate(path: Path) -> None:
        if path.name.endswith(_VOLUME):
            with gzip.open(path) as file:
                look.check_text(file.read(_NIFTI_HEADER) + b"\0" + path.name.encode())
        elif path.name == _DIRECTORY:
            look.check_text(path.read_bytes())
        elif is_text(path):
            look.check_text(path.read_bytes() + b"\0" + path.name.encode())
        else:
            look.check(path)

    return gate


# --- the manifest ---------------------------------------------------------------------------------


def _sealed(half: Path, gate: Gate) -> tuple[str, int]:
    """Look at every file a second time, hash it, and write the manifest; return its hash."""
    files = {}
    for path in sorted(path for path in half.rglob("*") if path.is_file()):
        gate(path)
        files[path.relative_to(half).as_posix()] = _sha256(path)
    write_json(half / MANIFEST, {"algorithm": "sha256", "files": files})
    return _sha256(half / MANIFEST), len(files)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while part := file.read(1 << 20):
        digest.update(part)
    return digest.hexdigest()


def _zip(folder: Path, target: Path) -> None:
    """Write a zip file, whole or not at all; what is compressed already is stored."""
    half = target.with_name(f".{target.name}.zip.part")
    with zipfile.ZipFile(half, "w", allowZip64=True) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            packed = path.suffix == ".gz"
            archive.write(
                path,
                Path(target.stem) / path.relative_to(folder),
                zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED,
            )
    with half.open("rb") as file:
        os.fsync(file.fileno())
    half.replace(target)


# --- the data card --------------------------------------------------------------------------------


def _write_card(
    half: Path, order: Order, dataset: Dataset, refused: Sequence[tuple[int, str, str]]
) -> None:
    """Say what is in the dataset, for people and as JSON."""
    headers = [
        dcmread(case.series.instances[0].path, stop_before_pixels=True) for case in dataset.cases
    ]
    scanners = Counter(_scanner(header) for header in headers)
    ages = Counter(str(h.get("PatientAge", "") or "not kept") for h in headers)
    sexes = Counter(str(h.get("PatientSex", "") or "not kept") for h in headers)
    splits = {case.patient: case.split for case in dataset.cases}
    card = {
        "name": dataset.name,
        "description": dataset.description,
        "licence": dataset.licence or "not given",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "radloop": order.version,
        "profile": order.profile,
        "formats": list(order.formats),
        "patients": len(splits),
        "patients_by_split": dict(Counter(splits.values())),
        "studies": len({case.study_uid for case in dataset.cases}),
        "cases": len(dataset.cases),
        "with_labels": sum(case.seg is not None for case in dataset.cases),
        "images": sum(len(case.series.instances) for case in dataset.cases),
        "modalities": dict(Counter(case.series.modality for case in dataset.cases)),
        "scanners": dict(scanners),
        "ages": dict(ages),
        "sexes": dict(sexes),
        "labels": [asdict(label) for label in dataset.labels],
        "left_out": dict(Counter(each.why for each in order.left_out)),
        "refused": [{"case": n, "code": code, "why": words} for n, code, words in refused],
    }
    write_json(half / "card.json", card)
    write_whole(half / CARD, _card_text(card).encode())


def _scanner(header: PydicomDataset) -> str:
    words = (str(header.get(k, "") or "") for k in ("Manufacturer", "ManufacturerModelName"))
    return " ".join(word for word in words if word) or "not said"


def _card_text(card: dict[str, Any]) -> str:
    lines = [f"# {card['name']}", "", card["description"] or "A dataset exported by radloop.", ""]
    lines += [
        f"{card['cases']} cases of {card['patients']} patients "
        f"({card['images']} images, {card['with_labels']} cases with labels).",
        f"Made {card['made']} by radloop {card['radloop']}.",
        f"De-identified: {card['profile']}.",
        f"Licence: {card['licence']}.",
        "",
    ]
    titles = {
        "patients_by_split": "Patients by split",
        "modalities": "Modalities",
        "scanners": "Scanners",
        "ages": "Ages",
        "sexes": "Sexes",
        "left_out": "Series left out",
    }
    for key, title in titles.items():
        if card[key]:
            lines += [f"## {title}", "", "| | cases |", "|---|---|"]
            lines += [f"| {word} | {count} |" for word, count in sorted(card[key].items())]
            lines.append("")
    if card["labels"]:
        lines += ["## Labels", "", "| number | name | codes |", "|---|---|---|"]
        lines += [
            f"| {o['number']} | {o['name']} | {', '.join(o['code'])} |" for o in card["labels"]
        ]
        lines.append("")
    if card["refused"]:
        lines += ["## Cases that a format could not hold", ""]
        lines += [f"- case {o['case']}: {o['why']} ({o['code']})" for o in card["refused"]]
        lines.append("")
    return "\n".join(lines)
