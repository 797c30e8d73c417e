"""What may leave for a cluster: de-identified arrays, and nothing else.

Only a :class:`Shipment` can be sent, and there is no other way to one than :meth:`Shipment.open`,
which looks at every byte: a file that the manifest does not name, another hash, an array with
anything behind it, a word that is not expected, and nothing leaves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import ValidationError

from dicom.errors import InvalidDataset, UnfitForCluster
from models.learning.cases import Dataset, file_sha256
from models.learning.graph import Source, read_graph
from models.learning.orders import ORDER, TrainOrder
from models.learning.packing import ARRAYS, DATASET, PACKED, RUN, START, Packed, PackedFile

_ARRAY: Final = re.compile(rf"{ARRAYS}/[0-9a-f]{{32}}\.npy")
_MANIFEST: Final = f"{DATASET}/dataset.json"
_ORDER: Final = f"{RUN}/{ORDER}"
_KINDS: Final = frozenset(("float32", "float64", "uint8", "int32", "int64", "bool"))
_CASE: Final = re.compile(r"case-\d{1,7}")
_PATIENT: Final = re.compile(r"patient-\d{1,7}")
_UID: Final = re.compile(rb"(?<![\d.])[0-2](\.\d+){5,}(?![\d.])")  # PS3.5 9.1, six parts or more
_ZIP: Final = b"PK\x03\x04"  # as torch.save writes


@dataclass(frozen=True, slots=True)
class Shipment:
    """A packed training that was looked at; made by :meth:`open` alone.

    Attributes
    ----------
    root : Path
    files : mapping
        Size and hash of every file, by its name below `root`.
    """

    root: Path
    files: Mapping[str, PackedFile]

    @classmethod
    def open(cls, root: Path) -> Shipment:
        """Return what was packed, after a look at every byte of it.

        Raises
        ------
        UnfitForCluster
            When there is anything else in it, or anything has changed since it was packed.
        """
        try:
            packed = Packed.model_validate_json((root / PACKED).read_bytes())
        except (OSError, ValidationError):
            raise UnfitForCluster(
                "what was packed has no manifest, or none that can be read"
            ) from None
        _only_named(root, packed.files)
        for name, wanted in packed.files.items():
            _look_at(root, name, wanted)
        _look_at_words(root)
        return cls(root, dict(packed.files))


def _only_named(root: Path, files: Mapping[str, PackedFile]) -> None:
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    if found - {PACKED} - set(files):
        raise UnfitForCluster(
            "a file lies beside what was packed, and the manifest does not name it"
        )
    if (set(files) | {_MANIFEST, _ORDER}) - found:
        raise UnfitForCluster("a file of the manifest is missing")


def _look_at(root: Path, name: str, wanted: PackedFile) -> None:
    path = root / name
    if path.is_symlink():
        raise UnfitForCluster("a packed file is a link")
    try:
        is_same = path.stat().st_size == wanted.size and file_sha256(path) == wanted.sha256
    except (OSError, InvalidDataset):
        raise UnfitForCluster("a packed file cannot be read") from None
    if not is_same:
        raise UnfitForCluster("a packed file is not what the manifest says: its hash differs")
    if _ARRAY.fullmatch(name):
        _look_at_array(path)
    elif name == START:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                raise UnfitForCluster("the weights to begin with are no weights")
    elif name not in (_MANIFEST, _ORDER):
        raise UnfitForCluster(
            "a packed file is neither an array nor one of those that go with them"
        )


def _look_at_array(path: Path) -> None:
    """See that a file is one array of numbers, and ends with it."""
    with path.open("rb") as file:
        try:
            major, _ = np.lib.format.read_magic(file)
            read = {
                1: np.lib.format.read_array_header_1_0,
                2: np.lib.format.read_array_header_2_0,
            }[major]
            shape, _, kind = read(file)
        except (ValueError, KeyError):
            raise UnfitForCluster("a packed file is called an array and is none") from None
        size = file.tell() + int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    if kind.name not in _KINDS:
        raise UnfitForCluster("a packed array holds something else than numbers")
    if path.stat().st_size != size:
        raise UnfitForCluster("there is something behind a packed array")


def _look_at_words(root: Path) -> None:
    """See that the two files that hold words hold those alone that a training needs."""
    said, asked = (root / _MANIFEST).read_bytes(), (root / _ORDER).read_bytes()
    if _UID.search(said) or _UID.search(asked):
        raise UnfitForCluster("what was packed holds a UID")
    try:
        dataset = Dataset.model_validate_json(said)
        order = TrainOrder.model_validate_json(asked)
        graph = None if order.graph is None else read_graph(order.graph)
    except ValidationError:
        raise UnfitForCluster("what goes with the arrays says more than it may") from None
    if dataset.source or dataset.licence or (dataset.name, dataset.version) != ("packed", "1"):
        raise UnfitForCluster("the packed dataset says where it is from")
    sources = () if graph is None else (one for one in graph.node if isinstance(one, Source))
    tags = {key for source in sources for key in source.tags}
    for case in dataset.cases:
        if not _CASE.fullmatch(case.id) or not _PATIENT.fullmatch(case.patient):
            raise UnfitForCluster("a packed case has a name")
        if case.split == "test":
            raise UnfitForCluster("a case of the locked test set was packed")
        if not tags.issuperset(case.tags):
            raise UnfitForCluster("a packed case says more than the training asks for")
    places = (order.dataset, order.cache, order.bundles, order.start_from or Path(START))
    if places != (Path(DATASET), Path(ARRAYS), None, Path(START)) or order.plan.why:
        raise UnfitForCluster("the packed order says more than it may")
