"""Bundles from MONAI's model zoo: fetched by monai.bundle, from where it is told."""

from __future__ import annotations

import http.client
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from dicom.errors import CannotImport, DownloadFailed
from models.importing.archive import check_hash

Source = Literal["monaihosting", "ngc", "github", "huggingface_hub"]
ZOO = "Project-MONAI/model-zoo/hosting_storage_v1"


def download(
    name: str,
    target: Path,
    *,
    version: str | None = None,
    source: Source = "monaihosting",
    repository: str | None = None,
    url: str | None = None,
    sha256: str | None = None,
) -> Path:
    """Fetch a bundle of the zoo; return its folder below `target`.

    Parameters
    ----------
    name : str
        As the zoo calls it: ``spleen_ct_segmentation``.
    target : Path
        An empty folder.
    version : str, optional
        The newest when it is not given.
    source : str
        monai.bundle's name of the place.
    repository : str, optional
        For 'github' OWNER/NAME/RELEASE, for 'huggingface_hub' OWNER/NAME; the zoo's own otherwise.
    url : str, optional
        A zip archive, in place of all of these: a site's own mirror.
    sha256 : str, optional
        Of the archive, as its publisher says.

    Raises
    ------
    DownloadFailed
        When it cannot be fetched.
    CannotImport
        When what came is no bundle, or a hash is given and what came is no archive.
    WrongHash
        When the archive is another.
    """
    from monai.bundle.scripts import download as fetch

    repository = repository or {"github": ZOO, "huggingface_hub": f"MONAI/{name}"}.get(source)
    with _failures(name):
        fetch(
            name=name,
            version=version,
            bundle_dir=target,
            source=source,
            repo=repository,
            url=url,
            progress=False,
        )
    if sha256 is not None:
        archives = list(target.glob("*.zip"))
        if not archives:
            raise CannotImport(f"{name} came file by file: there is no archive with a sha256")
        check_hash(archives[0], sha256)
    found = [folder for folder in target.iterdir() if (folder / "configs").is_dir()]
    if len(found) != 1:
        raise CannotImport(f"what was fetched as {name} holds no bundle")
    return found[0]


@contextmanager
def _failures(name: str) -> Iterator[None]:
    """Turn what monai.bundle, its clients and the zip reader raise into one plain error."""
    from zipfile import BadZipFile

    try:
        yield
    except BadZipFile:
        raise CannotImport(f"what was fetched as {name} is no zip archive") from None
    except urllib.error.HTTPError as error:
        raise DownloadFailed(f"{name}: the server answered {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, RuntimeError, ValueError, KeyError) as error:
        # requests' and huggingface_hub's errors are OSErrors; MONAI wraps some in the others.
        kind = type(error).__name__
        raise DownloadFailed(f"{name} could not be fetched from the model zoo: {kind}") from error
