"""The change feed: what came, was deleted, or became stable, from a cursor."""

from __future__ import annotations

from collections.abc import Iterable

from dicom.archive.rest import Rest
from dicom.archive.values import LEVEL_OF_CHANGE, Change, ChangePage


class Feed(Rest):
    """What changed."""

    def changes(self, since: int, *, limit: int = 1000) -> ChangePage:
        """Return the changes after the cursor `since`, oldest first, `limit` at most.

        The feed survives a crash of Orthanc; `last` of the page is the next cursor.
        """
        page = self._get("/changes", params={"since": since, "limit": limit}).json()
        changes = tuple(
            Change(
                seq=entry["Seq"],
                kind=entry["ChangeType"],
                level=LEVEL_OF_CHANGE[entry["ResourceType"]],
                resource_id=entry["ID"],
            )
            for entry in page["Changes"]
        )
        return ChangePage(changes=changes, last=page["Last"], done=page["Done"])

    def last_change(self) -> int:
        """Return the cursor at the end of the feed (0 for an archive that never held anything)."""
        return int(self._get("/changes?last").json()["Last"])

    def series_of(self, instance_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the Orthanc ids of the series that hold these instances, each once.

        Parameters
        ----------
        instance_ids : iterable of str
            Orthanc ids of instances, as the change feed names them. Those that were deleted
            meanwhile are passed over.
        """
        query = {"Resources": list(instance_ids), "Level": "Series", "Short": True}
        found = self._post("/tools/bulk-content", json=query).json()
        return tuple(sorted(series["ID"] for series in found))
