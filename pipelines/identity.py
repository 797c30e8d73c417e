"""The identity vault: the only way back from a pseudonym to a patient.

Every study's :class:`~dicom.deid.Identity` is sealed with AES-256-GCM before it reaches the
database, bound to the study's pseudonym, to the project and to the key, and opened here alone. Each
opening is written to the audit trail first. The keys come from :mod:`pipelines.keyring`.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dicom.deid import Identity
from dicom.errors import NotFound, PatientWithdrawn, VaultLocked
from dicom.uids import patient_pseudonym
from pipelines.keyring import NODE_PROJECT, KeyRing

# An envelope: four bytes of format, eight that name the key, a nonce, ciphertext with its tag. The
# key's name lets a rotation tell which rows are still to be sealed anew.
_FORMAT: Final = b"RLV1"
_KEY_ID_BYTES: Final = 8
_NONCE_BYTES: Final = 12  # NIST SP 800-38D: 96 bits, random
_HEAD_BYTES: Final = len(_FORMAT) + _KEY_ID_BYTES + _NONCE_BYTES

_PATIENT_ID, _ISSUER = "00100020", "00100021"


@dataclass(frozen=True, slots=True)
class SealedRow:
    """What the database keeps of one study's identity.

    `patient` is the pseudonymised PatientID, so that a patient's studies are found without opening
    anything.
    """

    study_id: str
    project: str
    patient: str
    sealed: bytes


class VaultStore(Protocol):
    """Where sealed identities are kept."""

    def put_sealed(self, row: SealedRow, *, in_place_of: bytes | None) -> bool:
        """Keep a study's sealed identity; False when something else is there by now."""

    def get_sealed(self, study_id: str) -> SealedRow | None:
        """Return a study's sealed identity, or None."""

    def every_sealed(self) -> Iterator[SealedRow]:
        """Yield every row, by study."""

    def studies_of(self, patient: str) -> list[str]:
        """Return the studies of a pseudonymised patient."""


class AuditTrail(Protocol):
    """Where each opening is written down."""

    def note(
        self, *, actor: str, action: str, object: str = "", outcome: str = "ok", reason: str = ""
    ) -> None:
        """Add one event to the trail."""


class Vault:
    """Seals and opens the identities of one project.

    Parameters
    ----------
    ring : KeyRing
        The node's master keys; read anew when a row needs a key that this ring has not got.
    store : VaultStore
        Where sealed bytes lie.
    trail : AuditTrail
        Where each opening is written down, before anything is opened.
    project : str
        Whose identities: keys and pseudonyms are the project's own.
    is_withdrawn : callable
        Whether one of these patients' pseudonyms is of somebody who has withdrawn: no identity of
        his is sealed for a project any more, so that nothing of his can be stored there.
    """

    def __init__(
        self,
        ring: KeyRing,
        store: VaultStore,
        trail: AuditTrail,
        *,
        project: str = NODE_PROJECT,
        is_withdrawn: Callable[[Sequence[str]], bool] = lambda _: False,
    ) -> None:
        self._ring = ring
        self._store = store
        self._trail = trail
        self._project = project
        self._locks = _locks(ring, project)
        self._is_withdrawn = is_withdrawn

    def seal(self, identity: Identity) -> None:
        """Keep an identity, together with what is known of the same study already.

        Raises
        ------
        VaultLocked
            When what is there was sealed with another key or has been changed.
        CannotDeidentify
            When what is there contradicts it, see :meth:`Identity.merged`.
        PatientWithdrawn
            When the patient has withdrawn.
        """
        if self._is_withdrawn([self.patient_of(identity)]):
            raise PatientWithdrawn(f"the patient has withdrawn from project {self._project}")
        kept = False
        while not kept:  # another worker may seal the same study: then merge with what it wrote
            there = self._store.get_sealed(identity.study_pseudonym)
            whole = identity if there is None else self._opened(there).merged(identity)
            kept = self._put(whole, in_place_of=there)

    def unseal(self, study_pseudonym: str, *, actor: str, reason: str) -> Identity:
        """Return a study's identity; the audit trail gets an event first, whatever comes of it.

        Parameters
        ----------
        study_pseudonym : str
            StudyInstanceUID after de-identification.
        actor, reason : str
            Who asks, and what for; both are required, and neither may be empty.

        Raises
        ------
        NotFound
            When no identity of that study was ever sealed in this project.
        VaultLocked
            When it was sealed with another key or has been changed.
        ValueError
            When actor or reason is empty: a bug of the caller.
        """
        if not actor.strip() or not reason.strip():
            raise ValueError("the vault opens for a named actor with a reason only")
        self._trail.note(
            actor=actor, action="identity.unseal", object=study_pseudonym, reason=reason
        )
        row = self._store.get_sealed(study_pseudonym)
        if row is None or row.project != self._project:
            raise NotFound("the vault holds no identity of this study")
        return self._opened(row)

    def patient_of(self, identity: Identity) -> str:
        """Return the pseudonym of the patient in this project."""
        return self.pseudonym(_text(identity, _PATIENT_ID), _text(identity, _ISSUER))

    def patient(self, study_pseudonym: str) -> str:
        """Return the patient's pseudonym of a study; empty where no identity was sealed."""
        row = self._store.get_sealed(study_pseudonym)
        return row.patient if row else ""

    def pseudonym(self, patient_id: str, issuer: str = "") -> str:
        """Return the pseudonym of a PatientID in this project."""
        return patient_pseudonym(self._ring.pseudonym_key(self._project), patient_id, issuer)

    def others_of(self, identity: Identity, *, actor: str, reason: str) -> list[Identity]:
        """Return the identities of the same patient's other studies; none without a PatientID.

        Raises
        ------
        VaultLocked
            When one was sealed with another key or has been changed.
        """
        if not _text(identity, _PATIENT_ID):
            return []
        known = self._store.studies_of(self.patient_of(identity))
        others = [study for study in known if study != identity.study_pseudonym]
        if not others:
            return []
        self._trail.note(
            actor=actor,
            action="identity.compare",
            object=identity.study_pseudonym,
            reason=f"{reason}; {len(others)} of the patient's studies",
        )
        rows = [self._store.get_sealed(study) for study in others]
        return [self._opened(row) for row in rows if row and row.project == self._project]

    def reseal(self) -> int:
        """Seal anew what older keys sealed; return how much it was.

        Stopped in between, a second call goes on; other processes may read and seal meanwhile.

        Raises
        ------
        VaultLocked
            When a row cannot be opened; those before it are sealed anew.
        """
        count = 0
        newest = self._locks[-1].key_id
        for row in self._store.every_sealed():
            if row.project != self._project:
                continue
            if _key_id(row.sealed) != newest or not row.patient:
                count += self._put(self._opened(row), in_place_of=row)
        return count

    # --- one row --------------------------------------------------------------------------------

    def _put(self, identity: Identity, *, in_place_of: SealedRow | None) -> bool:
        study = identity.study_pseudonym
        patient = self.patient_of(identity)
        text = json.dumps({"uids": dict(identity.uids), "attributes": dict(identity.attributes)})
        sealed = self._locks[-1].close(zlib.compress(text.encode()), study)
        row = SealedRow(study, self._project, patient, sealed)
        return self._store.put_sealed(row, in_place_of=in_place_of.sealed if in_place_of else None)

    def _opened(self, row: SealedRow) -> Identity:
        if row.sealed[:4] != _FORMAT or len(row.sealed) < _HEAD_BYTES:
            raise VaultLocked("a sealed identity is damaged or of an unknown format")
        lock = self._lock_of(row) or self._lock_after_rotation(row)
        content = json.loads(zlib.decompress(lock.open(row.sealed, row.study_id)))
        return Identity(row.study_id, content["uids"], content["attributes"])

    def _lock_of(self, row: SealedRow) -> _Lock | None:
        return next((lock for lock in self._locks if lock.key_id == _key_id(row.sealed)), None)

    def _lock_after_rotation(self, row: SealedRow) -> _Lock:
        self._ring = self._ring.reread()
        self._locks = _locks(self._ring, self._project)
        lock = self._lock_of(row)
        if lock is None:
            raise VaultLocked("a sealed identity needs another key than those at hand")
        return lock


class _Lock:
    """One key of the vault."""

    def __init__(self, key: bytes) -> None:
        self.key_id = sha256(b"radloop vault key id v1\0" + key).digest()[:_KEY_ID_BYTES]
        self._cipher = AESGCM(key)

    def close(self, content: bytes, study: str) -> bytes:
        nonce = secrets.token_bytes(_NONCE_BYTES)
        box = self._cipher.encrypt(nonce, content, self._bound_to(study))
        return _FORMAT + self.key_id + nonce + box

    def open(self, sealed: bytes, study: str) -> bytes:
        nonce, box = sealed[_HEAD_BYTES - _NONCE_BYTES : _HEAD_BYTES], sealed[_HEAD_BYTES:]
        try:
            return self._cipher.decrypt(nonce, box, self._bound_to(study))
        except InvalidTag:
            raise VaultLocked("a sealed identity was changed since it was written") from None

    def _bound_to(self, study: str) -> bytes:
        return _FORMAT + self.key_id + study.encode("ascii")


def _locks(ring: KeyRing, project: str) -> tuple[_Lock, ...]:
    return tuple(_Lock(key) for key in ring.vault_keys(project))


def _key_id(sealed: bytes) -> bytes:
    return sealed[len(_FORMAT) : len(_FORMAT) + _KEY_ID_BYTES]


def _text(identity: Identity, tag: str) -> str:
    """Return an attribute's first value from the DICOM JSON model, without padding."""
    element = identity.attributes.get(tag)
    values = element.get("Value", []) if isinstance(element, dict) else []
    return str(values[0]).strip() if values else ""
