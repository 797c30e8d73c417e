"""How far a training at a cluster has got: noted before each act that must not happen twice."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from models.learning.orders import write_whole

STATE: Final = "cluster.json"


@dataclass(frozen=True, slots=True)
class Noted:
    """What is written down of a training at the cluster.

    Attributes
    ----------
    key : str
        Of its folder and jobs at the cluster: drawn, it says nothing.
    number : int
        Of the submission that is meant, from 1.
    job : str
        Slurm's id; empty before it is known.
    waits_since : str
        When it was first seen waiting, ISO 8601; empty while it runs.
    mark : str
        What is different whenever it has got further.
    stood : int
        Jobs that ended since without getting further.
    is_here : bool
        All is learnt, and lies here.
    """

    key: str
    number: int = 1
    job: str = ""
    waits_since: str = ""
    mark: str = ""
    stood: int = 0
    is_here: bool = False


def read_noted(folder: Path) -> Noted:
    """Return what is written down in a training's folder; of a new one it is written at once."""
    path = folder / STATE
    if path.is_file():
        return Noted(**json.loads(path.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    noted = Noted(secrets.token_hex(8))
    write_noted(folder, noted)
    return noted


def write_noted(folder: Path, noted: Noted) -> None:
    """Write it down, whole or not at all."""
    write_whole(folder / STATE, json.dumps(asdict(noted)))


def forget(folder: Path) -> None:
    """Let the training be a new one at the cluster."""
    (folder / STATE).unlink(missing_ok=True)
