"""C-ECHO and C-STORE against dcmtk's storescp."""

import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import MRImageStorage

from dicom.dimse import Checkpoint, DicomTls, Peer, echo, send_folder, store
from dicom.errors import (
    InvalidSettings,
    NotDicom,
    PeerRefused,
    PeerUnreachable,
    UnsupportedTransferSyntax,
)
from tests.certificates import certificate

US = "RADLOOP"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def storescp(tmp_path: Path) -> Iterator[Callable[..., Peer]]:
    """Start a storescp with options; what it takes lies in `tmp_path/received`."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*options: str, tls: DicomTls | None = None) -> Peer:
        folder = tmp_path / "received"
        folder.mkdir(exist_ok=True)
        port = free_port()
        command = ["storescp", "-q", "+B", "-od", str(folder), "-aet", "PACS", *options, str(port)]
        processes.append(subprocess.Popen(command))
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert processes[-1].poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
        return Peer("pacs", "127.0.0.1", port, "PACS", tls)

    yield start
    for process in processes:
        process.kill()
        process.wait(10)


def sample(folder: Path, name: str) -> Path:
    """Copy one of pydicom's small images under a UID of its own."""
    folder.mkdir(exist_ok=True)
    ds = dcmread(get_testdata_file(name, download=False))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    path = folder / name
    ds.save_as(path)
    return path


def received(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "received").iterdir())


def test_echo(storescp: Callable[..., Peer]):
    echo(storescp(), calling_aet=US)


def test_each_file_goes_in_its_own_syntax_unchanged(storescp: Callable[..., Peer], tmp_path: Path):
    names = ("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_RLE.dcm", "CT_small.dcm")
    files = [sample(tmp_path / "out", name) for name in names]
    steps: list[tuple[int, int]] = []
    sent = store(
        storescp("+xa"),
        files,
        calling_aet=US,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert [item.path for item in sent] == files
    assert {item.status for item in sent} == {0}
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # storescp writes what came, bit for bit (+B), behind file meta information of its own.
    arrived = {content(path) for path in received(tmp_path)}
    assert arrived == {content(path) for path in files}


def content(path: Path) -> tuple[str, bytes]:
    """Return a file's transfer syntax and all bytes behind its meta information."""
    meta = read_file_meta_info(path)
    # PS3.10 7.1: preamble, prefix, group length element, then as many bytes as that says.
    return str(meta.TransferSyntaxUID), path.read_bytes()[132 + 12 + meta[0x00020000].value :]


@pytest.mark.parametrize(
    ("name", "syntax"),
    [
        ("MR_small_RLE.dcm", RLELossless),
        ("MR_small_jp2klossless.dcm", JPEG2000Lossless),
        ("MR_small_jpeg_ls_lossless.dcm", JPEGLSLossless),
        ("MR_small.dcm", ExplicitVRLittleEndian),
    ],
)
def test_a_peer_that_takes_plain_syntax_only_gets_the_same_pixels(
    storescp: Callable[..., Peer], tmp_path: Path, name: str, syntax: str
):
    path = sample(tmp_path / "out", name)
    original = dcmread(path)
    assert original.file_meta.TransferSyntaxUID == syntax
    store(storescp("+xi"), [path], calling_aet=US)
    (file,) = received(tmp_path)
    arrived = dcmread(file)
    assert arrived.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert arrived.SOPInstanceUID == original.SOPInstanceUID
    assert (arrived.pixel_array == original.pixel_array).all()


def test_what_cannot_be_decoded_for_the_peer_is_said(storescp: Callable[..., Peer], tmp_path: Path):
    path = sample(tmp_path / "out", "MR_small_RLE.dcm")
    broken = dcmread(path)
    broken.PixelData = b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\x00\xe0\x04\0\0\0\1\2\3\4"
    broken.save_as(path)
    with pytest.raises(UnsupportedTransferSyntax):
        store(storescp("+xi"), [path], calling_aet=US)
    with pytest.raises(UnsupportedTransferSyntax, match="Big Endian"):
        store(storescp("+xi"), [sample(tmp_path / "big", "MR_small_bigendian.dcm")], calling_aet=US)


def test_a_folder_is_searched_for_instances(storescp: Callable[..., Peer], tmp_path: Path):
    folder = tmp_path / "cd"
    sample(folder, "MR_small.dcm").rename(folder / "IM1")
    sample(folder / "deep", "CT_small.dcm")
    (folder / "readme.txt").write_text("a viewer")
    (folder / "DICOMDIR").write_bytes(Path(get_testdata_file("DICOMDIR")).read_bytes())
    sent = send_folder(storescp("+xa"), folder, calling_aet=US)
    assert [item.path.name for item in sent] == ["IM1", "CT_small.dcm"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(NotDicom):
        send_folder(storescp(), empty, calling_aet=US)


def test_what_is_no_dicom_file_stops_before_anything_is_sent(
    storescp: Callable[..., Peer], tmp_path: Path
):
    (tmp_path / "text").write_text("no DICOM")
    with pytest.raises(NotDicom):
        store(
            storescp(),
            [sample(tmp_path / "out", "MR_small.dcm"), tmp_path / "text"],
            calling_aet=US,
        )
    assert received(tmp_path) == []


def test_silence_is_no_answer(storescp: Callable[..., Peer], tmp_path: Path):
    path = sample(tmp_path / "out", "MR_small.dcm")
    with pytest.raises(PeerUnreachable) as aborted:
        store(storescp("--abort-after"), [path], calling_aet=US, timeout_s=5)
    with pytest.raises(PeerUnreachable) as silent:
        store(storescp("--sleep-during", "60"), [path], calling_aet=US, timeout_s=0.5)
    with pytest.raises(PeerUnreachable) as absent:
        store(Peer("pacs", "127.0.0.1", free_port(), "PACS"), [path], calling_aet=US)
    for caught in (aborted, silent, absent):
        assert dcmread(path).SOPInstanceUID not in str(caught.value)
        assert "pacs" in str(caught.value)


@contextmanager
def mr_only(statuses: Iterator[int]) -> Iterator[Peer]:
    """Listen as a peer that takes MR images only, from us only, and answers with these statuses."""
    ae = AE("PACS")
    ae.require_called_aet = True
    ae.require_calling_aet = [US]
    ae.add_supported_context(MRImageStorage)
    port = free_port()
    handlers = [(evt.EVT_C_STORE, lambda event: next(statuses))]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield Peer("pacs", "127.0.0.1", port, "PACS")
    finally:
        server.shutdown()


def test_one_refused_file_does_not_stop_the_rest(tmp_path: Path):
    files = [sample(tmp_path / f"out{n}", "MR_small.dcm") for n in range(4)]
    files.append(sample(tmp_path / "out", "CT_small.dcm"))
    statuses = iter([0x0000, 0xA700, 0xB000, 0xA700])
    with (
        mr_only(statuses) as peer,
        pytest.raises(PeerRefused, match=r"3 of 5 instances: 2 with 0xA700, 1 with 0x0122"),
    ):
        store(peer, files, calling_aet=US)
    assert next(statuses, None) is None


def test_a_rejection_says_why(tmp_path: Path):
    ct = sample(tmp_path / "out", "CT_small.dcm")
    with mr_only(iter([])) as peer:
        with pytest.raises(PeerRefused, match="does not know our AE title"):
            store(peer, [ct], calling_aet="STRANGER")
        with pytest.raises(PeerRefused, match="has not the AE title that we called"):
            store(Peer("pacs", peer.host, peer.port, "OTHER"), [ct], calling_aet=US)
        with pytest.raises(PeerRefused, match="none of these kinds"):
            store(peer, [ct], calling_aet=US)


def test_more_kinds_of_files_than_one_association_can_offer(
    storescp: Callable[..., Peer], tmp_path: Path
):
    path = sample(tmp_path / "out", "MR_small.dcm")
    files = []
    for n in range(70):
        ds = dcmread(path)
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = f"1.2.826.0.1.3680043.8.498.1.{n}"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        files.append(tmp_path / "out" / f"{n}.dcm")
        ds.save_as(files[-1])
    assert len(store(storescp("-pm"), files, calling_aet=US)) == 70


def test_tls_both_ways(storescp: Callable[..., Peer], tmp_path: Path):
    ours, theirs = (certificate(tmp_path, name) for name in ("ours", "theirs"))
    peer = storescp(
        "+tls", str(theirs[1]), str(theirs[0]), "+cf", str(ours[0]),
        tls=DicomTls(ours[0], ours[1], theirs[0]),
    )  # fmt: skip
    echo(peer, calling_aet=US)
    plain = Peer("pacs", peer.host, peer.port, peer.aet)
    with pytest.raises(PeerUnreachable):
        echo(plain, calling_aet=US, timeout_s=2)
    distrusted = Peer(
        "pacs", peer.host, peer.port, peer.aet, DicomTls(theirs[0], theirs[1], ours[0])
    )
    with pytest.raises(PeerUnreachable):
        echo(distrusted, calling_aet=US, timeout_s=2)
    with pytest.raises(InvalidSettings):
        DicomTls(ours[0], tmp_path / "none", theirs[0]).client_context()


def test_the_associations_own_thread_takes_nobodys_answer() -> None:
    """While a checkpoint is cleared its thread is at it, and nowhere else: it was lost else."""
    taking, over = threading.Event(), threading.Event()

    def run() -> None:
        while not over.is_set():
            checkpoint.wait()
            taking.set()
            time.sleep(0.0005)
            taking.clear()

    thread = threading.Thread(target=run)
    checkpoint = Checkpoint(thread)
    thread.start()
    for _ in range(200):
        checkpoint.clear()
        assert not taking.is_set() and not checkpoint.is_set()
        time.sleep(0.0002)
        assert not taking.is_set()
        checkpoint.set()
        time.sleep(0.0001)
    over.set()
    thread.join(10)
    checkpoint.clear()  # of a thread that has ended: nobody is waited for
    assert not thread.is_alive() and not checkpoint.wait(0)
