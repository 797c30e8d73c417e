"""The bundles that are installed here, found by name and version.

A registry reads one or more folders, each holding one folder per bundle: those that are shipped
(``models/bundles``) and a site's own. A bundle that cannot be read does not hide the others; it is
listed with its error, for ``radloop check``, and asking for it raises that error.

Of several versions the newest is taken, unless somebody knows better: a :class:`Standing` says
which version is current, which are not to be taken without being asked for, and what each one's
hash was when it was signed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dicom.errors import (
    ChangedBundle,
    InputError,
    InvalidBundle,
    InvalidSettings,
    UnknownBundle,
    WithdrawnBundle,
)
from models.bundle import Bundle, read_bundle, version_key

SHIPPED = Path(__file__).parent / "bundles"


@dataclass(frozen=True, slots=True)
class BrokenBundle:
    """A folder that should be a bundle and is none; `error` says why."""

    root: Path
    error: InputError


@dataclass(frozen=True, slots=True)
class Standing:
    """What was decided about versions; all by ``NAME@VERSION``.

    Attributes
    ----------
    current : mapping of str to str
        Name to the version that is taken where none is named.
    passed_over : frozenset of str
        Taken only where they are named: candidates, and those that another took the place of.
    withdrawn : frozenset of str
        Never taken.
    stopped : frozenset of str
        Names whose current version was withdrawn, and no other was promoted: they name nothing.
    signed : mapping of str to str
        The hash that a version had when it was signed; empty where the signature is not ours.
    """

    current: Mapping[str, str] = field(default_factory=dict)
    passed_over: frozenset[str] = frozenset()
    withdrawn: frozenset[str] = frozenset()
    stopped: frozenset[str] = frozenset()
    signed: Mapping[str, str] = field(default_factory=dict)


class Registry:
    """The bundles of some folders; read again when a version is asked for that is new.

    Parameters
    ----------
    folders : sequence of Path
        Each holds one folder per bundle, named NAME or NAME@VERSION; earlier ones win.
    allow_code : collection of str
        As for :func:`models.bundle.read_bundle`.
    standing : callable or None
        Asked at each look; None: of several versions the newest is taken.

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

    bundles: tuple[Bundle, ...]
    broken: tuple[BrokenBundle, ...]

    def __init__(
        self,
        folders: Sequence[Path] = (SHIPPED,),
        *,
        allow_code: Collection[str] = (),
        standing: Callable[[], Standing] | None = None,
    ) -> None:
        self._folders = tuple(folders)
        self._allow_code = allow_code
        self._standing = standing or Standing
        self._read()

    def get(self, name: str) -> Bundle:
        """Return the bundle `name` in its current version, else its newest, or ``NAME@VERSION``.

        Raises
        ------
        UnknownBundle
            When no folder holds it.
        WithdrawnBundle
            When that version was withdrawn, or the one that was current, and none is since.
        ChangedBundle
            When its files are not what was signed.
        InvalidBundle, WrongHash, CodeRefused
            When the only folder that could hold it is broken, or its code was not allowed.
        """
        return self._get(name, self._standing())

    def installed(self, name: str) -> Bundle:
        """Return a bundle to read of, as `get` does, and also one that was withdrawn: not to run.

        Raises
        ------
        As `get`, but for WithdrawnBundle where a version of that name is here.
        """
        try:
            return self.get(name)
        except WithdrawnBundle:
            for bundle in reversed(self.bundles):
                if name in (bundle.identity, bundle.name):
                    return bundle
            raise

    def taken(self) -> tuple[Bundle, ...]:
        """Return what runs where no version is named: of each name the current one, or the newest.

        A name has none where that one was withdrawn, or is not what was signed.
        """
        standing = self._standing()
        found = []
        for name in dict.fromkeys(bundle.name for bundle in self.bundles):
            with suppress(InputError):
                found.append(self._get(name, standing))
        return tuple(found)

    def allowed(self) -> tuple[Bundle, ...]:
        """Return every version that may run: none that was withdrawn, or is not what was signed."""
        refused = self.refused()
        return tuple(bundle for bundle in self.bundles if bundle.identity not in refused)

    def refused(self) -> Mapping[str, InputError]:
        """Return the versions that may not run, by ``NAME@VERSION``, and why."""
        standing = self._standing()
        found = {}
        for bundle in self.bundles:
            try:
                self._get(bundle.identity, standing)
            except InputError as error:
                found[bundle.identity] = error
        return found

    def _get(self, name: str, standing: Standing) -> Bundle:
        if name in standing.stopped:
            raise WithdrawnBundle(f"the version of {name} that was current is withdrawn")
        wanted = standing.current.get(name, name)
        if wanted in standing.withdrawn:
            raise WithdrawnBundle(f"{wanted} was withdrawn")
        found = self._find(wanted, standing)
        if found is None:
            self._look_again()
            found = self._find(wanted, standing)
        if found is None:
            raise self._absent(wanted)
        signed = standing.signed.get(found.identity)
        if signed is not None and signed != found.sha256:
            raise ChangedBundle(f"{found.identity} is not what was signed")
        return found

    def title_of(self, identity: str) -> str:
        """Return what people read for ``NAME@VERSION``: the model's title, and the version.

        A version without a title of its own, as one that was learnt here, has that of the others of
        its name. The name is told of what is not installed, and where two models share a title.
        """
        name, _, version = identity.partition("@")
        if not any(bundle.identity == identity for bundle in self.bundles):
            self._look_again()
        versions = [bundle for bundle in self.bundles if bundle.name == name]
        versions.sort(key=lambda bundle: bundle.version == version)
        title = next((each.title for each in reversed(versions) if each.title != name), name)
        said = f"{title} {version}".strip()
        is_shared = any(each.title == title and each.name != name for each in self.bundles)
        return f"{said} ({name})" if is_shared else said

    def name_in_dicom(self, identity: str) -> str:
        """Return what a SeriesDescription calls ``NAME@VERSION``; see :class:`Bundle`."""
        found = [bundle for bundle in self.bundles if bundle.identity == identity]
        return found[0].name_in_dicom if found else identity.replace("@", " ")

    def _look_again(self) -> None:
        if self._listed() != self._seen:
            self._read()

    def _find(self, wanted: str, standing: Standing) -> Bundle | None:
        for bundle in reversed(self.bundles):
            if wanted == bundle.identity:
                return bundle
            silent = bundle.identity in standing.passed_over | standing.withdrawn
            if wanted == bundle.name and not silent:
                return bundle
        return None

    def _absent(self, name: str) -> InputError:
        for broken in self.broken:
            if broken.root.name in (name, name.partition("@")[0]):
                return broken.error
        installed = ", ".join(bundle.identity for bundle in self.bundles) or "none"
        return UnknownBundle(f"no bundle {name} is installed; there are: {installed}")

    def _read(self) -> None:
        self._seen = self._listed()
        whole: dict[str, Bundle] = {}
        broken: list[BrokenBundle] = []
        for root in self._seen:
            try:
                bundle = read_bundle(root, allow_code=self._allow_code)
                _refuse_second(bundle, whole)
                whole.setdefault(bundle.identity, bundle)
            except InputError as error:
                broken.append(BrokenBundle(root, error))
        self.bundles = tuple(
            sorted(whole.values(), key=lambda bundle: (bundle.name, version_key(bundle.version)))
        )
        self.broken = tuple(broken)

    def _listed(self) -> list[Path]:
        return [root for folder in self._folders for root in _bundle_folders(folder)]


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
