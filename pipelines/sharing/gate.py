"""The second look at what leaves: each file is held against the originals of its own patient.

What the originals said is read from the vault, so that without the key nothing leaves. Texts of the
whole dataset (tables, the card) are held against every patient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import reduce
from operator import or_
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom.deid import Identity
from dicom.errors import CannotDeidentify
from dicom.header import read_header
from dicom.profile import Option, Profile
from dicom.verify import Originals, SecondLook, Tokens
from pipelines.exporting import Gate, export_gate, is_text
from pipelines.identity import Vault

_STANDIN: Final = UID("2.25.1")  # of the file that the vault's attributes are written into
_SECONDARY_CAPTURE: Final = UID("1.2.840.10008.5.1.4.1.1.7")


def patients_gate(
    profile: Profile, vault: Vault, studies: Mapping[str, str], *, actor: str, reason: str
) -> Gate:
    """Return the second look at an export's files.

    Parameters
    ----------
    profile : Profile
        By which they were de-identified.
    vault : Vault
        The project's: it opens once for each study, and the audit trail says so.
    studies : Mapping of str to str
        Patient by study, the project's pseudonyms: all studies of the patients whom the export
        holds, those among them that it does not hold.
    actor, reason : str
        For the trail.

    Raises
    ------
    NotFound
        When the vault does not hold one of these studies.
    VaultLocked
        When the key is gone, or is another one.
    """
    tokens: dict[str, Tokens] = defaultdict(Tokens)
    for study, patient in studies.items():
        identity = vault.unseal(study, actor=actor, reason=reason)
        tokens[patient] = tokens[patient] | tokens_of(identity, profile)
    of_all = export_gate(SecondLook(profile, reduce(or_, tokens.values(), Tokens())))
    gates = {patient: export_gate(SecondLook(profile, found)) for patient, found in tokens.items()}

    def gate(path: Path) -> None:
        if is_text(path):
            of_all(path)
            return
        patient = read_header(path, ("PatientID",)).text("PatientID") or ""
        if patient not in gates:
            raise CannotDeidentify("a file is of a patient whom the export does not hold")
        gates[patient](path)

    return gate


def tokens_of(identity: Identity, profile: Profile) -> Tokens:
    """Return what must not be found of a study, from what the vault keeps of it."""
    ds = Dataset.from_json(_attributes(identity))
    ds.SOPClassUID, ds.SOPInstanceUID = _SECONDARY_CAPTURE, _STANDIN
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = _SECONDARY_CAPTURE
    ds.file_meta.MediaStorageSOPInstanceUID = _STANDIN
    originals = Originals(profile)
    with TemporaryDirectory(prefix="radloop-") as folder:
        path = Path(folder, "original.dcm")
        ds.save_as(path, enforce_file_format=True)
        originals.read(path)
    found = originals.tokens
    uids = found.uids - {str(_STANDIN)}
    if Option.RETAIN_UIDS not in profile.options:
        uids |= frozenset(identity.uids.values())
    return Tokens(found.words, found.identifiers, uids, found.dates)


def _attributes(identity: Identity) -> dict[str, Any]:
    """Return the attributes as `Dataset.from_json` takes them."""
    return dict(identity.attributes)
