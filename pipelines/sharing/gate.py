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

from dicom.errors import CannotDeidentify
from dicom.header import read_header
from dicom.profile import Profile
from dicom.verify import SecondLook, Tokens
from pipelines.exporting import Gate, export_gate, is_text
from pipelines.identity import Vault
from pipelines.looking import tokens_of


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
