"""`radloop demo`: the whole way once, with nothing staged.

The node is started as `radloop up` starts it, a study goes in by C-STORE as from any PACS, and
the result is looked for and judged from outside: over the front, logged in as a radiologist.
"""

from __future__ import annotations

import io
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from email.parser import BytesParser
from pathlib import Path

import httpx
from pydicom import Dataset, dcmread
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

from dicom import dimse
from dicom.errors import InvalidReport, NotAnImage, PeerUnreachable, ProgramFailed
from dicom.folder import read_folder
from dicom.phantom import write_head_study
from dicom.sr import decode_report
from dicom.study import Series, Study
from node import wiring
from node.auth import Auth
from node.settings import Settings
from pipelines.store import Access, Database, Jobs, JobView, ResultView, Studies

_USER = "demo"
_SEG = "1.2.840.10008.5.1.4.1.1.66.4"
_START_S = 120.0
_JOB_S = 1800.0


def run(
    settings: Settings, config: Path | None, *, study: Path | None, once: bool, console: Console
) -> int:
    """Run the demonstration; return the exit code: 0 only if the SEG is in the archive.

    Raises
    ------
    RadloopError
        When the node does not start, or the folder holds no DICOM.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # however it is ended, the node ends with it
        signal.signal(number, signal.default_int_handler)
    with _node(settings, config, console) as node:
        password = _login(settings)
        with tempfile.TemporaryDirectory(prefix="radloop-demo-") as folder:
            sent = _send(settings, study or _sample(settings, Path(folder), console), console)
            job = _wait(settings, sent, console)
        _show_steps(job, console)
        if job.error_code is not None:
            console.print(f"[bold red]✗[/] {job.error_message} [dim]({job.error_code})[/]")
            return 1
        address = f"http://{settings.front.host}:{settings.front.port}"
        if not job.results:
            console.print("[bold red]✗[/] no route wanted any series of this study")
            console.print("  why: radloop routes explain STUDY_UID")
            return 1
        segmentations = {result.id for result in job.results if result.sop_class_uid == _SEG}
        for result in job.results:
            content = _fetch(address, password, sent, result)
            if result.id in segmentations:
                found = _check(content, sent)
                told = f"SEG stored, readable, and about the study that was sent: {found}"
            else:
                told = f"report stored, readable: {_check_report(content, segmentations)}"
            console.print(f"[green]✓[/] {told}", highlight=False)
        _show_way(address, sent, password, console)
        if not once:
            console.print("serving until Ctrl-C", style="dim")
            _serve(node)
    return 0


# --- the node -----------------------------------------------------------------------------------


@contextmanager
def _node(
    settings: Settings, config: Path | None, console: Console
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "node", "up", "--data", str(settings.data)]
    if config is not None:
        command += ["--config", str(config)]
    settings.data.mkdir(parents=True, exist_ok=True)
    log = settings.data / "logs" / "up.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        node = subprocess.Popen(  # noqa: S603 - ourselves
            command, stdout=subprocess.PIPE, stderr=errors, text=True, process_group=0
        )
        try:
            with console.status("starting the node"):
                _until_ready(node, log, console)
            yield node
        finally:
            node.send_signal(signal.SIGTERM)
            with console.status("stopping the node"):
                node.wait(timeout=90)


def _until_ready(node: subprocess.Popen[str], log: Path, console: Console) -> None:
    assert node.stdout is not None
    for line in node.stdout:
        console.print(line.rstrip(), highlight=False)
        if line.startswith("radloop ready"):
            return
    reason = log.read_text().strip().splitlines()[-2:]
    raise ProgramFailed("the node did not start: " + " ".join(reason))


def _serve(node: subprocess.Popen[str]) -> None:
    try:
        node.wait()
    except KeyboardInterrupt:
        return


def _login(settings: Settings) -> str:
    """Return a fresh password of the demonstration's own radiologist."""
    database = Database(wiring.database_url(settings))
    password = secrets.token_urlsafe(12)
    access = Access(database)
    auth, known = Auth(access), access.user(_USER)
    if known is None:
        auth.add_user(_USER, role="radiologist", password=password)
    else:
        auth.set_password(known, password)
    database.close()
    return password


# --- the study ----------------------------------------------------------------------------------


def _sample(settings: Settings, folder: Path, console: Console) -> Path:
    """Write a phantom's head MR: another visit each time, so that each demonstration is new."""
    database = Database(wiring.database_url(settings))
    visit = Studies(database).count() + 1
    database.close()
    with console.status("making a head MR of 160 slices (procedural phantom, fake identity)"):
        write_head_study(folder, visit=visit)
    return folder


def _send(settings: Settings, folder: Path, console: Console) -> tuple[Study, ...]:
    studies = read_folder(folder).studies
    with _bar(console) as bar:
        task = bar.add_task("C-STORE to " + settings.dicom.aet)
        sent = dimse.send_folder(
            wiring.ourselves(settings),
            folder,
            calling_aet=settings.dicom.aet,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    count = f"{len(sent)} instances, {len(studies)} " + (
        "study" if len(studies) == 1 else "studies"
    )
    console.print(f"[green]✓[/] sent by C-STORE: {count}", highlight=False)
    return studies


def _wait(settings: Settings, sent: tuple[Study, ...], console: Console) -> JobView:
    """Wait for the job of the first study that was sent, showing the step that is running."""
    database = Database(wiring.database_url(settings))
    jobs = Jobs(database)
    pseudonym = wiring.study_pseudonym(settings, sent[0].study_uid)
    deadline = time.monotonic() + _JOB_S
    try:
        with _bar(console) as bar:
            task = bar.add_task("receiving", total=None)
            while time.monotonic() < deadline:
                job = next(iter(jobs.jobs_of(pseudonym)), None)
                if job is not None and job.ended_at is not None:
                    return job
                if job is not None:
                    _show_step(bar, task, job)
                time.sleep(0.2)
    finally:
        database.close()
    raise PeerUnreachable("no result came in half an hour")


def _show_step(bar: Progress, task: TaskID, job: JobView) -> None:
    step = job.current_step
    if step is None:
        return
    share = next((each.progress for each in job.tasks if each.id == step.task_id), 0.0)
    known = step.name == "predict" and share > 0
    bar.update(
        task,
        description=step.name,
        completed=share if known else 0,
        total=1.0 if known else None,
    )


# --- the check ----------------------------------------------------------------------------------


def _fetch(address: str, password: str, sent: tuple[Study, ...], result: ResultView) -> bytes:
    """Fetch a result over the front's DICOMweb as a viewer would.

    Raises
    ------
    PeerUnreachable
        When the archive does not show it.
    """
    with httpx.Client(base_url=address, trust_env=False, timeout=60) as front:
        origin = {"Origin": address}
        front.post("/login", data={"name": _USER, "password": password}, headers=origin)
        path = f"/dicom-web/studies/{sent[0].study_uid}"
        modality = "SEG" if result.sop_class_uid == _SEG else "SR"
        query = {"Modality": modality}
        listed = front.get(f"{path}/series", params=query).raise_for_status().json()
        if result.series_uid not in [entry["0020000E"]["Value"][0] for entry in listed]:
            raise PeerUnreachable(f"the archive does not list the {modality}")
        answer = front.get(
            f"{path}/series/{result.series_uid}/instances/{result.id}",
            headers={"Accept": 'multipart/related; type="application/dicom"'},
        ).raise_for_status()
    return _first_part(answer)


def _check(content: bytes, sent: tuple[Study, ...]) -> str:
    """Judge a Segmentation, and say what is in it.

    Raises
    ------
    NotAnImage
        When it is none, or refers to something else than what was sent.
    """
    ds = dcmread(io.BytesIO(content))
    if ds.SOPClassUID != _SEG:
        raise NotAnImage("what the archive returned is no Segmentation")
    _refers_to(ds, [series for study in sent for series in study.series])
    segments = ", ".join(str(item.SegmentLabel) for item in ds.SegmentSequence)
    return f"{segments}; {int(ds.NumberOfFrames)} frames, {len(content) // 1024} KB"


def _check_report(content: bytes, segmentations: set[str]) -> str:
    """Judge a report, and say what was measured.

    Raises
    ------
    InvalidReport
        When it is none, or speaks of a segmentation that is not there.
    """
    told = []
    for group in decode_report(dcmread(io.BytesIO(content))):
        if group.segmentation_uid not in segmentations:
            raise InvalidReport("the report speaks of a segmentation that is not there")
        figures = [f"{figure.value:.4g} {figure.unit}" for figure in group.figures[:3]]
        told.append(f"{group.tracking_id} {', '.join(figures)}")
    return "; ".join(told)


def _first_part(answer: httpx.Response) -> bytes:
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser().parsebytes(head + answer.content)
    part = message.get_payload(0)
    assert isinstance(part, Message)
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


def _refers_to(ds: Dataset, series: list[Series]) -> None:
    known = {s.series_uid: {i.sop_instance_uid for i in s.instances} for s in series}
    for item in ds.ReferencedSeriesSequence:
        referred = {str(each.ReferencedSOPInstanceUID) for each in item.ReferencedInstanceSequence}
        if not referred <= known.get(str(item.SeriesInstanceUID), set()):
            raise NotAnImage("the Segmentation refers to images that were not sent")


# --- what a person sees -------------------------------------------------------------------------


def _show_steps(job: JobView, console: Console) -> None:
    table = Table("step", "seconds", box=None, title="seconds a step", title_justify="left")
    for step in job.steps:
        if step.seconds is not None:
            table.add_row(step.name, f"{step.seconds:.2f}")
    forward = sum(task.forward_s or 0.0 for task in job.tasks)
    table.add_section()
    table.add_row("of these, the model's forward passes", f"{forward:.2f}")
    if job.ended_at is not None:
        table.add_row("in all", f"{(job.ended_at - job.created_at).total_seconds():.2f}")
    console.print(table)


def _show_way(address: str, sent: tuple[Study, ...], password: str, console: Console) -> None:
    link = f"{address}/ohif/viewer?StudyInstanceUIDs={sent[0].study_uid}"
    console.print(f"\n[bold]OHIF[/]   {link}", highlight=False, soft_wrap=True)
    console.print(f"[bold]studies[/]  {address}/", highlight=False)
    console.print(f"[bold]login[/]    {_USER} / {password}\n", highlight=False)


def _bar(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
