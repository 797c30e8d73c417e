"""Alarms by mail: over TLS to a server that shows who it is, with a login, or not at all."""

import base64
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import ValidationError

from dicom.errors import InvalidSettings, PeerError, PeerRefused, PeerUnreachable
from node.settings import TrainingSettings
from node.telling import Post
from pipelines.store import AlarmView

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ALARM = AlarmView(
    id="5e7a",
    kind="effort",
    bundle="liver@1.0.0",
    scanner="ACME",
    message="readers draw more",
    facts={},
    raised_at=NOW,
)
USER, PASSWORD = "radloop", "a test's password"


@dataclass
class Heard:
    """What a mail server was told."""

    mails: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    in_the_clear: list[str] = field(default_factory=list)


class Server(ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None, *, at_once: bool) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.tls, self.at_once, self.heard = tls, at_once, Heard()

    def handle_error(self, request: object, client: object) -> None:
        """Say nothing: clients that trust it not hang up."""


class Session(StreamRequestHandler):
    """As much of RFC 5321, 3207 and 4954 as takes a mail; it takes none without a login."""

    server: Server
    is_safe, may_send = False, False

    def handle(self) -> None:
        if self.server.at_once:
            self._upgrade()
        self._say("220 here")
        while line := self.rfile.readline().decode().strip():
            if not self.is_safe:
                self.server.heard.in_the_clear.append(line)
            verb, _, rest = line.partition(" ")
            getattr(self, f"_{verb.lower()}", self._other)(rest)

    def _ehlo(self, rest: str) -> None:
        self._say("250-here")
        if self.server.tls is not None and not self.is_safe:
            self._say("250-STARTTLS")
        self._say("250 AUTH PLAIN" if self.is_safe else "250 HELP")

    def _starttls(self, rest: str) -> None:
        self._say("220 go on")
        self._upgrade()

    def _auth(self, rest: str) -> None:
        _, user, password = base64.b64decode(rest.split()[1]).decode().split("\0")
        self.server.heard.logins.append(user)
        self.may_send = (user, password) == (USER, PASSWORD)
        self._say("235 welcome" if self.may_send else "535 no")

    def _rcpt(self, rest: str) -> None:
        wanted = self.may_send or self.server.tls is None
        self._say("250 good" if wanted and "nobody" not in rest else "550 no")

    def _data(self, rest: str) -> None:
        self._say("354 go on")
        lines = b"".join(iter(self.rfile.readline, b".\r\n"))
        self.server.heard.mails.append(message_from_bytes(lines, policy=policy.default))
        self._say("250 good")

    def _other(self, rest: str) -> None:
        self._say("250 good")

    def _upgrade(self) -> None:
        assert self.server.tls is not None
        self.connection = self.server.tls.wrap_socket(self.request, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.is_safe = True

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def listening(tls: ssl.SSLContext | None = None, *, at_once: bool = False) -> Iterator[Server]:
    server = Server(tls, at_once=at_once)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a certificate for 127.0.0.1, and for no other name, with its key behind it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test's mail server")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("mail") / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def post(server: Server, **change: object) -> Post:
    wanted = {
        "mail_server": f"127.0.0.1:{server.server_address[1]}",
        "mail_from": "radloop@hospital.example",
        "mail_to": ("anna@hospital.example",),
    }
    made = Post.of(TrainingSettings(**{**wanted, **change}))
    assert made is not None
    return made


def login(trusted: Path | None, **change: object) -> dict[str, object]:
    known = {"mail_trusted": trusted, "mail_user": USER, "mail_password": PASSWORD}
    return {"mail_security": "starttls", **known, **change}


@pytest.mark.parametrize("way", ["starttls", "tls"])
def test_an_alarm_travels_by_tls_after_a_login(certificate: Path, tls: ssl.SSLContext, way: str):
    with listening(tls, at_once=way == "tls") as server:
        mailer = post(server, **login(certificate, mail_security=way))
        mailer.check()
        assert server.heard.mails == []  # looking sends none
        mailer.tell(ALARM)
        mailer.tell(ALARM)
    heard = server.heard
    assert heard.logins == [USER] * 3
    assert {mail["Message-ID"] for mail in heard.mails} == {"<5e7a@hospital.example>"}
    mail = heard.mails[0]
    assert (mail["To"], mail["Auto-Submitted"]) == ("anna@hospital.example", "auto-generated")
    assert mail["Date"].datetime == NOW
    assert "readers draw more" in mail.get_content() and "ACME" in mail.get_content()
    assert {line.split()[0] for line in heard.in_the_clear} <= {"ehlo", "EHLO", "STARTTLS"}


@pytest.mark.parametrize("way", ["starttls", "tls"])
def test_a_server_that_is_not_the_one_it_should_be_hears_nothing(
    certificate: Path, tls: ssl.SSLContext, way: str
):
    with listening(tls, at_once=way == "tls") as server:
        of_nobody = post(server, **login(None, mail_security=way))
        port = server.server_address[1]
        another = login(certificate, mail_security=way, mail_server=f"localhost:{port}")
        for mailer in (of_nobody, post(server, **another)):
            with pytest.raises(PeerRefused, match="not trusted"):
                mailer.tell(ALARM)
    assert server.heard.logins == [] and server.heard.mails == []


def test_what_the_server_refuses_has_a_code_and_says_what(certificate: Path, tls: ssl.SSLContext):
    with listening() as old:  # without TLS
        with pytest.raises(PeerRefused, match="STARTTLS"):
            post(old, **login(certificate)).tell(ALARM)
        assert old.heard.mails == []
        assert not any("AUTH" in line for line in old.heard.in_the_clear)
        post(old).tell(ALARM)
        with pytest.raises(PeerRefused, match="every address"):
            post(old, mail_to=("nobody@hospital.example",)).tell(ALARM)
        both = ("nobody@hospital.example", "anna@hospital.example")
        post(old, mail_to=both).tell(ALARM)  # who can be told is told
        assert len(old.heard.mails) == 2
    with pytest.raises(PeerUnreachable):
        post(old).check()
    with listening(tls) as server:
        with pytest.raises(PeerRefused, match="mail_password"):
            post(server, **login(certificate, mail_password="another")).check()
        with pytest.raises(PeerError):  # it speaks, and not first as TLS wants it
            post(server, **login(certificate, mail_security="tls")).check()
    assert server.heard.mails == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mail_to": ()}, "mail_from and mail_to"),
        ({"mail_server": "mail.example:smtp"}, "host:port"),
        ({"mail_server": "mail.example:99999"}, "ort"),
        ({"mail_user": "a"}, "go together"),
        ({"mail_user": "a", "mail_password": "b"}, "starttls"),
        ({"mail_trusted": Path("/ca.pem")}, "starttls"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(change: dict[str, object], said: str):
    mail = {"mail_server": "mail.example", "mail_from": "a@b.example", "mail_to": ("c@d.example",)}
    with pytest.raises(ValidationError, match=said):
        TrainingSettings(**{**mail, **change})
    assert TrainingSettings(**mail).mail_address == ("mail.example", 25)
    assert TrainingSettings(**mail, mail_security="tls").mail_address[1] == 465


def test_a_file_of_certificates_that_is_none_is_named(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("none")
    for trusted in (tmp_path / "ca.pem", tmp_path / "nowhere.pem"):
        with pytest.raises(InvalidSettings, match="mail_trusted"), listening() as server:
            post(server, **login(trusted))
