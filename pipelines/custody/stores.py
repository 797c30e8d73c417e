"""The places that may hold a patient, and what can be removed from each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from dicom.archive import Archive
from pipelines.keyring import NODE_PROJECT
from pipelines.sharing.files import ExportFiles
from pipelines.store import (
    Collections,
    Datasets,
    Exports,
    FoundIn,
    SealedIdentities,
    Versions,
)

_LEFT: Final = (
    "Its files are removed here. Whoever has copied them has to be asked to delete theirs."
)
REMOVED: Final[Mapping[str, str]] = {
    "study": "Deleted.",
    "collection": "The patient's series are no part of it any more.",
    "export": _LEFT,
}
"""What was done with what could be removed, by its kind."""
_FROZEN: Final = (
    "A frozen version is not changed, so that what was learnt from it can be checked. The next "
    "version lacks the patient."
)
_LEARNT: Final = (
    "It has learnt from a dataset that holds the patient, and cannot forget. Train it anew on the "
    "next version, and retire this one."
)


@dataclass(frozen=True, slots=True, eq=False)
class Stores:
    """All that may hold a patient, besides the clinical archive, which keeps what it has."""

    research: Archive
    sealed: SealedIdentities
    collections: Collections
    exports: Exports
    files: ExportFiles
    datasets: Datasets
    versions: Versions

    def find(self, pseudonyms: Mapping[str, str]) -> list[FoundIn]:
        """Return everything that holds a patient, by the pseudonym in each project.

        Raises
        ------
        PeerError
            When the research archive does not answer.
        """
        found = [*self._studies(pseudonyms)]
        for project, patient in pseudonyms.items():
            for collection in self.collections.holding(patient):
                found.append(FoundIn("collection", collection.name, project))
            for export in self.exports.holding(patient):
                found.append(FoundIn("export", export.id, project))
        datasets = self.datasets.with_patient(pseudonyms.values())
        found += [FoundIn("dataset", name) for name in datasets]
        learnt = set(datasets)
        found += [
            FoundIn("model", version.id)
            for version in self.versions.all()
            if version.dataset in learnt
        ]
        return found

    def _studies(self, pseudonyms: Mapping[str, str]) -> Iterator[FoundIn]:
        for project, patient in pseudonyms.items():
            for orthanc_id in self.research.lookup("patients", patient):
                for study in self.research.studies_of(orthanc_id):
                    yield FoundIn("study", study, project)

    def remove_studies(self, pseudonyms: Mapping[str, str]) -> None:
        """Remove the patient from the research archive.

        Raises
        ------
        PeerError
        """
        for patient in pseudonyms.values():
            for orthanc_id in self.research.lookup("patients", patient):
                self.research.delete("patients", orthanc_id)

    def remove_from_collections(self, pseudonyms: Mapping[str, str]) -> None:
        """Drop the patient's series from every collection, and those that wait to be collected."""
        for patient in pseudonyms.values():
            self.collections.forget_patient(patient)
        self.collections.forget_waiting(self.sealed.studies_of(pseudonyms[NODE_PROJECT]))

    def remove_exports(self, pseudonyms: Mapping[str, str], *, by: str) -> None:
        """Remove the files of every export that holds the patient."""
        for patient in pseudonyms.values():
            for export in self.exports.holding(patient):
                self.exports.ask_cancel(export.id)
                self.exports.delete(export.id, deleted_by=by)
                self.files.remove(export.id)

    def what_stays(self, pseudonyms: Mapping[str, str]) -> list[FoundIn]:
        """Return what cannot be removed, and why."""
        reasons = {"dataset": _FROZEN, "model": _LEARNT}
        return [
            replace(one, became="stays", why=reasons[one.kind])
            for one in self.find(pseudonyms)
            if one.kind in reasons
        ]
