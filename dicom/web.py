"""One DICOMweb peer (PS3.18): search (QIDO-RS), retrieve (WADO-RS), store (STOW-RS)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO

import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset, FileDataset

from dicom.errors import PeerRefused, PeerUnreachable

AS_STORED = (("application/dicom", "*"),)  # PS3.18 8.7.3.5: any transfer syntax, so none is changed


@dataclass(frozen=True, slots=True)
class FoundSeries:
    """A series as QIDO-RS lists it; `instances` is None where the peer does not count."""

    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    modality: str
    instances: int | None


@dataclass(frozen=True, slots=True)
class FoundInstance:
    """An instance as QIDO-RS lists it."""

    series_uid: str = field(repr=False)
    sop_instance_uid: str = field(repr=False)
    sop_class_uid: str


class WebPeer:
    """Another system's DICOMweb services.

    Parameters
    ----------
    name : str
        What we call it in messages.
    url : str
        Root of its services, as in ``https://pacs.example/dicom-web``.
    user, password : str
        For HTTP Basic; empty: none.
    token : str
        A bearer token; empty: none.
    timeout_s : float
        For connecting, and for each silence within an answer.

    Notes
    -----
    Every method raises :class:`PeerUnreachable` when the peer does not answer and
    :class:`PeerRefused` when it says no. Nothing is tried twice here: the caller's engine does.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        user: str = "",
        password: str = "",
        token: str = "",
        timeout_s: float = 30.0,
    ) -> None:
        self.name = name
        session = requests.Session()
        if user:
            session.auth = (user, password)
        if token:
            session.headers["Authorization"] = f"Bearer {token}"
        session.headers["Accept-Encoding"] = "identity"  # compressing pixels costs ten times more
        self._client = DICOMwebClient(url, session=session, timeout=timeout_s)
        self._client.set_http_retry_params(retry=False)

    def search_series(
        self, study_uid: str | None = None, *, modality: str = ""
    ) -> tuple[FoundSeries, ...]:
        """Return the series of a study, or of all that the peer lets us see."""
        filters = {"Modality": modality} if modality else {}
        fields = ["NumberOfSeriesRelatedInstances"]
        with self._speaking():
            found = self._client.search_for_series(study_uid, fields=fields, search_filters=filters)
        return tuple(_found_series(Dataset.from_json(entry)) for entry in found)

    def search_instances(
        self, study_uid: str, series_uid: str | None = None
    ) -> tuple[FoundInstance, ...]:
        """Return the instances of a study or of one of its series."""
        with self._speaking():
            found = self._client.search_for_instances(study_uid, series_uid)
        return tuple(_found_instance(Dataset.from_json(entry)) for entry in found)

    def retrieve_series(self, study_uid: str, series_uid: str) -> Iterator[Dataset]:
        """Yield the instances of a series, one at a time, in the transfer syntax that is stored."""
        with self._speaking():
            yield from self._client.iter_series(study_uid, series_uid, media_types=AS_STORED)

    def store(self, instances: Sequence[Dataset]) -> None:
        """Store instances; one that the peer has already is no error.

        Raises
        ------
        PeerRefused
            When any of them was not stored; the message counts them by FailureReason.
        """
        with self._speaking():
            answer = self._client.store_instances([_with_preamble(ds) for ds in instances])
        _raise_failures(self.name, answer, [ds.SOPInstanceUID for ds in instances])

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        # `from None`: requests' texts carry the URL, and with it UIDs.
        try:
            yield
        except requests.HTTPError as error:
            status = "an error" if error.response is None else error.response.status_code
            raise PeerRefused(f"peer {self.name} refused with HTTP {status}") from None
        except requests.RequestException as error:
            kind = type(error).__name__
            raise PeerUnreachable(f"peer {self.name} did not answer ({kind})") from None


def _found_series(entry: Dataset) -> FoundSeries:
    count = entry.get("NumberOfSeriesRelatedInstances")
    return FoundSeries(
        study_uid=entry.StudyInstanceUID,
        series_uid=entry.SeriesInstanceUID,
        modality=entry.get("Modality", ""),
        instances=None if count is None else int(count),
    )


def _found_instance(entry: Dataset) -> FoundInstance:
    return FoundInstance(
        series_uid=entry.SeriesInstanceUID,
        sop_instance_uid=entry.SOPInstanceUID,
        sop_class_uid=entry.SOPClassUID,
    )


def _with_preamble(ds: Dataset) -> Dataset:
    """Return `ds` such that it is written as a Part 10 file (PS3.10 7.1), sharing its elements."""
    if getattr(ds, "preamble", None):
        return ds
    return FileDataset(BytesIO(), ds, preamble=bytes(128), file_meta=ds.file_meta)


def _raise_failures(name: str, answer: Dataset, sent: Sequence[str]) -> None:
    # PS3.18 10.5.3: 202 says that some were not stored, and Failed SOP Sequence says why.
    failed = Counter(int(item.FailureReason) for item in answer.get("FailedSOPSequence", ()))
    if failed:
        counts = ", ".join(f"{times} with 0x{reason:04X}" for reason, times in failed.items())
        raise PeerRefused(
            f"peer {name} refused {failed.total()} of {len(sent)} instances: {counts}"
        )
    stored = {item.ReferencedSOPInstanceUID for item in answer.get("ReferencedSOPSequence", ())}
    missing = len(set(sent) - stored)
    if missing:
        raise PeerRefused(f"peer {name} does not confirm {missing} of {len(sent)} instances")
