"""A withdrawal, carried out by the worker: found, and once it is confirmed, removed.

From the confirmation on the vault of no project seals anything of the patient any more, without
which nothing can be collected. Then everything that can be removed is, step by step, each of which
may run twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, Literal

import structlog

from dicom.deid import Identity
from dicom.errors import NotFound, RadloopError
from pipelines.custody.stores import REMOVED, Stores
from pipelines.custody.withdrawal import Patient, Withdrawing
from pipelines.engine import Engine, Steps, WorkflowSpec
from pipelines.identity import Vault
from pipelines.keyring import NODE_PROJECT
from pipelines.store import Withdrawals

log = structlog.get_logger()

_WORKFLOW: Final = "withdrawal"
_PATIENT_ID, _ISSUER = "00100020", "00100021"


class WithdrawalRuns:
    """The workflow of withdrawals, in the worker.

    Parameters
    ----------
    rows : Withdrawals
    asking : Withdrawing
    stores : Stores
        All that may hold a patient.
    vault_of : callable
        Gives the vault of a project.
    projects : callable
        Gives the names of every project that ever sealed an identity, or may.
    """

    def __init__(
        self,
        rows: Withdrawals,
        asking: Withdrawing,
        stores: Stores,
        *,
        vault_of: Callable[[str], Vault],
        projects: Callable[[], Iterable[str]],
    ) -> None:
        self._rows = rows
        self._asking = asking
        self._stores = stores
        self._vault_of = vault_of
        self._projects = projects
        self._handed: set[str] = set()

    def specs(self) -> tuple[WorkflowSpec, ...]:
        """Return the workflows for the engine."""
        return (WorkflowSpec(_WORKFLOW, "datasets", self.run, self._failed),)

    def hand_over(self, engine: Engine) -> None:
        """Give the engine what waits; the same a second time does nothing."""
        for row in self._rows.to_be_done():
            workflow_id = f"{_WORKFLOW} {row.id} {row.state} {row.attempt}"
            if workflow_id not in self._handed:
                engine.enqueue(_WORKFLOW, workflow_id, row.id, priority="high")
                self._handed.add(workflow_id)

    def run(self, withdrawal_id: str, steps: Steps) -> None:
        """Find out what holds the patient; once a person has confirmed, remove it."""
        if self._rows.one(withdrawal_id).state == "asked":
            steps.run("find", lambda: self.find(withdrawal_id))
            return
        steps.run("look again", lambda: self._look_again(withdrawal_id))
        steps.run("collections", lambda: self._remove(withdrawal_id, "collection"))
        steps.run("studies", lambda: self._remove(withdrawal_id, "study"))
        steps.run("exports", lambda: self._remove(withdrawal_id, "export"))
        steps.run("stays", lambda: self._say_what_stays(withdrawal_id))
        steps.run("end", lambda: self._rows.end(withdrawal_id))
        log.info("patient_withdrawn", count=len(self._rows.one(withdrawal_id).found))

    def find(self, withdrawal_id: str) -> None:
        """Find out the patient's pseudonyms, and what goes by them.

        Raises
        ------
        NotFound
            When the vault knows no such study.
        PeerError
            When the research archive does not answer.
        """
        row = self._rows.one(withdrawal_id)
        if row.state != "asked":
            return
        patient = self._asking.patient_of(row)
        if patient.study:
            patient = self._named(patient.study, row.asked_by)
        pseudonyms = {
            project: self._vault_of(project).pseudonym(patient.patient_id, patient.issuer)
            for project in {NODE_PROJECT, *self._projects()}
        }
        found = self._stores.find(pseudonyms)
        self._rows.resolve(withdrawal_id, pseudonyms, pseudonyms[NODE_PROJECT], found)

    def _named(self, study: str, asked_by: str) -> Patient:
        for project in sorted({NODE_PROJECT, *self._projects()}):
            try:
                identity = self._vault_of(project).unseal(
                    study, actor=asked_by, reason="to withdraw the patient"
                )
            except NotFound:
                continue
            return Patient(_value(identity, _PATIENT_ID), _value(identity, _ISSUER))
        raise NotFound("the vault holds no identity of this study")

    def _look_again(self, withdrawal_id: str) -> None:
        """Write down what there is before any of it goes: a removal may be cut off at any point."""
        row = self._rows.one(withdrawal_id)
        self._rows.keep_found(withdrawal_id, self._stores.find(row.pseudonyms))

    def _remove(self, withdrawal_id: str, kind: Literal["collection", "study", "export"]) -> None:
        row = self._rows.one(withdrawal_id)
        if kind == "collection":
            self._stores.remove_from_collections(row.pseudonyms)
        elif kind == "study":
            self._stores.remove_studies(row.pseudonyms)
        else:
            by = row.confirmed_by or row.asked_by
            self._stores.remove_exports(row.pseudonyms, by=by)
        gone = [one for one in row.found if one.kind == kind and one.became == "found"]
        self._rows.keep_found(
            withdrawal_id,
            [replace(one, became="removed", why=REMOVED[kind]) for one in gone],
        )

    def _say_what_stays(self, withdrawal_id: str) -> None:
        row = self._rows.one(withdrawal_id)
        self._rows.keep_found(withdrawal_id, self._stores.what_stays(row.pseudonyms))

    def _failed(self, withdrawal_id: str, error: RadloopError) -> None:
        self._rows.fail(withdrawal_id, error)


def _value(identity: Identity, tag: str) -> str:
    element: Mapping[str, object] = identity.attributes.get(tag) or {}  # type: ignore[assignment]  # DICOM JSON
    values = element.get("Value")
    return str(values[0]).strip() if isinstance(values, list) and values else ""
