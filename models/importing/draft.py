"""A bundle under construction: written beside the others, checked, then put among them at once.

Nothing is half-written: a draft lies in a hidden folder of the site's folder of bundles, which no
registry looks into, and is renamed into place when it is whole, read back, and its network has been
built with its weights. Whatever goes wrong before leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from dicom.codes import ARTIFICIAL_INTELLIGENCE, Code
from dicom.errors import CannotImport, DiskFull
from dicom.seg import Segment
from models.bundle import Bundle, read_bundle
from models.code import allow_code, code_hash
from models.table import METADATA, TABLE, Table

INFERENCE = "configs/inference.json"
_FULL = frozenset({28, 122})  # ENOSPC, EDQUOT

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class About:
    """What a bundle says of itself beside its numbers.

    Attributes
    ----------
    name, version : str
        Under which it is installed.
    title, description, authors : str
        For people.
    licence, licence_text : str
        Short name, and the text that goes into LICENSE.
    source : str
        Where it is from: a kind of model and its name, no path of this machine.
    modalities : tuple of str
        DICOM modalities that it is for.
    min_slices : int
        Fewest slices that it is good for.
    notes : Mapping of str to str
        Further facts of its provenance, by a name for each.
    """

    name: str
    version: str
    title: str
    description: str
    authors: str
    licence: str
    licence_text: str
    source: str
    modalities: tuple[str, ...]
    min_slices: int = 1
    notes: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def drafting(site: Path, name: str, version: str) -> Iterator[Path]:
    """Give an empty folder for the bundle NAME@VERSION; it is gone when the block is left.

    Raises
    ------
    CannotImport
        When that bundle is installed already, or the folder cannot be written.
    DiskFull
        When there is no room.
    """
    try:
        site.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=".incoming-", dir=site))
    except OSError as error:
        raise CannotImport(f"the folder of bundles cannot be written: {error.strerror}") from None
    try:
        root = hidden / f"{name}@{version}"
        root.mkdir()
        yield root
    except OSError as error:
        if error.errno in _FULL:
            raise DiskFull("no room left in the folder of bundles") from None
        raise
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def install(root: Path, site: Path, *, may_bring_code: bool = False) -> Bundle:
    """Check a draft and put it among the bundles of `site`; return it as it is there.

    Parameters
    ----------
    root : Path
        From :func:`drafting`, with everything in it.
    site : Path
        The same folder as there.
    may_bring_code : bool
        Whether a person has allowed the code in its ``scripts/``.

    Raises
    ------
    InvalidBundle
        When it is not whole, asks for what is not allowed, or its weights do not fit.
    CodeRefused
        When its configuration calls code of its own and nobody has allowed that.
    CannotImport
        When another model of that name and version is installed.
    """
    allowed = {code_hash(root)} if may_bring_code and (root / "scripts").is_dir() else set()
    bundle = read_bundle(root, allow_code=allowed)
    _try(bundle)
    place = site / root.name
    if place.exists():
        if hashes(place) == hashes(root):
            raise CannotImport(f"{bundle.identity} is installed already, with the same content")
        raise CannotImport(
            f"another {bundle.identity} is installed; remove it, or give this one a --name or"
            " --version of its own"
        )
    _to_disk(root)
    root.rename(place)
    if bundle.code_sha256:
        allow_code(place)
    return read_bundle(place)


def write_model(
    root: Path,
    about: About,
    segments: tuple[Segment, ...],
    configuration: Mapping[str, Json],
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    table: Mapping[str, Json] | None = None,
) -> None:
    """Write what MONAI's layout wants around the weights, for a model that comes without it.

    Parameters
    ----------
    root : Path
        The draft; its weights lie in models/.
    about : About
        Who it is.
    segments : tuple of Segment
        What it can find.
    configuration : Mapping
        The content of inference.json.
    inputs, outputs : sequence of str
        What each channel of the input, and of the network's answer, is.
    table : Mapping, optional
        Further fields of our table.
    """
    metadata: dict[str, Json] = {
        "name": about.title,
        "version": about.version,
        "description": about.description,
        "authors": about.authors,
        "copyright": f"see LICENSE ({about.licence})",
        "intended_use": "To show and to correct on a screen, and for research.",
        "network_data_format": {
            "inputs": {"image": _tensor(inputs, "image", "magnitude")},
            "outputs": {"pred": _tensor(outputs, "probabilities", "segmentation")},
        },
    }
    _write_json(root / METADATA, metadata)
    _write_json(root / INFERENCE, dict(configuration))
    describe(root, about)
    write_table(root, about, segments, table)


def describe(root: Path, about: About) -> None:
    """Write LICENSE and docs/README.md where they are missing."""
    if not (root / "LICENSE").is_file():
        (root / "LICENSE").write_text(about.licence_text, encoding="utf-8")
    card = root / "docs" / "README.md"
    if not card.is_file():
        card.parent.mkdir(exist_ok=True)
        facts = {"source": about.source, "licence": about.licence, **about.notes}
        rows = "".join(f"- {name}: {value}\n" for name, value in sorted(facts.items()))
        card.write_text(f"# {about.title}\n\n{about.description}\n\n{rows}", encoding="utf-8")


def write_table(
    root: Path,
    about: About,
    segments: tuple[Segment, ...],
    extra: Mapping[str, Json] | None = None,
) -> None:
    """Write configs/radloop.json: codes, provenance, and the sha256 of every other file.

    To be called last: what is written later has no hash.

    Parameters
    ----------
    root : Path
        The draft.
    about : About
        Who it is.
    segments : tuple of Segment
        What it can find.
    extra : Mapping, optional
        Further fields of the table.
    """
    table: dict[str, Json] = {
        "segments": [_segment(segment) for segment in segments],
        "suits": {"modalities": list(about.modalities), "min_slices": about.min_slices},
        "algorithm": {"name": about.title[:64], "family": _code(ARTIFICIAL_INTELLIGENCE)},
        **(extra or {}),
    }
    finish_table(root, about, table)


def finish_table(root: Path, about: About, table: Mapping[str, Json]) -> None:
    """Write a table with provenance and hashes added to it."""
    files: dict[str, Json] = dict(hashes(root).items())
    provenance: dict[str, Json] = dict(_provenance(about).items())
    _write_json(root / TABLE, {**table, "provenance": provenance, "files": files})


def hashes(root: Path) -> dict[str, str]:
    """Return the sha256 of every file below a folder, by its path; the table's own is left out.

    Raises
    ------
    CannotImport
        When there is a link among them: what it leads to could change unseen.
    """
    found = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            raise CannotImport(f"{path.relative_to(root)} is a link; give the file itself")
        name = path.relative_to(root).as_posix()
        if path.is_file() and name != TABLE:
            with path.open("rb") as stream:
                found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def read_provenance(root: Path) -> dict[str, str]:
    """Return what an import noted of a bundle's provenance; nothing for one that was not imported.

    Raises
    ------
    CannotImport
        When the bundle's table cannot be read.
    """
    if not (root / TABLE).is_file():
        return {}
    try:
        table = Table.model_validate_json((root / TABLE).read_bytes())
    except ValidationError:
        raise CannotImport(f"{TABLE} cannot be read") from None
    return dict(table.provenance)


def safe_name(text: str) -> str:
    """Return a bundle's name made of any text.

    Raises
    ------
    CannotImport
        When nothing of it is left.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-")[:64]
    if not name:
        raise CannotImport(f"{text!r} is no name for a bundle; give one with --name")
    return name


def _try(bundle: Bundle) -> None:
    """Build the network with its weights, and the transforms: what does not fit shows here."""
    from models.predictor import Predictor  # torch: only who imports needs it

    Predictor(bundle, device="cpu")


def _to_disk(root: Path) -> None:
    """Let the content reach the disk before the name does: a power cut leaves nothing half."""
    for path in [*root.rglob("*"), root]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _provenance(about: About) -> dict[str, str]:
    return {
        "source": about.source,
        "licence": about.licence,
        "version": about.version,
        "imported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        **about.notes,
    }


def _tensor(channels: Sequence[str], kind: str, content: str) -> Json:
    names: dict[str, Json] = {str(number): name for number, name in enumerate(channels)}
    return {
        "type": kind,
        "format": content,
        "num_channels": len(channels),
        "spatial_shape": ["*", "*", "*"],
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": False,
        "channel_def": names,
    }


def _segment(segment: Segment) -> Json:
    return {
        "number": segment.number,
        "label": segment.label,
        "category": _code(segment.category),
        "type": _code(segment.type),
        "region": _code(segment.region),
        "laterality": _code(segment.laterality),
        "rgb": list(segment.rgb),
    }


def _code(code: Code | None) -> Json:
    return None if code is None else asdict(code)


def _write_json(path: Path, content: Mapping[str, Json]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
