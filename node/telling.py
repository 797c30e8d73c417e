"""People are told of alarms: by a webhook, by e-mail. No alarm says anything of a patient."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import format_datetime
from functools import partial
from typing import Final, Self

import httpx
import structlog

from dicom.errors import InvalidSettings, PeerRefused, PeerUnreachable
from node.settings import TrainingSettings
from pipelines.store import AlarmView

log = structlog.get_logger()

_TIMEOUT_S: Final = 10.0


def teller(settings: TrainingSettings) -> dict[str, Callable[[AlarmView], None]]:
    """Return what tells of an alarm, by the name of each way that is set.

    Raises
    ------
    InvalidSettings
        As :meth:`Post.of`.
    """
    ways: dict[str, Callable[[AlarmView], None]] = {}
    if settings.webhook:
        ways["webhook"] = partial(_post, settings.webhook)
    post = Post.of(settings)
    if post is not None:
        ways["mail"] = post.tell
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


@dataclass(frozen=True, slots=True)
class Post:
    """A mail server; made by :meth:`of`.

    Attributes
    ----------
    tls : SSLContext or None
        None: mail travels in the clear. Else nothing leaves before the server has shown a
        certificate that is trusted, for the name that the settings call it by.
    """

    settings: TrainingSettings
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, settings: TrainingSettings) -> Self | None:
        """Return the mail server of the settings; None where there is none.

        Raises
        ------
        InvalidSettings
            When `mail_trusted` names no file of certificates.
        """
        if not settings.mail_server:
            return None
        if settings.mail_security == "none":
            return cls(settings, None)
        try:
            return cls(settings, ssl.create_default_context(cafile=settings.mail_trusted))
        except OSError:  # an SSLError is one, too
            raise InvalidSettings(
                "training.mail_trusted cannot be read, or holds no certificate"
            ) from None

    def tell(self, alarm: AlarmView) -> None:
        """Send an alarm.

        Raises
        ------
        PeerUnreachable, PeerRefused
        """
        message = EmailMessage()
        message["Subject"] = f"radloop: {alarm.bundle}, {alarm.kind}"
        message["From"] = self.settings.mail_from
        message["To"] = ", ".join(self.settings.mail_to)
        message["Date"] = format_datetime(alarm.raised_at)
        domain = self.settings.mail_from.rpartition("@")[2].rstrip("> ")
        message["Message-ID"] = f"<{alarm.id}@{domain}>"  # sent twice, it is one mail
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's absence answers it
        scanner = f"\nScanner: {alarm.scanner}" if alarm.scanner else ""
        message.set_content(f"{alarm.message}{scanner}\n")
        with self._opened() as server:
            refused = server.send_message(message)
        if refused:
            log.warning("alarm_not_told", name="mail", count=len(refused))

    def check(self) -> None:
        """See that the server answers, is the one that it should be, and lets us in.

        Raises
        ------
        PeerUnreachable, PeerRefused
        """
        with self._opened() as server:
            server.noop()

    @contextmanager
    def _opened(self) -> Iterator[smtplib.SMTP]:
        wanted = self.settings
        try:
            with self._connected() as server:
                if wanted.mail_security == "starttls":
                    server.starttls(context=self.tls)
                if wanted.mail_user:
                    server.login(wanted.mail_user, wanted.mail_password)
                yield server
        except ssl.SSLCertVerificationError as error:
            raise PeerRefused(
                f"the mail server's certificate is not trusted: {error.verify_message}"
            ) from error
        except smtplib.SMTPNotSupportedError as error:
            raise PeerRefused(
                "the mail server offers no STARTTLS, or no login; nothing was sent"
            ) from error
        except smtplib.SMTPAuthenticationError as error:
            raise PeerRefused("the mail server refuses mail_user or mail_password") from error
        except smtplib.SMTPRecipientsRefused as error:
            raise PeerRefused("the mail server refuses every address of mail_to") from error
        except smtplib.SMTPResponseException as error:
            raise PeerRefused(f"the mail server refused, with code {error.smtp_code}") from error
        except (OSError, smtplib.SMTPException) as error:
            raise PeerUnreachable("the mail server for alarms does not answer") from error

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        host, port = self.settings.mail_address
        if self.settings.mail_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                host, port, timeout=_TIMEOUT_S, context=self.tls
            )
        else:
            server = smtplib.SMTP(host, port, timeout=_TIMEOUT_S)
        try:
            yield server
        finally:
            with suppress(OSError):  # a mail that was taken is sent, however the server says bye
                server.quit()
