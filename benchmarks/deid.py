"""De-identification, file to file: 300 CT slices and the corpus, beside its peers.

The slices have headers of 296 elements and 20 kB, as a scanner writes them. What is counted is CPU
time (user and system) of the process that does the work, so that what the machine does besides
counts for nobody; of an Orthanc, that of the server alone, without the way there and back. All run
on the same files, from the page cache; the fastest of several rounds of ours counts, and the one
round of each peer; on the corpus, the fastest of as many rounds of each, every round in a new
process that has done one file before. "With the second look" reads the original, de-identifies it,
and searches the result for anything of all the originals. On the corpus, ours and a peer are
compared on the files that both wrote. Peers live in an environment of their own (`.bench/peers`,
made when absent).
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Final

import httpx
import psutil
from pydicom import config, dcmread
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from benchmarks.quality.peers import peers_python
from benchmarks.table import Row, machine, publish
from benchmarks.volume import ELEMENTS, HEADER_BYTES, SIZE, SLICES, write_series
from dicom.deid import Deidentifier, Engine
from dicom.fast import EngineChoice, engine_for
from dicom.profile import node_profile
from dicom.verify import Originals, SecondLook
from tests.orthanc.servers import research_config, running

ROUNDS: Final = 4
PYTHON_PEERS: Final = ("dicognito", "dicom-anonymizer", "deid")
KEY: Final = bytes(range(32))
CORPUS: Final = Path(__file__).parents[2] / "shared/data/dicom-corpus"
BEST_PYTHON, ORTHANC, PLAIN = 15.0, 5.0, 3.0
LOOKED_PYTHON, LOOKED_ORTHANC = 8.0, 3.0
TWO_PROCESSES, GROWTH_MB = 1.7, 5.0
FEW, MANY = 100, 1000

_TIMED: Final = Path(__file__).parent / "quality" / "timed.py"

Seconds = dict[Path, float]


def main() -> None:
    """Measure all of it."""
    about = machine()
    config.settings.reading_validation_mode = config.IGNORE
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        folder = Path(name)
        write_series(folder / "ct", ExplicitVRLittleEndian)
        slices = sorted((folder / "ct").iterdir())
        rows = [*_slices(slices, folder), *_corpus(folder)]
        rows.append(_two_processes(slices, folder))
        rows += _memory(slices[0], folder)
    publish("deid", rows, about)


# --- the slices -----------------------------------------------------------------------------------


def _slices(slices: list[Path], folder: Path) -> list[Row]:
    header = f"{ELEMENTS} elements in {HEADER_BYTES // 1000} kB of header"
    what = f"{SLICES} CT slices {SIZE}x{SIZE}, {header}"
    ways: dict[str, Callable[[], float]] = {
        "ours": lambda: _ours(slices, folder, EngineChoice.AUTO),
        "looked": lambda: _looked(slices, folder),
        "careful": lambda: _ours(slices, folder, EngineChoice.CAREFUL),
        "plain": lambda: _plain(slices, folder),
        "pydicom": lambda: _pydicom(slices, folder),
    }
    best = {name: min(run() for _ in range(ROUNDS)) for name, run in ways.items()}
    python = {name: sum(_peer(name, slices, folder).values()) for name in PYTHON_PEERS}
    orthanc = _orthanc(slices, folder)
    rows = []
    for peer, seconds in python.items():
        target = BEST_PYTHON if seconds == min(python.values()) else None
        rows.append(_row(what, best["ours"], peer, seconds, target))
    rows.append(_row(what, best["ours"], "Orthanc, study anonymise", orthanc, ORTHANC))
    rows.append(_row(what, best["ours"], "plain read and write", best["plain"], 1 / PLAIN))
    rows.append(_row(what, best["ours"], "pydicom read and write", best["pydicom"]))
    rows.append(_row(what, best["ours"], "our careful engine", best["careful"]))
    looked = f"{SLICES} CT slices, with the second look on each"
    rows.append(
        _row(looked, best["looked"], "the best of them", min(python.values()), LOOKED_PYTHON)
    )
    rows.append(_row(looked, best["looked"], "Orthanc, study anonymise", orthanc, LOOKED_ORTHANC))
    return rows


def _row(what: str, ours: float, peer: str, theirs: float, target: float | None = None) -> Row:
    """Return instances a second of CPU time, from the seconds of all slices."""
    ratio = theirs / ours
    return Row(
        what,
        "/s",
        round(SLICES / ours, 1),
        peer,
        round(SLICES / theirs, 1),
        round(ratio, 3),
        "" if target is None else f">= {target:.2g}",
        None if target is None else ratio >= target,
    )


def _emptied(folder: Path) -> Path:
    target = folder / "out"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    return target


def _ours(slices: list[Path], folder: Path, choice: EngineChoice) -> float:
    """Return the seconds of a series that the engine has not seen before."""
    target, engine = _emptied(folder), _engine(choice)
    began = time.process_time()
    for path in slices:
        engine.deidentify_file(path, target)
    return time.process_time() - began


def _engine(choice: EngineChoice = EngineChoice.AUTO) -> Engine:
    return engine_for(choice, Deidentifier(node_profile(), KEY))


def _looked(slices: list[Path], folder: Path) -> float:
    target, engine, originals = _emptied(folder), _engine(), Originals(node_profile())
    began = time.process_time()
    befores = [originals.read(path) for path in slices]
    cleans = [engine.deidentify_file(path, target)[0].path for path in slices]
    look = SecondLook(node_profile(), originals.tokens)
    for clean, before in zip(cleans, befores, strict=True):
        look.check(clean, before)
    return time.process_time() - began


def _plain(slices: list[Path], folder: Path) -> float:
    target = _emptied(folder)
    began = time.process_time()
    for path in slices:
        (target / path.name).write_bytes(path.read_bytes())
    return time.process_time() - began


def _pydicom(slices: list[Path], folder: Path) -> float:
    target = _emptied(folder)
    began = time.process_time()
    for path in slices:
        dcmread(path).save_as(target / path.name)
    return time.process_time() - began


def _peer(name: str, sources: Sequence[Path], folder: Path) -> Seconds:
    """Return what each file that a peer wrote took it."""
    target = _emptied(folder)
    pairs = [[str(path), str(target / f"{n}.dcm")] for n, path in enumerate(sources)]
    listed = folder / "pairs.json"
    listed.write_text(json.dumps(pairs))
    done = subprocess.run(  # in a folder of its own: deid looks for its recipe where it is started
        [str(peers_python()), str(_TIMED), name, str(listed)],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
    )
    return {Path(source): seconds for source, seconds in json.loads(done.stdout).items()}


def _orthanc(slices: list[Path], folder: Path) -> float:
    """Return the CPU seconds of a server that anonymises a study that it has stored."""
    config = research_config(folder / "orthanc")
    with (
        running(config) as (orthanc,),
        httpx.Client(
            base_url=orthanc.config.url,
            auth=(orthanc.config.user, orthanc.config.password),
            timeout=600,
            trust_env=False,
        ) as client,
    ):
        for path in slices:
            stored = client.post("/instances", content=path.read_bytes()).raise_for_status().json()
        server = _listener(config.http_port)
        before = server.cpu_times()
        request = {"KeepSource": True, "Synchronous": True}
        client.post(f"/studies/{stored['ParentStudy']}/anonymize", json=request).raise_for_status()
        after = server.cpu_times()
    return (after.user + after.system) - (before.user + before.system)


def _listener(port: int) -> psutil.Process:
    """Return the child of ours that listens on a port."""
    for child in psutil.Process().children(recursive=True):
        for connection in child.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                return child
    raise SystemExit("the Orthanc is not there")


# --- the corpus -----------------------------------------------------------------------------------


def _corpus(folder: Path) -> list[Row]:
    if not CORPUS.is_dir():
        return [Row(f"the corpus: not measured, {CORPUS.name} is absent", "/s", None)]
    paths = sorted(path for path in CORPUS.rglob("*") if path.is_file())
    best = _fastest([_own(paths, folder) for _ in range(ROUNDS)])
    theirs = {
        name: _fastest([_peer(name, paths, folder) for _ in range(ROUNDS)]) for name in PYTHON_PEERS
    }
    ratios: dict[str, Row] = {}
    for name, took in theirs.items():
        both = [path for path in best if path in took]
        ours, peer = sum(best[path] for path in both), sum(took[path] for path in both)
        ratios[name] = Row(
            f"the corpus, {len(both)} files that both wrote",
            "/s",
            round(len(both) / ours, 1),
            name,
            round(len(both) / peer, 1),
            round(peer / ours, 2),
        )
    fastest = min(ratios, key=lambda name: ratios[name].ratio or 0.0)
    row = ratios[fastest]
    met = (row.ratio or 0.0) >= BEST_PYTHON
    ratios[fastest] = Row(
        row.what,
        row.unit,
        row.ours,
        row.peer,
        row.peer_value,
        row.ratio,
        f">= {BEST_PYTHON:.2g}",
        met,
    )
    return list(ratios.values())


def _fastest(rounds: list[Seconds]) -> Seconds:
    return {path: min(each[path] for each in rounds if path in each) for path in rounds[0]}


def _own(paths: list[Path], folder: Path) -> Seconds:
    """Return what each file takes that an engine passes, in order of names, in a new process."""
    target, listed = _emptied(folder), folder / "paths.json"
    listed.write_text(json.dumps([str(path) for path in paths]))
    done = subprocess.run(
        [sys.executable, "-c", _ROUND, str(listed), str(target)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    return {Path(source): seconds for source, seconds in json.loads(done.stdout).items()}


_ROUND: Final = """
import json, sys, time
from pathlib import Path
from dicom.deid import Deidentifier
from dicom.errors import InputError
from dicom.fast import EngineChoice, engine_for
from dicom.profile import node_profile
paths, target = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
took = {}
for batch in (paths[:1], paths):
    engine = engine_for(EngineChoice.AUTO, Deidentifier(node_profile(), bytes(range(32))))
    for path in batch:
        began = time.process_time()
        try:
            engine.deidentify_file(Path(path), target)
        except InputError:
            continue
        took[path] = time.process_time() - began
print(json.dumps(took))
"""


# --- two processes, much memory -------------------------------------------------------------------


def _two_processes(slices: list[Path], folder: Path) -> Row:
    """Compare one process with two that share the slices; on the clock: cores are the point."""
    rates = dict.fromkeys((1, 2), 0.0)
    for _ in range(ROUNDS):
        for count in rates:
            rates[count] = max(rates[count], _rate(slices, folder, count))
    ratio = rates[2] / rates[1]
    load = os.getloadavg()[0]
    return Row(
        f"two processes, {SLICES} CT slices, on the clock (load meanwhile {load:.1f})",
        "/s",
        round(rates[2], 1),
        "one process",
        round(rates[1], 1),
        round(ratio, 2),
        f">= {TWO_PROCESSES} on two quiet cores",
        ratio >= TWO_PROCESSES,
    )


_BARRIER: Barrier | None = None


def _hand_over(barrier: Barrier) -> None:
    global _BARRIER  # what a pool's processes are given, they keep in the module
    _BARRIER = barrier


def _rate(slices: list[Path], folder: Path, count: int) -> float:
    target = _emptied(folder)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(count)
    with ProcessPoolExecutor(
        count, mp_context=context, initializer=_hand_over, initargs=(barrier,)
    ) as pool:
        parts = [pool.submit(_part, slices[n::count], target / str(n)) for n in range(count)]
        spans = [part.result() for part in parts]
    seconds = max(end for _, end in spans) - min(begin for begin, _ in spans)
    return len(slices) / seconds


def _part(paths: list[Path], target: Path) -> tuple[float, float]:
    engine = _engine()
    engine.deidentify_file(paths[0], target)  # tables are read, once a process
    assert _BARRIER is not None
    _BARRIER.wait(60)
    began = time.monotonic()
    for path in paths:
        engine.deidentify_file(path, target)
    return began, time.monotonic()


def _memory(example: Path, folder: Path) -> list[Row]:
    """Compare the peak memory of a process that does a few files with one that does many."""
    source = folder / "many"
    source.mkdir()
    ds = dcmread(example)
    ds.Rows = ds.Columns = 32
    ds.PixelData = bytes(2 * 32 * 32)
    for number in range(MANY):
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.InstanceNumber = number
        ds.save_as(source / f"{number:04}.dcm")
    shutil.copytree(source, folder / "few", ignore=lambda _, names: sorted(names)[FEW:])
    few, many = (_peak_mb(folder / name, _emptied(folder)) for name in ("few", "many"))
    return [
        Row(
            f"peak memory, {MANY} files beside {FEW}",
            "MB",
            round(many, 1),
            f"{FEW} files",
            round(few, 1),
            round(many / few, 3),
            f"<= {GROWTH_MB:.0f} MB more",
            many - few <= GROWTH_MB,
        )
    ]


def _peak_mb(source: Path, target: Path) -> float:
    """Return the peak of resident memory of a process that has loaded nothing else, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, str(source), str(target)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    return float(done.stdout)


_PEAK: Final = """
import re, sys
from pathlib import Path
from dicom.deid import Deidentifier
from dicom.fast import EngineChoice, engine_for
from dicom.profile import node_profile
engine = engine_for(EngineChoice.AUTO, Deidentifier(node_profile(), bytes(range(32))))
for _ in engine.deidentify_folder(Path(sys.argv[1]), Path(sys.argv[2])):
    pass
status = Path("/proc/self/status").read_text()  # getrusage counts what forked this process, too
print(int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) / 1024)
"""


if __name__ == "__main__":
    main()
