"""The door: whatever a model comes as, it becomes a bundle of this site or is refused by name."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dicom.errors import CannotImport
from models.bundle import Bundle, version_key
from models.importing import brainchop, exported, nnunet_results, zoo
from models.importing.archive import check_hash, check_sums, unpack
from models.importing.codebook import Codebook
from models.importing.draft import About, drafting, install, safe_name
from models.importing.licences import licence_of
from models.importing.nnunet import write_nnunet
from models.importing.tfjs import MODEL


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person says of a model that the model itself may not say.

    Attributes
    ----------
    name, version : str or None
        Under which it is installed, in place of its own.
    licence : str or None
        Short name of the licence that the person has found.
    codes : Path or None
        A file of codes, see :mod:`models.importing.codebook`.
    allow_code : bool
        The person has read the code that the model brings.
    sha256 : str or None
        Of the file that is handed over, as its publisher says.
    modalities : tuple of str
        DICOM modalities that it is for, where the model does not say.
    axes : str or None
        Which way the training images lay, where the model does not say: ``RAS``, ``LPS`` ...
    folds : tuple of str
        Of an nnU-Net model; empty for all.
    mirroring : bool
        Whether an nnU-Net model's answer is averaged over mirrored images, as it was trained for.
    source : str
        Where it is from, in place of the name of its file or folder.
    """

    name: str | None = None
    version: str | None = None
    licence: str | None = None
    codes: Path | None = None
    allow_code: bool = False
    sha256: str | None = None
    modalities: tuple[str, ...] = ()
    axes: str | None = None
    folds: tuple[str, ...] = ()
    mirroring: bool = True
    source: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


def import_model(path: Path, site: Path, wish: Wish | None = None) -> Bundle:
    """Make a bundle of what lies at `path`, and put it into the site's folder of bundles.

    Parameters
    ----------
    path : Path
        A MONAI bundle, a brainchop folder, an nnU-Net v2 results folder, TotalSegmentator's folder
        of one model, a zip archive of any of them, or a .ts or .onnx file with its description.
    site : Path
        The site's folder of bundles; made when absent.
    wish : Wish, optional
        What the model does not say.

    Returns
    -------
    Bundle
        As it is installed.

    Raises
    ------
    CannotImport
        When it is none of these, or is damaged; its subclasses name what is wanted of a person.
    InvalidBundle
        When it asks for what no bundle may, or its weights do not fit its network.
    """
    wish = wish or Wish()
    if path.is_file():
        if wish.sha256:
            check_hash(path, wish.sha256)
        if path.suffix in exported.FILES:
            return _import_exported(path, site, wish)
        if path.suffix != ".zip":
            kinds = ", ".join([".zip", *exported.FILES])
            raise CannotImport(f"{path.name} is none of: a folder, {kinds}")
        with tempfile.TemporaryDirectory(prefix="radloop-import-") as name:
            return _import_folder(unpack(path, Path(name)), site, wish)
    if not path.is_dir():
        raise CannotImport("there is no such file or folder")
    return _import_folder(path, site, wish)


def import_meshnet(folder: Path, site: Path, wish: Wish | None = None) -> Bundle:
    """Make a bundle of a brainchop folder of a MeshNet; as :func:`import_model` otherwise."""
    wish = wish or Wish()
    check_sums(folder)
    licence, text = licence_of([folder, folder.parent], wish.licence)
    name = safe_name(wish.name or folder.name)
    about = About(
        name=name,
        version=_version(wish.version, "1.0.0"),
        title=f"MeshNet {folder.name}",
        description="A MeshNet of brainchop on T1-weighted head MR, with the numbers of its files.",
        authors="brainchop (neuroneural)",
        licence=licence,
        licence_text=text,
        source=wish.source or f"brainchop: {folder.name}",
        modalities=wish.modalities or ("MR",),
        min_slices=20,
        notes=wish.notes,
    )
    with drafting(site, about.name, about.version) as root:
        brainchop.write_brainchop(root, folder, about, Codebook(wish.codes))
        return install(root, site)


def _import_folder(folder: Path, site: Path, wish: Wish) -> Bundle:
    check_sums(folder)
    if zoo.is_bundle(folder):
        return _import_zoo(folder, site, wish)
    if nnunet_results.is_results(folder):
        return _import_nnunet(folder, site, wish)
    if (folder / MODEL).is_file():
        return import_meshnet(folder, site, wish)
    inner = nnunet_results.results_below(folder)
    if len(inner) == 1:
        return _import_nnunet(inner[0], site, wish)
    if inner:
        names = ", ".join(each.name for each in inner)
        raise CannotImport(f"the folder holds several nnU-Net models; name one of: {names}")
    raise CannotImport(
        "the folder is no MONAI bundle (configs/metadata.json), no nnU-Net results folder"
        " (dataset.json and plans.json) and no TensorFlow.js model (model.json)"
    )


def _import_zoo(folder: Path, site: Path, wish: Wish) -> Bundle:
    zoo.refuse_code(folder, allowed=wish.allow_code)
    own = zoo.read_about(folder)
    modalities = wish.modalities or own.modalities
    if not modalities and not own.has_table:
        raise CannotImport("the bundle does not say its modality; name it with --modality")
    licence, text = licence_of([folder], wish.licence)
    about = About(
        name=safe_name(wish.name or own.folder_name),
        version=_version(wish.version, own.version),
        title=own.title,
        description=own.description,
        authors=own.authors,
        licence=licence,
        licence_text=text,
        source=wish.source or f"MONAI bundle: {own.folder_name}",
        modalities=modalities,
        notes=wish.notes,
    )
    if wish.version and wish.version != own.version:
        raise CannotImport(f"the bundle's own version is {own.version}; it cannot be renamed")
    with drafting(site, about.name, about.version) as root:
        zoo.write_zoo_bundle(root, folder, about, Codebook(wish.codes))
        return install(root, site, may_bring_code=wish.allow_code)


def _import_exported(file: Path, site: Path, wish: Wish) -> Bundle:
    description = exported.read_description(file)
    licence, text = licence_of([file.parent], wish.licence or description.licence or None)
    about = About(
        name=safe_name(wish.name or description.name),
        version=_version(wish.version, description.version),
        title=description.name,
        description=description.description,
        authors=description.authors,
        licence=licence,
        licence_text=text,
        source=wish.source or f"{file.suffix[1:].upper()} file: {file.name}",
        modalities=wish.modalities or description.modalities,
        min_slices=description.min_slices,
        notes=wish.notes,
    )
    with drafting(site, about.name, about.version) as root:
        exported.write_exported(root, file, about, description, Codebook(wish.codes))
        return install(root, site)


def _import_nnunet(folder: Path, site: Path, wish: Wish) -> Bundle:
    results = nnunet_results.read_results(folder, axes=wish.axes, folds=wish.folds)
    licence, text = licence_of([folder, folder.parent], wish.licence or results.licence or None)
    about = About(
        name=safe_name(wish.name or results.name),
        version=_version(wish.version, "1.0.0"),
        title=results.name,
        description=results.description,
        authors=results.authors,
        licence=licence,
        licence_text=text,
        source=wish.source or f"{results.family}: {results.name}",
        modalities=wish.modalities or results.modalities,
        notes={**results.notes, **wish.notes},
    )
    if not about.modalities:
        raise CannotImport("dataset.json does not say the modality; name it with --modality")
    with drafting(site, about.name, about.version) as root:
        write_nnunet(root, results, about, Codebook(wish.codes), mirroring=wish.mirroring)
        return install(root, site)


def _version(wished: str | None, own: str) -> str:
    """Return the version to install under.

    Raises
    ------
    CannotImport
        When it is none that could be ordered among others.
    """
    version = wished or own
    try:
        version_key(version)
    except ValueError as error:
        raise CannotImport(f"{version!r}: {error}; give one with --version") from None
    return version
