"""Where an export's files lie, and what they say of themselves.

`<folder>/<export's id>/<dataset's name>`, a folder, or with `.zip` a file. What is still being
written has a name that begins with a dot.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dicom.errors import NotFound
from pipelines.exports import MANIFEST
from pipelines.store import ExportView, Finished

_CARD = "card.json"


@dataclass(frozen=True, slots=True)
class ExportFiles:
    """The folder of all exports."""

    folder: Path

    def home(self, export_id: str) -> Path:
        """Return the folder of one export."""
        return self.folder / export_id

    def target(self, export: ExportView) -> Path:
        """Return where the dataset lies once it is whole."""
        name = export.order.name + (".zip" if export.order.zipped else "")
        return self.home(export.id) / name

    def finished(self, target: Path) -> Finished:
        """Return what a whole dataset says of itself: hash of the manifest, files, size, card."""
        if target.is_dir():
            manifest = (target / MANIFEST).read_bytes()
            card = (target / _CARD).read_bytes()
            size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        else:
            with zipfile.ZipFile(target) as archive:
                manifest = archive.read(f"{target.stem}/{MANIFEST}")
                card = archive.read(f"{target.stem}/{_CARD}")
            size = target.stat().st_size
        said: dict[str, Any] = json.loads(card)
        files = len(json.loads(manifest)["files"])
        return Finished(hashlib.sha256(manifest).hexdigest(), files, size, said)

    def listed(self, export: ExportView) -> dict[str, int]:
        """Return the files of a whole folder, with their sizes in bytes; of a zip, the zip.

        Raises
        ------
        NotFound
            When they are not there.
        """
        target = self.target(export)
        if not export.is_there or not target.exists():
            raise NotFound("the export's files are not here")
        if target.is_file():
            return {target.name: target.stat().st_size}
        return {
            path.relative_to(target).as_posix(): path.stat().st_size
            for path in sorted(target.rglob("*"))
            if path.is_file()
        }

    def file(self, export: ExportView, name: str) -> Path:
        """Return one of the files that :meth:`listed` names; no name is the zip's.

        Raises
        ------
        NotFound
            When there is none of that name.
        """
        target = self.target(export)
        if not export.is_there:
            raise NotFound("the export's files are not here")
        if target.is_file():
            if name in ("", target.name):
                return target
        elif name and ".." not in PurePosixPath(name).parts and not name.startswith("/"):
            path = target.joinpath(*PurePosixPath(name).parts)
            if path.is_file():
                return path
        raise NotFound("the export has no such file")

    def remove(self, export_id: str) -> None:
        """Remove an export's files, half written ones too; none is no error."""
        home = self.home(export_id)
        if home.parent == self.folder and home.is_dir():
            shutil.rmtree(home)
