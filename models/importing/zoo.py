"""A MONAI bundle from elsewhere: its files stay as they are, our table is laid beside them.

The model zoo's bundles name their classes in metadata.json and know no DICOM codes; the table gets
them from the code book. Training's leftovers (its scripts, logs and configurations) are not needed
for a prediction, but they are the bundle: they are kept, and hashed with the rest.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from dicom.errors import CannotImport, CodeRefused
from dicom.seg import Segment
from models.importing.codebook import Codebook
from models.importing.draft import About, Json, describe, finish_table, write_table
from models.table import METADATA, TABLE

# What a computer may run when it is opened by its name.
CODE = frozenset({".py", ".pyc", ".so", ".pyd", ".dll", ".dylib", ".sh", ".exe", ".pkl", ".pickle"})
_MODALITIES = {"CT": "CT", "MR": "MR", "MRI": "MR", "PET": "PT", "PT": "PT", "US": "US"}
_LEFT_OUT = shutil.ignore_patterns(".git", "__pycache__", ".cache", ".DS_Store", "__MACOSX")


class _Tensor(BaseModel):
    modality: str = ""
    channel_def: dict[str, str] = {}


class _Tensors(BaseModel):
    inputs: Annotated[dict[str, _Tensor], Field(min_length=1)]
    outputs: Annotated[dict[str, _Tensor], Field(min_length=1)]


class _Metadata(BaseModel):
    name: str = ""
    version: str
    task: str = ""
    description: str = ""
    authors: str = ""
    network_data_format: _Tensors
    radloop: dict[str, Any] | None = None


def is_bundle(folder: Path) -> bool:
    """Return whether a folder is laid out like a MONAI bundle."""
    return (folder / METADATA).is_file()


@dataclass(frozen=True, slots=True)
class OwnWords:
    """What a MONAI bundle says of itself.

    Attributes
    ----------
    folder_name, title, version, description, authors : str
        As they are there.
    modalities : tuple of str
        DICOM modalities, as far as they are named.
    has_table : bool
        Whether it brings radloop's own table, with codes and modalities.
    """

    folder_name: str
    title: str
    version: str
    description: str
    authors: str
    modalities: tuple[str, ...]
    has_table: bool


def read_about(folder: Path) -> OwnWords:
    """Return what a MONAI bundle says of itself.

    Raises
    ------
    CannotImport
        When its metadata.json cannot be read.
    """
    metadata = _metadata(folder)
    found = {each.modality for each in metadata.network_data_format.inputs.values()}
    name = folder.name.partition("@")[0]
    return OwnWords(
        folder_name=name,
        title=metadata.name or name,
        version=metadata.version,
        description=metadata.description or metadata.task,
        authors=metadata.authors or "unknown",
        modalities=tuple(
            sorted({_MODALITIES[m.upper()] for m in found if m.upper() in _MODALITIES})
        ),
        has_table=metadata.radloop is not None or (folder / TABLE).is_file(),
    )


def code_files(folder: Path) -> list[str]:
    """Return the paths of files that hold code, as far as they are shown to a person."""
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in CODE and "__pycache__" not in path.parts and path.is_file()
    )


def refuse_code(folder: Path, *, allowed: bool) -> None:
    """Refuse a folder that holds code, unless a person has allowed it.

    Raises
    ------
    CodeRefused
        Naming the files.
    """
    found = code_files(folder)
    if found and not allowed:
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise CodeRefused(f"the bundle brings code: {', '.join(found[:10])}{more}")


def write_zoo_bundle(root: Path, folder: Path, about: About, codebook: Codebook) -> None:
    """Copy a MONAI bundle into a draft, and lay the table beside it.

    Raises
    ------
    CannotImport
        When its metadata.json cannot be read, or it holds links.
    MissingCodes
        Naming the classes without codes.
    """
    if any(path.is_symlink() for path in folder.rglob("*")):
        raise CannotImport("the bundle holds links; give the files themselves")
    shutil.copytree(folder, root, dirs_exist_ok=True, ignore=_LEFT_OUT)
    metadata = _metadata(root)
    describe(root, about)
    if (root / TABLE).is_file():
        finish_table(root, about, _table(root))
        return
    if metadata.radloop is not None:  # one of ours: the table moves beside, where hashes can stand
        own = metadata.radloop
        document = json.loads((root / METADATA).read_text("utf-8"))
        del document["radloop"]
        text = json.dumps(document, indent=4, ensure_ascii=False) + "\n"
        (root / METADATA).write_text(text, encoding="utf-8")
        finish_table(root, about, own)
        return
    segments, channels = _coded(metadata, codebook)
    write_table(root, about, segments, {"channels": dict(channels.items())})


def _coded(
    metadata: _Metadata, codebook: Codebook
) -> tuple[tuple[Segment, ...], Mapping[str, Json]]:
    """Return the segments, and the segment's label of each output channel."""
    (output, *_) = metadata.network_data_format.outputs.values()
    try:
        names = {int(channel): name for channel, name in output.channel_def.items()}
    except ValueError:
        raise CannotImport(f"{METADATA}: channel_def: channels are not numbered") from None
    if not names:
        raise CannotImport(f"{METADATA}: channel_def: the classes have no names")
    behind = [channel for channel, name in names.items() if name.casefold() == "background"]
    wanted = {channel: name for channel, name in names.items() if channel not in behind}
    shift = 0 if behind or 0 not in wanted else 1  # without background, channel 0 is segment 1
    segments = codebook.segments({channel + shift: name for channel, name in wanted.items()})
    label_of = {segment.number - shift: segment.label for segment in segments}
    channels = {str(c): label_of.get(c, "background") for c in sorted(names)}
    return segments, channels


def _metadata(folder: Path) -> _Metadata:
    try:
        return _Metadata.model_validate_json((folder / METADATA).read_bytes())
    except FileNotFoundError:
        raise CannotImport(f"{METADATA} is missing: this is no MONAI bundle") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise CannotImport(f"{METADATA}: {place}: {first['msg']}") from None


def _table(root: Path) -> dict[str, Any]:
    try:
        table = json.loads((root / TABLE).read_text("utf-8"))
    except ValueError:
        raise CannotImport(f"{TABLE} is not JSON") from None
    if not isinstance(table, dict):
        raise CannotImport(f"{TABLE} is no object")
    return table
