"""The peers: installed apart, and handed the same files."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import httpx

from tests.orthanc.servers import research_config, running

PEERS: Final = ("dicognito", "dicom-anonymizer", "dicom-anonymizer 2026c", "deid")
ORTHANC: Final = "Orthanc"
PINNED: Final = ("dicognito==0.19.0", "dicom-anonymizer==2.1.0", "deid==0.4.13")
_HOME: Final = Path(__file__).parents[2] / ".bench" / "peers"
_HAND: Final = Path(__file__).parent / "peer.py"

Pairs = list[tuple[Path, Path]]


def peers_python_is_there() -> bool:
    """Return whether the peers' environment was made already."""
    return (_HOME / "bin" / "python").exists()


def peers_python() -> Path:
    """Return the interpreter of the peers' environment; made from the registry when absent."""
    python = _HOME / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_HOME)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PINNED], check=True)
    return python


def run_peer(name: str, pairs: Pairs) -> dict[Path, Path]:
    """Let a peer de-identify each source to its target; return the targets that it wrote."""
    if name == ORTHANC:
        return _orthanc(pairs)
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as folder:
        listed = Path(folder, "pairs.json")
        listed.write_text(json.dumps([[str(source), str(target)] for source, target in pairs]))
        subprocess.run(  # in a folder of its own: deid looks for its recipe where it is started
            [str(peers_python()), str(_HAND), name, str(listed)],
            check=True,
            capture_output=True,
            cwd=folder,
        )
    return _written(pairs)


def _orthanc(pairs: Pairs) -> dict[Path, Path]:
    """Store all files in an Orthanc, let it anonymise patient by patient, take the copies back."""
    written: dict[Path, Path] = {}
    with (
        tempfile.TemporaryDirectory(prefix="radloop-bench-") as home,
        running(research_config(Path(home))) as (orthanc,),
        httpx.Client(
            base_url=orthanc.config.url,
            auth=(orthanc.config.user, orthanc.config.password),
            timeout=300,
            trust_env=False,
        ) as client,
    ):
        places: dict[str, tuple[Path, Path]] = {}
        patients: dict[str, None] = {}
        for source, target in pairs:
            stored = client.post("/instances", content=source.read_bytes())
            if stored.status_code == 200:
                places[stored.json()["ID"]] = (source, target)
                patients[stored.json()["ParentPatient"]] = None
        for patient in patients:
            answer = client.post(f"/patients/{patient}/anonymize", json={"KeepSource": True})
            if answer.status_code != 200:
                continue
            for made in client.get(f"/patients/{answer.json()['ID']}/instances").json():
                origin = client.get(f"/instances/{made['ID']}/metadata/AnonymizedFrom").text
                if origin in places:
                    source, target = places[origin]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(client.get(f"/instances/{made['ID']}/file").content)
                    written[source] = target
    return written


def _written(pairs: Iterable[tuple[Path, Path]]) -> dict[Path, Path]:
    return {source: target for source, target in pairs if target.is_file()}
