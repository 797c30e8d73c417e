"""One DIMSE peer: ask whether it is there (C-ECHO), send it instances (C-STORE).

PS3.7 for the messages, PS3.4 Annex B for storage. An association is opened for each call and
released at its end; nothing is kept between calls.
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicom.errors import (
    InvalidSettings,
    NotDicom,
    PeerRefused,
    PeerUnreachable,
    UnsupportedTransferSyntax,
)

# A file that is sent by its path goes as it lies on disk, in pieces, without being decoded.
_config.STORE_SEND_CHUNKED_DATASET = True

MAX_CONTEXTS = 128  # PS3.8 9.3.2.2: identifiers are the odd numbers of one byte
FALLBACK = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
VERIFICATION = "1.2.840.10008.1.1"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # a DICOMDIR, which is no instance to store

NO_CONTEXT = 0x0122  # PS3.7 C.5.6: SOP class not supported; here: not in a syntax that we can make
# PS3.7 C.4.2, PS3.4 B.2.3: stored, although something was coerced or left out
STORED = frozenset({0x0000, 0x0001, 0x0107, 0x0116, 0xB000, 0xB006, 0xB007})

# PS3.8 9.3.4: why an association is rejected, by (source, reason)
REJECTIONS: Mapping[tuple[int | None, int | None], str] = {
    (1, 3): "it does not know our AE title",
    (1, 7): "it has not the AE title that we called",
    (3, 1): "it is too busy now",
    (3, 2): "its limit of associations is reached",
}

_LOOK_S = 0.05  # so often is looked whether a thread that is to wait has ended

Progress = Callable[[int, int], None]


def check_aet(aet: str) -> None:
    """Refuse what is no AE title (PS3.5 6.2: 1 to 16 characters, no backslash, no control).

    Raises
    ------
    InvalidSettings
        When `aet` breaks that rule, or begins or ends with a blank.
    """
    if not re.fullmatch(r"(?! )[ -\[\]-~]{1,16}(?<! )", aet):
        raise InvalidSettings("an AE title has 1 to 16 ASCII characters and no backslash")


@dataclass(frozen=True, slots=True)
class DicomTls:
    """Our certificate and key, and the CA whose certificates we trust (PEM files)."""

    certificate: Path
    key: Path
    trusted: Path

    def client_context(self) -> ssl.SSLContext:
        """Return what a connection to a peer is secured with (PS3.15 B.12, BCP 195).

        Raises
        ------
        InvalidSettings
            When a file is missing or does not fit the others.
        """
        try:
            context = ssl.create_default_context(cafile=str(self.trusted))
            context.load_cert_chain(str(self.certificate), str(self.key))
        except OSError as error:  # SSLError is one
            raise InvalidSettings(
                f"the TLS files cannot be used ({type(error).__name__})"
            ) from None
        # Certificates of DICOM devices name the device, seldom its host; the private CA vouches.
        context.check_hostname = False
        return context


@dataclass(frozen=True, slots=True)
class Peer:
    """Another DICOM application.

    Parameters
    ----------
    name : str
        What we call it: letters, digits, `-` and `_`.
    host, port : str, int
        Where it listens.
    aet : str
        Its AE title.
    tls : DicomTls or None
        None: plain TCP.
    """

    name: str
    host: str
    port: int
    aet: str
    tls: DicomTls | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise InvalidSettings("a peer's name is made of letters, digits, - and _")
        if not self.host or not 0 < self.port < 65535:
            raise InvalidSettings(f"peer {self.name}: needs a host, and a port from 1 to 65534")
        check_aet(self.aet)


@dataclass(frozen=True, slots=True)
class Sent:
    """One file and the status that the peer gave it (PS3.4 B.2.3)."""

    path: Path
    status: int


@dataclass(frozen=True, slots=True)
class _Outgoing:
    """A file with what its meta information says (PS3.10 7.1)."""

    path: Path
    sop_class: UID
    syntax: UID


def echo(peer: Peer, *, calling_aet: str, timeout_s: float = 10.0) -> None:
    """Return when the peer answers a C-ECHO.

    Raises
    ------
    PeerUnreachable
        No connection, or no answer in time.
    PeerRefused
        The association was rejected, or the answer was no success.
    """
    context = build_context(VERIFICATION)
    with _association(peer, [context], calling_aet=calling_aet, timeout_s=timeout_s) as assoc:
        answer = assoc.send_c_echo()
        if "Status" not in answer:
            raise PeerUnreachable(f"peer {peer.name} did not answer the C-ECHO")
        if answer.Status != 0:
            raise PeerRefused(f"peer {peer.name} refused the C-ECHO (0x{answer.Status:04X})")


def store(
    peer: Peer,
    files: Iterable[Path],
    *,
    calling_aet: str,
    timeout_s: float = 30.0,
    progress: Progress | None = None,
) -> tuple[Sent, ...]:
    """Send files by C-STORE and return the peer's status for each, in the order given.

    Each file is offered in its own transfer syntax and goes unchanged where the peer takes that;
    else it is decoded and sent as Explicit or Implicit VR Little Endian. The UID stays. One
    refusal does not stop the rest: all are tried, then the refusals are raised together.

    Parameters
    ----------
    peer : Peer
        To whom.
    files : iterable of Path
        Part 10 files.
    calling_aet : str
        Our AE title.
    timeout_s : float
        For connecting, and for each answer.
    progress : callable or None
        Called with (files done, files in all) after each file.

    Raises
    ------
    NotDicom
        When a file is no Part 10 file; nothing was sent then.
    PeerUnreachable
        No connection, or the peer fell silent or hung up in between.
    PeerRefused
        The association or any of the files was refused; the message counts them by status.
    UnsupportedTransferSyntax
        When a file has to be decoded for this peer and cannot be.
    """
    outgoing = [_outgoing(path) for path in files]
    sent: list[Sent] = []
    for batch in _batches(outgoing):
        contexts = _contexts(batch)
        with _association(peer, contexts, calling_aet=calling_aet, timeout_s=timeout_s) as assoc:
            for item in batch:
                sent.append(Sent(item.path, _store_one(peer, assoc, item)))
                if progress is not None:
                    progress(len(sent), len(outgoing))
    _raise_refusals(peer, sent)
    return tuple(sent)


def send_folder(
    peer: Peer,
    folder: Path,
    *,
    calling_aet: str,
    timeout_s: float = 30.0,
    progress: Progress | None = None,
) -> tuple[Sent, ...]:
    """Send every Part 10 file below a folder, whatever its name, and return the statuses.

    Files that are no DICOM (a viewer, a PDF) and DICOMDIR are passed over. See :func:`store`.

    Raises
    ------
    NotDicom
        When the folder holds no instance at all.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _is_instance(path)]
    if not files:
        raise NotDicom("the folder holds no DICOM file")
    return store(peer, files, calling_aet=calling_aet, timeout_s=timeout_s, progress=progress)


def _is_instance(path: Path) -> bool:
    with path.open("rb") as file:
        if file.read(132)[128:] != b"DICM":
            return False
    meta = read_file_meta_info(path)
    return str(meta.get("MediaStorageSOPClassUID", "")) != MEDIA_DIRECTORY


def _outgoing(path: Path) -> _Outgoing:
    try:
        meta = read_file_meta_info(path)
        return _Outgoing(path, meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    except (InvalidDicomError, EOFError, AttributeError):
        raise NotDicom("a file has no DICOM file meta information") from None


def _batches(outgoing: Sequence[_Outgoing]) -> Iterator[list[_Outgoing]]:
    """Yield the files in groups whose contexts fit into one association."""
    batch: list[_Outgoing] = []
    kinds: set[tuple[UID, UID]] = set()
    for item in outgoing:
        kind = (item.sop_class, item.syntax)
        if kind not in kinds and 2 * (len(kinds) + 1) > MAX_CONTEXTS:
            yield batch
            batch, kinds = [], set()
        batch.append(item)
        kinds.add(kind)
    if batch:
        yield batch


def _contexts(batch: Iterable[_Outgoing]) -> list[PresentationContext]:
    """Return, for each kind of file, its own syntax alone, and for each class the plain ones.

    Alone, because the peer picks one syntax of a context and could pick the wrong one.
    """
    kinds = sorted({(item.sop_class, item.syntax) for item in batch})
    classes = sorted({sop_class for sop_class, _ in kinds})
    return [
        *(build_context(sop_class, syntax) for sop_class, syntax in kinds),
        *(build_context(sop_class, list(FALLBACK)) for sop_class in classes),
    ]


def _store_one(peer: Peer, assoc: Association, item: _Outgoing) -> int:
    accepted = {
        context.transfer_syntax[0]
        for context in assoc.accepted_contexts
        if context.abstract_syntax == item.sop_class
    }
    if item.syntax not in accepted and accepted.isdisjoint(FALLBACK):
        return NO_CONTEXT
    content = item.path if item.syntax in accepted else _decoded(item)
    if not assoc.is_established:
        raise PeerUnreachable(f"peer {peer.name} ended the association")
    answer = assoc.send_c_store(content)
    if "Status" not in answer:
        raise PeerUnreachable(f"peer {peer.name} did not answer a C-STORE")
    return int(answer.Status)


def _decoded(item: _Outgoing) -> FileDataset:
    """Return the instance without compression, ready to be sent as Explicit or Implicit VR LE."""
    ds = dcmread(item.path)
    if item.syntax in FALLBACK or item.syntax.is_deflated:
        return ds
    if not item.syntax.is_encapsulated:  # big endian: retired, and words would have to be swapped
        raise UnsupportedTransferSyntax(f"the peer does not take {item.syntax.name}")
    try:
        ds.decompress(generate_instance_uid=False)
    except (RuntimeError, NotImplementedError, ValueError, AttributeError, TypeError) as error:
        # The peer takes no compressed images, and no decoder here reads this one.
        raise UnsupportedTransferSyntax(
            f"{item.syntax.name} cannot be decoded for this peer ({type(error).__name__})"
        ) from None
    return ds


def _raise_refusals(peer: Peer, sent: Sequence[Sent]) -> None:
    refused = Counter(item.status for item in sent if item.status not in STORED)
    if refused:
        counts = ", ".join(f"{count} with 0x{status:04X}" for status, count in refused.items())
        raise PeerRefused(
            f"peer {peer.name} refused {refused.total()} of {len(sent)} instances: {counts}"
        )


@contextmanager
def _association(
    peer: Peer,
    contexts: list[PresentationContext],
    *,
    calling_aet: str,
    timeout_s: float,
) -> Iterator[Association]:
    check_aet(calling_aet)
    ae = AE(ae_title=calling_aet)
    ae.connection_timeout = ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = timeout_s
    opened = False

    def on_open(event: evt.Event) -> None:
        nonlocal opened
        opened = True
        # Each C-STORE is a small command and its data: waiting for acknowledgements costs 40 ms.
        connection = event.assoc.dul.socket
        if connection is not None and connection.socket is not None:
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    assoc = ae.associate(
        peer.host,
        peer.port,
        contexts,
        ae_title=peer.aet,
        evt_handlers=[(evt.EVT_CONN_OPEN, on_open)],
        tls_args=None if peer.tls is None else (peer.tls.client_context(), peer.host),
    )
    if not assoc.is_established:
        _raise_not_established(peer, assoc, opened)
    assoc._reactor_checkpoint = Checkpoint(assoc)
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()


class Checkpoint(threading.Event):
    """Where an association's own thread waits while somebody else awaits an answer.

    pynetdicom 3.0 has the thread say that it is paused and only then wait. Where it is cut off in
    between, a request is sent while the thread goes on, takes the answer from the queue, and drops
    it: the peer has stored the object, and we wait for ever (once in some 1,800 C-STOREs on a full
    machine). Here :meth:`clear` returns when the thread does wait.

    Parameters
    ----------
    thread : Thread
        The association's.
    """

    def __init__(self, thread: threading.Thread) -> None:
        super().__init__()
        self._thread = thread
        self._changed = threading.Condition()
        self._may_pass = True
        self._is_waiting = False

    def is_set(self) -> bool:
        """Whether the thread may go on."""
        return self._may_pass

    def set(self) -> None:
        """Let the thread go on."""
        with self._changed:
            self._may_pass = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Hold the thread; return when it waits, or has ended."""
        with self._changed:
            self._may_pass = False
            if threading.current_thread() is self._thread:
                return
            while not self._is_waiting and self._thread.is_alive() and not self._may_pass:
                self._changed.wait(_LOOK_S)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the thread may go on; return whether it may."""
        with self._changed:
            self._is_waiting = True
            self._changed.notify_all()
            passed = self._changed.wait_for(lambda: self._may_pass, timeout)
            self._is_waiting = False
            return passed


def _raise_not_established(peer: Peer, assoc: Association, opened: bool) -> None:
    if not opened:
        raise PeerUnreachable(f"no connection to peer {peer.name}")
    answer = assoc.acceptor.primitive
    if assoc.is_rejected and answer is not None:
        why = REJECTIONS.get((answer.result_source, answer.diagnostic), "no reason that we know")
        raise PeerRefused(f"peer {peer.name} rejected the association: {why}")
    if assoc.rejected_contexts and not assoc.accepted_contexts:
        raise PeerRefused(f"peer {peer.name} takes none of these kinds of objects")
    raise PeerUnreachable(f"peer {peer.name} did not agree to an association")
