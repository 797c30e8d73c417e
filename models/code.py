"""A bundle's own code: the folder ``scripts/`` that its configuration may call classes of.

Code can do anything that its process can. So it runs only where a person has allowed exactly this
content: by its hash, in the file ``allowed_code.txt`` of the folder that holds the bundles, which
no bundle can bring with it. It is loaded in the process that predicts and nowhere else, from its
sources: what lies compiled in ``__pycache__`` is neither hashed nor read.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from dicom.errors import InvalidBundle

PACKAGE = "scripts"
ALLOWED = "allowed_code.txt"


def code_hash(root: Path) -> str:
    """Return the sha256 over the names and contents of all files of a bundle's ``scripts/``.

    Raises
    ------
    InvalidBundle
        When there is no such folder, or it holds a link: what it leads to could change unseen.
    """
    folder = root / PACKAGE
    if not folder.is_dir() or folder.is_symlink():
        raise InvalidBundle(f"{PACKAGE}/ is missing: the configuration calls code of it")
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts:
            continue
        if path.is_symlink():
            raise InvalidBundle(f"{PACKAGE}/ holds a link")
        if path.is_file():
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def allowed_hashes(folder: Path) -> frozenset[str]:
    """Return the hashes of code that is allowed among the bundles of a folder."""
    try:
        lines = (folder / ALLOWED).read_text("utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    return frozenset(line.split()[0] for line in lines if line.strip() and line[0] != "#")


def allow_code(root: Path) -> str:
    """Allow the code of the bundle in `root`, as it is now; return its hash."""
    found = code_hash(root)
    if found not in allowed_hashes(root.parent):
        with (root.parent / ALLOWED).open("a", encoding="utf-8") as file:
            file.write(f"{found}  {root.name}\n")
    return found


class OwnCode:
    """The modules of one bundle's ``scripts/``; several bundles in one process stay apart.

    Parameters
    ----------
    root : Path
        The bundle's folder; its code was allowed.
    """

    def __init__(self, root: Path) -> None:
        self._finder = _Finder(root / PACKAGE)
        self._modules: dict[str, ModuleType] = {}

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """Let ``scripts`` mean this bundle's, for imports at loading and those inside functions."""
        others = _take_out()
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self._finder)
        try:
            yield
        finally:
            sys.meta_path.remove(self._finder)
            self._modules = _take_out()
            sys.modules.update(others)


def _take_out() -> dict[str, ModuleType]:
    names = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    return {name: sys.modules.pop(name) for name in names}


class _Finder(MetaPathFinder):
    """Finds ``scripts`` and what lies in it, in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        first, *parts = fullname.split(".")
        if first != PACKAGE:
            return None
        place = self._folder.joinpath(*parts)
        if (place / "__init__.py").is_file():
            file = place / "__init__.py"
            return spec_from_file_location(
                fullname,
                file,
                loader=_SourceOnly(fullname, str(file)),
                submodule_search_locations=[str(place)],
            )
        if place.with_suffix(".py").is_file():
            file = place.with_suffix(".py")
            return spec_from_file_location(fullname, file, loader=_SourceOnly(fullname, str(file)))
        if place.is_dir():
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(place)]
            return spec
        return None


class _SourceOnly(SourceFileLoader):
    """Compiles what was hashed; a compiled file beside it could say something else."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)
