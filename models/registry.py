"""The bundles that are installed here, found by name and version.

A registry reads one or more folders, each holding one folder per bundle: those that are shipped
(``models/bundles``) and a site's own. A bundle that cannot be read does not hide the others; it is
listed with its error, for ``radloop check``, and asking for it raises that error.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom.errors import InputError, InvalidBundle, InvalidSettings, UnknownBundle
from models.bundle import Bundle, read_bundle, version_key

SHIPPED = Path(__file__).parent / "bundles"


@dataclass(frozen=True, slots=True)
class BrokenBundle:
    """A folder that should be a bundle and is none; `error` says why."""

    root: Path
    error: InputError


class Registry:
    """The bundles of some folders, as they were when the registry was made.

    Parameters
    ----------
    folders : sequence of Path
        Each holds one folder per bundle, named NAME or NAME@VERSION; earlier ones win.
    allow_code : collection of str
        As for :func:`models.bundle.read_bundle`.

    Attributes
    ----------
    bundles : tuple of Bundle
        All that are whole, by name, then from the oldest version to the newest.
    broken : tuple of BrokenBundle
        All others.

    Raises
    ------
    InvalidSettings
        When one of the folders does not exist.
    """

    def __init__(
        self, folders: Sequence[Path] = (SHIPPED,), *, allow_code: Collection[str] = ()
    ) -> None:
        whole: dict[str, Bundle] = {}
        broken: list[BrokenBundle] = []
        for root in (root for folder in folders for root in _bundle_folders(folder)):
            try:
                bundle = read_bundle(root, allow_code=allow_code)
                _refuse_second(bundle, whole)
                whole.setdefault(bundle.identity, bundle)
            except InputError as error:
                broken.append(BrokenBundle(root, error))
        self.bundles = tuple(
            sorted(whole.values(), key=lambda bundle: (bundle.name, version_key(bundle.version)))
        )
        self.broken = tuple(broken)

    def get(self, name: str) -> Bundle:
        """Return the bundle `name`, newest version, or exactly ``NAME@VERSION``.

        Raises
        ------
        UnknownBundle
            When no folder holds it.
        InvalidBundle, WrongHash, CodeRefused
            When the only folder that could hold it is broken, or its code was not allowed.
        """
        for bundle in reversed(self.bundles):
            if name in (bundle.name, bundle.identity):
                return bundle
        for broken in self.broken:
            if broken.root.name in (name, name.partition("@")[0]):
                raise broken.error
        installed = ", ".join(bundle.identity for bundle in self.bundles) or "none"
        raise UnknownBundle(f"no bundle {name} is installed; there are: {installed}")


def _bundle_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InvalidSettings(f"the folder of bundles {folder} does not exist")
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))
    )


def _refuse_second(bundle: Bundle, known: dict[str, Bundle]) -> None:
    """Refuse two different models under one identity: no result could say which one made it."""
    first = known.get(bundle.identity)
    if first is not None and first.sha256 != bundle.sha256:
        raise InvalidBundle(
            f"bundle {bundle.root.name}: another {bundle.identity} with other content is installed"
            f" in {first.root.parent.name}; give one of them a new version"
        )
