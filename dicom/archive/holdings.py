"""What an archive holds: patients, studies, series and instances, by id, by UID and by name."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dicom.archive.rest import Rest
from dicom.archive.values import (
    KIND_OF_LEVEL,
    ArchivedInstance,
    ArchivedName,
    ArchivedSeries,
    ArchivedStudy,
    Level,
    ListedSeries,
    Statistics,
)


class Holdings(Rest):
    """What is there."""

    def series(self, orthanc_id: str) -> ArchivedSeries:
        """Return one series with its instances.

        Raises
        ------
        ArchiveMismatch
            When the archive does not hold it (any longer).
        """
        answer = self._get_held(f"/series/{orthanc_id}").json()
        study = self._get_held(f"/studies/{answer['ParentStudy']}").json()
        query = {"Resources": [orthanc_id], "Level": "Instance", "Short": True, "Metadata": True}
        found = self._post("/tools/bulk-content", json=query).json()
        instances = (
            ArchivedInstance(
                orthanc_id=entry["ID"],
                sop_instance_uid=entry["MainDicomTags"]["0008,0018"],
                sop_class_uid=entry["Metadata"]["SopClassUid"],
                file_uuid=entry["FileUuid"],
                size=entry["FileSize"],
            )
            for entry in found
        )
        return ArchivedSeries(
            orthanc_id=orthanc_id,
            study_orthanc_id=answer["ParentStudy"],
            study_uid=study["MainDicomTags"]["StudyInstanceUID"],
            series_uid=answer["MainDicomTags"]["SeriesInstanceUID"],
            modality=answer["MainDicomTags"].get("Modality", ""),
            instances=tuple(sorted(instances, key=lambda instance: instance.sop_instance_uid)),
        )

    def study(self, orthanc_id: str) -> ArchivedStudy:
        """Return one study as a worklist shows it (identity).

        Raises
        ------
        ArchiveMismatch
            When the archive does not hold it (any longer).
        """
        answer = self._get_held(f"/studies/{orthanc_id}").json()
        tags = {**answer["PatientMainDicomTags"], **answer["MainDicomTags"]}
        return ArchivedStudy(
            orthanc_id=orthanc_id,
            study_uid=tags["StudyInstanceUID"],
            patient_name=tags.get("PatientName", ""),
            patient_id=tags.get("PatientID", ""),
            patient_birth_date=tags.get("PatientBirthDate", ""),
            patient_sex=tags.get("PatientSex", ""),
            accession_number=tags.get("AccessionNumber", ""),
            study_date=tags.get("StudyDate", ""),
            study_time=tags.get("StudyTime", ""),
            study_description=tags.get("StudyDescription", ""),
            series=tuple(answer["Series"]),
        )

    def lookup(self, level: Level, uid: str) -> tuple[str, ...]:
        """Return the Orthanc ids of what has this DICOM UID at that level (patients: PatientID).

        Orthanc tells studies of one StudyInstanceUID apart by PatientID, hence more than one.
        """
        found = self._post("/tools/lookup", content=uid.encode()).json()
        return tuple(entry["ID"] for entry in found if entry["Type"] == KIND_OF_LEVEL[level])

    def studies_of(self, patient_orthanc_id: str) -> tuple[str, ...]:
        """Return the Orthanc ids of a patient's studies.

        Raises
        ------
        ArchiveMismatch
            When the archive does not hold the patient (any longer).
        """
        return tuple(self._get_held(f"/patients/{patient_orthanc_id}").json()["Studies"])

    def holds(self, sop_instance_uid: str) -> bool:
        """Return whether an instance of that UID is stored."""
        return bool(self.lookup("instances", sop_instance_uid))

    def find_studies(self, patient_name: str, *, limit: int) -> tuple[str, ...]:
        """Return the Orthanc ids of studies whose patient's name has that in it, `limit` at most.

        Upper and lower case are the same; what DICOM has as a wild card stands for nothing here.
        """
        plain = re.sub(r"[*?\\^=]+", " ", patient_name).strip()
        if not plain:
            return ()
        query = {
            "Level": "Study",
            "Limit": limit,
            "Query": {"PatientName": f"*{plain}*"},
        }
        return tuple(self._post("/tools/find", json=query).json())

    def series_uids(self, study_orthanc_id: str) -> dict[str, str]:
        """Return the UIDs of a study's series, by their Orthanc ids."""
        query = {"Resources": [study_orthanc_id], "Level": "Series", "Short": True}
        found = self._post("/tools/bulk-content", json=query).json()
        return {entry["ID"]: entry["MainDicomTags"]["0020,000e"] for entry in found}

    def listed_series(self, study_orthanc_id: str) -> tuple[ListedSeries, ...]:
        """Return what a study's series are; one question, however many there are."""
        query = {"Resources": [study_orthanc_id], "Level": "Series", "Short": True}
        found = self._post("/tools/bulk-content", json=query).json()
        return tuple(
            ListedSeries(
                entry["MainDicomTags"]["0020,000e"],
                entry["MainDicomTags"].get("0008,0060", ""),
                len(entry["Instances"]),
            )
            for entry in found
        )

    def names(self, instance_ids: Sequence[str]) -> dict[str, ArchivedName]:
        """Return what instances are called, by their Orthanc ids; those that are gone are left out.

        Two questions, however many there are.
        """
        if not instance_ids:
            return {}
        query = {"Resources": list(instance_ids), "Level": "Instance", "Short": True}
        found = self._post("/tools/bulk-content", json=query).json()
        parents = {entry["ParentSeries"] for entry in found}
        query = {"Resources": sorted(parents), "Level": "Series", "Short": True}
        series = {
            entry["ID"]: entry["MainDicomTags"]
            for entry in (self._post("/tools/bulk-content", json=query).json() if parents else ())
        }
        return {
            entry["ID"]: ArchivedName(
                orthanc_id=entry["ID"],
                series_uid=series[entry["ParentSeries"]]["0020,000e"],
                sop_instance_uid=entry["MainDicomTags"]["0008,0018"],
                series_description=series[entry["ParentSeries"]].get("0008,103e", ""),
            )
            for entry in found
            if entry["ParentSeries"] in series
        }

    def statistics(self) -> Statistics:
        """Return how much is stored."""
        answer = self._get("/statistics").json()
        return Statistics(
            patients=answer["CountPatients"],
            studies=answer["CountStudies"],
            series=answer["CountSeries"],
            instances=answer["CountInstances"],
            disk_bytes=int(answer["TotalDiskSize"]),
        )
