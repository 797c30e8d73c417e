"""What the learning loop works with: rows, folders, and the node's signature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.registry import Registry
from pipelines.datasets import Shelf
from pipelines.learning.signing import Signer, standing_of
from pipelines.store import Alarms, Database, Datasets, Freezings, LauncherName, Trainings, Versions


@dataclass(frozen=True, slots=True, eq=False)
class School:
    """Rows and places of learning; made by :meth:`open`.

    Attributes
    ----------
    shelf : Shelf
        The datasets' folders.
    runs, prepared, bundles : Path
        Where trainings keep their checkpoints, where prepared cases are kept, and where what comes
        of trainings is installed.
    registry : Registry
        All bundles; it knows which version is current.
    launchers : tuple of str
        Where trainings can learn; first where they do unless somebody says otherwise.
    """

    datasets: Datasets
    freezings: Freezings
    trainings: Trainings
    versions: Versions
    alarms: Alarms
    shelf: Shelf
    runs: Path
    prepared: Path
    bundles: Path
    folders: tuple[Path, ...]
    signer: Signer
    registry: Registry
    launchers: tuple[LauncherName, ...] = ("local",)

    @classmethod
    def open(
        cls,
        database: Database,
        *,
        secret: bytes,
        datasets: Path,
        runs: Path,
        prepared: Path,
        bundles: Path,
        folders: tuple[Path, ...],
        launchers: tuple[LauncherName, ...] = ("local",),
    ) -> School:
        """Return the school of a node.

        Parameters
        ----------
        secret : bytes
            As for :class:`pipelines.learning.signing.Signer`.
        datasets, runs, prepared, bundles : Path
            They may not be there yet.
        folders : tuple of Path
            Where bundles are looked for.
        """
        bundles.mkdir(parents=True, exist_ok=True)
        versions, signer = Versions(database), Signer(secret)
        places = folders if bundles in folders else (*folders, bundles)
        return cls(
            datasets=Datasets(database),
            freezings=Freezings(database),
            trainings=Trainings(database),
            versions=versions,
            alarms=Alarms(database),
            shelf=Shelf(datasets),
            runs=runs,
            prepared=prepared,
            bundles=bundles,
            folders=places,
            signer=signer,
            registry=Registry(places, standing=standing_of(versions, signer)),
            launchers=launchers,
        )

    def run_folder(self, training_id: str) -> Path:
        """Return the folder of a training."""
        return self.runs / training_id
