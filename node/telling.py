"""People are told of alarms: by a webhook, by e-mail. No alarm says anything of a patient."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from functools import partial
from typing import Final

import httpx

from dicom.errors import PeerRefused, PeerUnreachable
from node.settings import TrainingSettings
from pipelines.store import AlarmView

_TIMEOUT_S: Final = 10.0
_PORT: Final = 25


def teller(settings: TrainingSettings) -> dict[str, Callable[[AlarmView], None]]:
    """Return what tells of an alarm, by the name of each way that is set."""
    ways: dict[str, Callable[[AlarmView], None]] = {}
    if settings.webhook:
        ways["webhook"] = partial(_post, settings.webhook)
    if settings.mail_server:
        ways["mail"] = partial(_mail, settings)
    return ways


def _post(address: str, alarm: AlarmView) -> None:
    """Send an alarm as JSON.

    Raises
    ------
    PeerUnreachable, PeerRefused
    """
    content = {
        "id": alarm.id,
        "kind": alarm.kind,
        "model": alarm.bundle,
        "scanner": alarm.scanner,
        "message": alarm.message,
        "raised_at": alarm.raised_at.isoformat(),
    }
    try:
        answer = httpx.post(address, json=content, timeout=_TIMEOUT_S)
    except httpx.TransportError as error:
        raise PeerUnreachable("the webhook for alarms does not answer") from error
    if not answer.is_success:
        raise PeerRefused(f"the webhook for alarms answered {answer.status_code}")


def _mail(settings: TrainingSettings, alarm: AlarmView) -> None:
    """Send an alarm by SMTP.

    Raises
    ------
    PeerUnreachable
    """
    host, _, port = settings.mail_server.partition(":")
    message = EmailMessage()
    message["Subject"] = f"radloop: {alarm.bundle}, {alarm.kind}"
    message["From"] = settings.mail_from
    message["To"] = ", ".join(settings.mail_to)
    scanner = f"\nScanner: {alarm.scanner}" if alarm.scanner else ""
    message.set_content(f"{alarm.message}{scanner}\n")
    try:
        with smtplib.SMTP(host, int(port or _PORT), timeout=_TIMEOUT_S) as server:
            server.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise PeerUnreachable("the mail server for alarms does not take mail") from error
