"""A patient's withdrawal from research, from the shell."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.table import Table

from dicom.errors import InvalidRequest, ResourceError, error_of
from node.commands.common import (
    Config,
    Data,
    err,
    opened_database,
    out,
    person_at_the_shell,
    settings_for,
)

if TYPE_CHECKING:
    from pipelines.store import Withdrawals, WithdrawalView

_LOOK_S: Final = 0.2
_WORKER_SILENT: Final = timedelta(seconds=30)
_WORDS: Final = {
    "study": "study in the research archive",
    "collection": "collection",
    "export": "export",
    "dataset": "dataset",
    "model": "model",
}


def withdraw(
    reason: Annotated[str, typer.Option(help="Why; it is kept sealed.")],
    study: Annotated[
        str, typer.Option(help="A study's pseudonym; else the PatientID is read from stdin.")
    ] = "",
    issuer: Annotated[str, typer.Option(help="IssuerOfPatientID, where images name one.")] = "",
    yes: Annotated[
        bool, typer.Option("--yes", help="Withdraw the patient; else only say what holds him.")
    ] = False,
    wait_s: Annotated[float, typer.Option(help="How long to wait for the worker.")] = 300,
    config: Config = None,
    data: Data = None,
) -> None:
    """Remove a patient from research: first what holds the patient, with --yes removed.

    The PatientID is read from standard input, never from the command line. The running node does
    the work; it goes on when this command is stopped.
    """
    from node.audit import Audit
    from node.keys import open_secrets
    from pipelines.custody import Custody, Patient
    from pipelines.drawer import Drawer
    from pipelines.store import Access, Trail

    patient = Patient("" if study else _from_stdin(), issuer, study)
    settings = settings_for("withdraw", config, data)
    who = person_at_the_shell()
    with opened_database(settings, of_a_node=True) as database:
        if not Access(database).workers_seen(within=_WORKER_SILENT):
            raise ResourceError("the node does not run: `radloop up` first, then withdraw")
        secrets = open_secrets(settings)
        custody = Custody.of(database, Drawer(secrets.audit_key))
        audit = Audit(Trail(database, secrets.audit_key))
        asked = custody.withdrawing.ask(patient, by=who, reason=reason)
        audit.note("withdrawal_asked", actor=who, object=asked)
        row = _waited(custody.withdrawals, asked, "asked", wait_s)
        if yes:
            if custody.withdrawals.confirm(asked, by=who):
                audit.note("withdrawal_confirmed", actor=who, object=asked)
            row = _waited(custody.withdrawals, asked, "confirmed", wait_s)
    _tell(row)


def _from_stdin() -> str:
    if sys.stdin.isatty():
        err.print("PatientID: ", end="")
    line = sys.stdin.readline().strip()
    if not line:
        raise InvalidRequest("no PatientID came on standard input, and no --study was given")
    return line


def _waited(rows: Withdrawals, asked: str, state: str, wait_s: float) -> WithdrawalView:
    """Return the withdrawal once the worker has left that state.

    Raises
    ------
    RadloopError
        What the worker met.
    """
    deadline = time.monotonic() + wait_s
    with err.status("looking" if state == "asked" else "removing"):
        while True:
            row = rows.one(asked)
            if row.error_code is not None:
                raise error_of(row.error_code, row.error_message or "")
            if row.state != state:
                return row
            if time.monotonic() > deadline:
                raise ResourceError("it takes longer; the page `/withdrawals` says when it is done")
            time.sleep(_LOOK_S)


def _tell(row: WithdrawalView) -> None:
    out.print(f"patient {row.patient}", highlight=False)
    table = Table("what", "name", "project", "now", "why", box=None)
    for one in row.found:
        now = "there" if one.became == "found" else one.became
        table.add_row(_WORDS[one.kind], one.name, one.project, now, one.why)
    out.print(table if row.found else "nothing holds the patient", highlight=False)
    if row.state == "found":
        out.print("nothing was removed; the same with --yes withdraws the patient")
    else:
        out.print("withdrawn: nothing more of the patient goes into research")
