"""A MONAI bundle as a typed value: what it makes, what it is for, and whether it is whole.

A bundle is a folder in MONAI's layout::

    NAME/ or NAME@VERSION/
        configs/metadata.json     MONAI's fields
        configs/radloop.json      our table (models/table.py); or the object "radloop" of the above
        configs/inference.json    or .yaml: how to predict, as far as models/allowed.py lets it
        models/model.pt           a state dict; or model.ts, TorchScript; or model.onnx
        scripts/                  code of its own, which somebody has to allow (models/code.py)
        docs/README.md
        LICENSE

Nothing here imports torch or MONAI: the worker reads bundles, its child process runs them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from dicom.errors import CodeRefused, InputError, InvalidBundle, WrongHash
from dicom.seg import Algorithm, Segment
from dicom.volume import Mending, Orientation, SeriesFacts
from models.allowed import allowed_configuration, calls_own_code
from models.code import allowed_hashes, code_hash
from models.declared import declared_inputs, declared_prompts, declared_task
from models.table import METADATA, TABLE, Metadata, Table
from models.tasks import (
    After,
    Classification,
    Detection,
    Finding,
    Input,
    Prompted,
    Task,
    Without,
)

INFERENCE = ("configs/inference.json", "configs/inference.yaml", "configs/inference.yml")
STATE, SCRIPTED, EXCHANGED = "models/model.pt", "models/model.ts", "models/model.onnx"

_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LONGEST_NAME = 64  # PS3.5 Table 6.2-1: LO
_LONGEST_SAID = 52  # between "AI: " and ", report" in an LO

Dimensions = Literal["2d", "2.5d", "3d"]
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Bundle:
    """One version of one model, whole and understood.

    Attributes
    ----------
    name, version : str
        The folder's name without ``@VERSION``; the version of metadata.json.
    title, description, intended_use : str
        For people, from metadata.json.
    root : Path
        The bundle's folder.
    configuration : Path
        configs/inference.json, .yaml or .yml.
    weights : Path
        models/model.pt, model.ts or model.onnx.
    task : Segmentation, InstanceSegmentation, Classification or Detection
        What kind of answer it gives, and in which codes.
    algorithm : Algorithm
        What a SEG says of the algorithm (PS3.3 Table 10-19).
    inputs : tuple of Input
        The images that it needs; answers lie on the grid of the first.
    network_keys : tuple of str
        Names, after the preprocessing, of what the network is given; several are its channels.
    output_name : str
        Name of the prediction in its transforms; MONAI's custom is 'pred'.
    dimensions : str
        '3d': whole volumes; '2d': slice by slice; '2.5d': slice by slice with `neighbours` on
        either side as channels.
    neighbours : int
        Slices on either side, for '2.5d'.
    registration : str
        How further inputs come onto the first one's grid: 'auto' registers those of another frame
        of reference, 'always' and 'never' all or none; the rest is resampled where it lies.
    after : After or None
        Another bundle that looks first.
    without : Without or None
        Another bundle whose boxes are painted over in the images before.
    prompts : Prompted or None
        Inputs that are made of a reader's clicks; such a bundle is not run by itself.
    mending : frozenset of Mending
        Faults of a series that may be mended for it.
    modalities : tuple of str
        DICOM modalities that it was made for.
    min_slices : int
        Fewest slices that it is good for.
    orientations : tuple of str, or None
        Slice orientations that it was made for; None is any.
    code_sha256 : str
        Of its own code, which was allowed; empty where its configuration calls none.
    sha256 : str
        Over metadata, table, configuration, weights and code: which model made this contour.
    """

    name: str
    version: str
    title: str
    description: str
    intended_use: str
    root: Path
    configuration: Path
    weights: Path
    task: Task
    algorithm: Algorithm
    inputs: tuple[Input, ...]
    network_keys: tuple[str, ...]
    output_name: str
    dimensions: Dimensions
    neighbours: int
    registration: Literal["auto", "always", "never"]
    after: After | None
    without: Without | None
    prompts: Prompted | None
    mending: frozenset[Mending]
    modalities: tuple[str, ...]
    min_slices: int
    orientations: tuple[Orientation, ...] | None
    code_sha256: str
    sha256: str

    @property
    def identity(self) -> str:
        """Name and version, such as ``mr_brain@0.1.0``."""
        return f"{self.name}@{self.version}"

    @property
    def name_in_dicom(self) -> str:
        """Title and version for a SeriesDescription; the name where the title cannot stand in one.

        PS3.5 6.2: LO holds 64 characters without a backslash. A result has the character set of the
        images that it lies on, of which nothing but ISO 646 can be taken for granted.
        """
        said = f"{self.title} {self.version}"
        is_plain = said.isascii() and said.isprintable() and "\\" not in said
        fits = is_plain and len(said) <= _LONGEST_SAID
        return said if fits else f"{self.name} {self.version}"

    @property
    def segments(self) -> tuple[Segment, ...]:
        """What it can find, in the order of its table; empty where it makes no segments."""
        return () if isinstance(self.task, Classification | Detection) else self.task.segments

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What a classification or detection can say; empty where it makes segments."""
        return self.task.findings if isinstance(self.task, Classification | Detection) else ()

    def fault(self, what: str) -> InvalidBundle:
        """Return the error for what is wrong in the configuration."""
        return InvalidBundle(f"configs/{self.configuration.name}: {what}")

    def suits(self, facts: SeriesFacts) -> str | None:
        """Return why the bundle is not for this series, in plain words; None when it is."""
        if self.prompts is not None:
            return "it answers clicks, and is not run by itself"
        if facts.modality not in self.modalities:
            return f"modality {facts.modality} is not {' or '.join(self.modalities)}"
        if facts.slice_count < self.min_slices:
            return f"{facts.slice_count} slices are fewer than {self.min_slices}"
        if self.orientations is not None and facts.orientation not in self.orientations:
            return f"orientation {facts.orientation} is not {' or '.join(self.orientations)}"
        return None


def read_bundle(root: Path, *, allow_code: Collection[str] = ()) -> Bundle:
    """Return the bundle in a folder.

    Parameters
    ----------
    root : Path
        A folder in the layout above.
    allow_code : collection of str
        Hashes of code that may run, beside those of the file beside the folder (models/code.py).

    Returns
    -------
    Bundle
        With every file present, metadata understood and the configuration allowed. That MONAI can
        build the network and that the weights fit it is known once a predictor is made.

    Raises
    ------
    InvalidBundle
        With the bundle's name, the file and the field that are wrong.
    WrongHash
        When a file is not the one that the table's list of hashes names.
    CodeRefused
        When its configuration calls code of its own that nobody has allowed.
    """
    try:
        return _read(root, allowed_hashes(root.parent) | set(allow_code))
    except InputError as error:
        raise type(error)(f"bundle {root.name}: {error.message}") from None


def version_key(version: str) -> tuple[int, int, int, bool, str]:
    """Return a key that sorts versions by age; ``1.0.0-rc1`` comes before ``1.0.0``.

    Raises
    ------
    ValueError
        When it is no version of the form MAJOR.MINOR.PATCH or MAJOR.MINOR.PATCH-LABEL.
    """
    match = _VERSION.fullmatch(version)
    if match is None:
        raise ValueError("a version has the form 1.2.3 or 1.2.3-label")
    major, minor, patch, label = match.groups()
    return int(major), int(minor), int(patch), label is None, label or ""


def _read(root: Path, allowed_code: Collection[str]) -> Bundle:
    name, _, version_of_folder = root.name.partition("@")
    if not _NAME.fullmatch(name):
        raise InvalidBundle("a folder's name has letters, digits, '_', '-' and '.' only")
    for file in ("docs/README.md", "LICENSE"):
        if not (root / file).is_file():
            raise InvalidBundle(f"{file} is missing")
    configuration = _configuration(root)
    texts = {METADATA: _text(root, METADATA), configuration: _text(root, configuration)}
    metadata = _validated(Metadata, METADATA, texts[METADATA])
    _check_version(metadata.version, version_of_folder)
    place, table = f"{METADATA}: radloop", metadata.radloop
    if (root / TABLE).is_file():
        if table is not None:
            raise InvalidBundle(f"{TABLE}: {METADATA} has the object radloop too; keep one")
        place, table = TABLE, _validated(Table, TABLE, _text(root, TABLE))
        # Where and when it was imported makes no other model of it.
        apart = {"files", "provenance"}
        texts[TABLE] = table.model_dump_json(exclude=apart, exclude_unset=True)
    if table is None:
        raise InvalidBundle(f"{METADATA}: radloop: Field required, here or as {TABLE}")

    sections = allowed_configuration(texts[configuration], configuration)
    code_sha256 = code_hash(root) if calls_own_code(sections) else ""
    if code_sha256 and code_sha256 not in allowed_code:
        raise CodeRefused(f"scripts/ holds code that nobody has allowed: sha256 {code_sha256}")
    weights = _weights(root, has_network="network_def" in sections)
    needed = {"preprocessing", "inferer", "postprocessing"}
    if table.task == "detection" and "detector" in sections:
        needed = {"preprocessing", "detector"}
    elif table.task in ("classification", "detection"):
        needed -= {"postprocessing"}
    if weights.suffix == ".pt":
        needed.add("network_def")
    for section in sorted(needed - sections.keys()):
        raise InvalidBundle(f"{configuration}: {section} is missing")
    _check_files(root, table)
    outputs = metadata.network_data_format.outputs
    return Bundle(
        name=name,
        version=metadata.version,
        title=metadata.name,
        description=metadata.description,
        intended_use=metadata.intended_use,
        root=root,
        configuration=root / configuration,
        weights=weights,
        task=declared_task(table, outputs, place),
        algorithm=Algorithm(
            name=table.algorithm.name,
            version=metadata.version,
            manufacturer=metadata.authors[:_LONGEST_NAME],
            family=table.algorithm.family,
        ),
        inputs=declared_inputs(table, metadata.network_data_format.inputs),
        network_keys=tuple(metadata.network_data_format.inputs),
        output_name=next(iter(outputs)) if len(outputs) == 1 else "pred",
        dimensions=table.dimensions,
        neighbours=table.neighbours if table.dimensions == "2.5d" else 0,
        registration=table.registration,
        after=table.after.after() if table.after else None,
        without=table.without.without() if table.without else None,
        prompts=declared_prompts(table, metadata.network_data_format.inputs),
        mending=frozenset(table.mending),
        modalities=table.suits.modalities,
        min_slices=table.suits.min_slices,
        orientations=table.suits.orientations,
        code_sha256=code_sha256,
        sha256=_sha256(texts, weights, code_sha256),
    )


# --- files --------------------------------------------------------------------------------------


def _configuration(root: Path) -> str:
    present = [file for file in INFERENCE if (root / file).is_file()]
    if len(present) > 1:
        raise InvalidBundle(f"{' and '.join(present)} are both present; keep one")
    return present[0] if present else INFERENCE[0]


def _weights(root: Path, *, has_network: bool) -> Path:
    """Return the weights to use; the zoo's bundles often bring the same ones in two forms."""
    wanted = (STATE, SCRIPTED, EXCHANGED) if has_network else (SCRIPTED, EXCHANGED, STATE)
    present = [root / file for file in wanted if (root / file).is_file()]
    if not present:
        raise InvalidBundle(
            f"{STATE}, {SCRIPTED} or {EXCHANGED} is missing: the weights are absent"
        )
    return present[0]


def _text(root: Path, file: str) -> str:
    try:
        return (root / file).read_text("utf-8")
    except FileNotFoundError:
        raise InvalidBundle(f"{file} is missing") from None
    except UnicodeDecodeError:
        raise InvalidBundle(f"{file} is not UTF-8 text") from None


def _validated(kind: type[Model], file: str, text: str) -> Model:
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        place = f"{file}: {field}" if field else file
        raise InvalidBundle(f"{place}: {first['msg']}") from None


def _check_version(version: str, of_folder: str) -> None:
    try:
        version_key(version)
    except ValueError as error:
        raise InvalidBundle(f"{METADATA}: version: {error}") from None
    if of_folder and of_folder != version:
        raise InvalidBundle(f"{METADATA}: version: {version} is not that of the folder")


def _check_files(root: Path, table: Table) -> None:
    """Compare the files that the table lists with their hashes."""
    for file, expected in table.files.items():
        path = root / file
        if not path.resolve().is_relative_to(root.resolve()) or not path.is_file():
            raise InvalidBundle(f"{file} is missing: the table lists its hash")
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                raise WrongHash(f"{file} is not the file that was installed: its hash is another")


def _sha256(texts: dict[str, str], weights: Path, code_sha256: str) -> str:
    """Return the hash over what decides a contour; each part is led by its name and length."""
    digest = hashlib.sha256()
    for name, text in texts.items():
        content = text.encode()
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    digest.update(f"models/{weights.name}\0{weights.stat().st_size}\0".encode())
    with weights.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    digest.update(code_sha256.encode())
    return digest.hexdigest()
