"""A training on a Slurm cluster.

::

    pack -> look at every byte -> send -> submit -> look on, fetch curve and pictures
         -> fetch the checkpoints -> the child makes the bundle here

The cluster learns, and nothing else: it never sees the locked test set, and what comes back are
weights, figures and pictures. How far it has got is written down before each act that must not
happen twice; who starts anew over the same folder takes the running job up by its id.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

import structlog

from dicom.errors import (
    ClusterUnreachable,
    InvalidPlan,
    JobCanceled,
    JobNeverStarted,
    OutOfMemory,
    RadloopError,
    TrainerDied,
    TransferFailed,
    error_of,
)
from models.learning.orders import (
    CURVE,
    DONE,
    FAILED,
    LAST,
    Failure,
    PackOrder,
    TrainOrder,
    write_whole,
)
from models.learning.packing import RUN
from pipelines.launching.attending import Local, attend
from pipelines.launching.checking import check_cluster
from pipelines.launching.cluster import Cluster
from pipelines.launching.launcher import Attended, Ending, Place, Watch
from pipelines.launching.login import CommandFailed, Login
from pipelines.launching.noted import forget, read_noted, write_noted
from pipelines.launching.queue import NEVER, Standing, cancel, look, submit
from pipelines.launching.script import LOG, SCRIPT, batch_script
from pipelines.launching.shipment import Shipment
from pipelines.launching.transfer import fetch, send

log = structlog.get_logger()

T = TypeVar("T")
PACKED: Final = "packed"
_COMES_BACK: Final = re.compile(
    r"curve\.jsonl|best\.pt|last\.pt|looks/\d{4,6}-\d{1,3}\.png"
    r"|events\.out\.tfevents\.\d+\.radloop\.\d+"
)
_SHOWN: Final = re.compile(r"curve\.jsonl|looks/.*")
_TRIES: Final = 3  # jobs that end without getting further
_LOOK_S: Final = 0.5  # whether it shall end
_LONGEST_PAUSE_S: Final = 300.0
_LOG_BYTES: Final = 1 << 20
_LIST: Final = """
cd "$1" 2>/dev/null || exit 0
find . -type f ! -name '*.part' -printf '%s %T@ %P\\n'
"""
_WRITE: Final = 'set -eu; umask 077; mkdir -p "$1"; cat > "$1/$2.part"; mv "$1/$2.part" "$1/$2"'
_DELETE: Final = 'rm -rf -- "$1"'
_WORDS: Final = 'head -c 65536 "$1"'


class Slurm:
    """Trainings as jobs of a cluster.

    Parameters
    ----------
    cluster : Cluster
    logs : Path
        The folder that gets the output of jobs that failed, and of the child here.
    """

    def __init__(self, cluster: Cluster, *, logs: Path) -> None:
        self._cluster = cluster
        self._logs = logs

    def learn(self, folder: Path, order: TrainOrder, watch: Watch) -> Attended:
        """Learn at the cluster; see :class:`pipelines.launching.launcher.Launcher`.

        Raises
        ------
        UnfitForCluster
            When something else than de-identified arrays would leave.
        InvalidPlan
            When the processes there cannot share a batch out evenly.
        ClusterUnreachable, ClusterNotReady, ClusterRefused
        JobNeverStarted, JobCanceled, TransferFailed
            What goes wrong there; the last checkpoint that could be had is here.
        TrainerDied
            When jobs end again and again without getting further.
        RadloopError
            What the training refused there.
        """
        here = replace(watch, ending=lambda used_s: _of_any_hour(watch.ending(used_s)))
        ended = self.bring(folder, order, here)
        if ended.ending is not None:
            return ended
        used_s = ended.used_s
        made = Local(self._logs / "trainer.log").learn(folder, order, here)
        return replace(made, used_s=made.used_s + used_s)

    def bring(self, folder: Path, order: TrainOrder, watch: Watch) -> Attended:
        """Learn at the cluster, and bring the checkpoints into the folder; no bundle is made.

        Raises
        ------
        RadloopError
            As :meth:`learn`.
        """
        if (folder / DONE).exists():
            return Attended("", None, 0.0)
        ranks = self._cluster.nodes * self._cluster.ranks_a_node
        if order.plan.batch % ranks:  # said before it waits in a queue for hours
            raise InvalidPlan(
                f"batch: {order.plan.batch} samples cannot be shared out evenly by the {ranks} "
                "processes of [training.slurm]"
            )
        with _login(self._cluster) as login:
            return _Visit(self._cluster, login, folder, watch, self._logs).learnt(order)

    def check(self) -> None:
        """See that a training could be sent, as :mod:`pipelines.launching.checking` says.

        Raises
        ------
        ClusterUnreachable, ClusterNotReady, ClusterRefused
        """
        with _login(self._cluster) as login:
            check_cluster(self._cluster, login)


class _Visit:
    """One training at the cluster, from what lies in its folder to its checkpoints."""

    def __init__(
        self, cluster: Cluster, login: Login, folder: Path, watch: Watch, logs: Path
    ) -> None:
        self._cluster, self._login, self._folder = cluster, login, folder
        self._watch, self._logs = watch, logs
        self._state = read_noted(folder)
        self._fetched: dict[str, str] = {}
        self._used_s = 0.0

    @property
    def _there(self) -> str:
        """The training's folder at the cluster."""
        return f"{self._cluster.folder.rstrip('/')}/radloop-{self._state.key}"

    def learnt(self, order: TrainOrder) -> Attended:
        """Learn there until it is done; the checkpoints are here then, and nothing there."""
        if self._state.is_here:
            return Attended("", None, 0.0)
        try:
            ended = self._sent(order) or self._looked_on(order)
        except RadloopError:
            self._give_up()
            raise
        if ended.ending is not None:
            self._give_up()
        else:
            self._patiently(self._fetch_all)
            self._note(is_here=True)  # whoever is killed now does not learn it again
            with suppress(RadloopError):
                self._clean_up()
        return ended

    # --- there ----------------------------------------------------------------------------------

    def _sent(self, order: TrainOrder) -> Attended | None:
        """Pack, look, send; None where the job can be submitted, or was already."""
        if self._state.job:
            return None
        packed = self._folder / PACKED
        pack = PackOrder(train=as_there(order, self._cluster), into=packed.absolute())
        here = Place(self._cluster.place, "packing here")
        watch = replace(self._watch, looked=lambda stopped, _: self._watch.looked(stopped, here))
        attended = attend(
            self._folder / "packing", pack, watch, log_file=self._logs / "trainer.log"
        )
        if attended.ending is not None:
            return attended
        shipment = Shipment.open(packed)
        script = batch_script(
            self._cluster,
            name=self._name,
            folder=self._there,
            minutes=order.minutes,
        )
        write_whole(self._folder / SCRIPT, script)

        def sending() -> None:
            send(self._login, shipment, self._there, looked=self._told_share)
            self._write(self._folder / SCRIPT, self._there, SCRIPT)
            if (self._folder / LAST).is_file():  # of an earlier job, or learnt here so far
                self._write(self._folder / LAST, f"{self._there}/{RUN}", LAST)

        self._patiently(sending)
        return None

    @property
    def _name(self) -> str:
        return f"radloop-{self._state.key}-{self._state.number}"

    def _told_share(self, share: float) -> None:
        self._tell(f"sending {share:.0%}")

    def _write(self, source: Path, folder: str, name: str) -> None:
        with source.open("rb") as file:
            self._login.run(_WRITE, folder, name, stdin=file)

    # --- looking on -----------------------------------------------------------------------------

    def _looked_on(self, order: TrainOrder) -> Attended:
        """Look at the job until what it learnt is there; submit it, and again where it ended."""
        while True:
            if not self._state.job:
                job = self._patiently(
                    lambda: submit(
                        self._login, self._there, name=self._name, number=self._state.number
                    )
                )
                self._note(job=job)
                log.info("job_submitted", launcher="slurm", number=self._state.number)
            standing = self._patiently(self._looked)
            if standing.state == DONE:
                return Attended("", None, self._used_s)
            if standing.is_over:
                self._submit_again(standing)
                continue
            self._check_waiting(standing)
            ending = self._paused(self._cluster.poll_s, learns=standing.state == "RUNNING")
            if ending is not None:
                return Attended(None, ending, self._used_s)

    def _looked(self) -> Standing:
        """Return how the job stands, and bring back what is new; state `done.json`: it is done."""
        standing = look(self._login, self._state.job)
        there = self._listed()
        self._fetch(there, _SHOWN)
        if FAILED in there:
            raise self._failure()
        if DONE in there:
            return Standing(DONE)
        place = Place(self._cluster.place, standing.state.lower(), self._state.job, standing.reason)
        self._watch.looked(False, place)
        return standing

    def _failure(self) -> RadloopError:
        """Return the coded error that the training left there."""
        self._keep_log()
        said = Failure.model_validate_json(self._login.run(_WORDS, f"{self._there}/{RUN}/{FAILED}"))
        try:
            return error_of(said.code, said.message)
        except KeyError:
            return TrainerDied("the training failed at the cluster with a code not known here")

    def _submit_again(self, standing: Standing) -> None:
        """Go on with a job that ended before it had learnt all, where that makes sense."""
        self._keep_log()
        if standing.state == "CANCELLED":
            raise JobCanceled(f"job {self._state.job} was canceled at the cluster")
        if standing.state == "OUT_OF_MEMORY":
            raise OutOfMemory("a process of the job took more memory than Slurm gave it")
        mark = self._mark()
        stood = self._state.stood + 1 if mark == self._state.mark else 1
        if stood >= _TRIES:
            raise TrainerDied(
                f"{stood} jobs ended without getting any further, the last with {standing.state}; "
                "logs/cluster.log has what it printed"
            )
        log.warning("job_ended", state=standing.state, number=self._state.number)
        self._note(number=self._state.number + 1, job="", waits_since="", mark=mark, stood=stood)
        self._patiently(
            lambda: self._write_text(
                batch_script(self._cluster, name=self._name, folder=self._there, minutes=None)
            )
        )

    def _write_text(self, script: str) -> None:
        write_whole(self._folder / SCRIPT, script)
        self._write(self._folder / SCRIPT, self._there, SCRIPT)

    def _mark(self) -> str:
        """Return what is different whenever the training has got further."""
        there = self._patiently(self._listed)
        return there.get(LAST, "")

    def _check_waiting(self, standing: Standing) -> None:
        """Refuse to wait for what will not begin.

        Raises
        ------
        JobNeverStarted
        """
        now = datetime.now(UTC)
        if not standing.waits:
            if self._state.waits_since:
                self._note(waits_since="")
            return
        if not self._state.waits_since:
            self._note(waits_since=now.isoformat())
        waited = now - datetime.fromisoformat(self._state.waits_since)
        reason = standing.reason or "Slurm gives no reason"
        if standing.reason in NEVER:
            raise JobNeverStarted(f"job {self._state.job} will not start: {reason}")
        if waited.total_seconds() > self._cluster.start_hours * 3600:
            raise JobNeverStarted(
                f"job {self._state.job} waited for {self._cluster.start_hours:g} hours: {reason}"
            )

    def _paused(self, seconds: float, *, learns: bool) -> Ending | None:
        """Wait, and hear meanwhile whether it shall end."""
        began = last = time.monotonic()
        while last - began < seconds:
            ending = self._watch.ending(self._used_s)
            if ending is not None:
                return ending
            time.sleep(min(_LOOK_S, seconds))
            now = time.monotonic()
            self._used_s += now - last if learns else 0.0
            last = now
        return None

    def _patiently(self, act: Callable[[], T]) -> T:
        """Do something with the cluster; while that does not answer, try again, ever more seldom.

        Its jobs go on meanwhile.
        """
        began, pause = time.monotonic(), self._cluster.poll_s
        while True:
            try:
                return act()
            except (ClusterUnreachable, TransferFailed) as error:
                if time.monotonic() - began > self._cluster.unreachable_hours * 3600:
                    raise
                log.warning("cluster_silent", code=error.code)
                self._tell("not answering", reason=error.message)
                ending = self._paused(pause, learns=False)
                if ending is not None:
                    raise
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _tell(self, doing: str, reason: str = "") -> None:
        self._watch.looked(False, Place(self._cluster.place, doing, self._state.job, reason))

    # --- back -----------------------------------------------------------------------------------

    def _listed(self) -> dict[str, str]:
        """Return size and time of each file of the run there, by name."""
        lines = self._login.run(_LIST, f"{self._there}/{RUN}").splitlines()
        parted = (line.rsplit(" ", 1) for line in lines)
        return {name: stamp for stamp, name in parted}

    def _fetch(self, there: dict[str, str], which: re.Pattern[str]) -> None:
        """Bring back what is new of those files that may come back."""
        for name, stamp in there.items():
            if self._fetched.get(name) == stamp or not which.fullmatch(name):
                continue
            if not _COMES_BACK.fullmatch(name):
                continue
            here = self._folder / name
            here.parent.mkdir(exist_ok=True)
            try:
                fetch(self._login, f"{self._there}/{RUN}/{name}", here)
            except TransferFailed:
                if name != CURVE:
                    raise
                continue  # it grows: it comes with the next look
            self._fetched[name] = stamp

    def _fetch_all(self) -> None:
        self._fetch(self._listed(), _COMES_BACK)

    def _keep_log(self) -> None:
        """Bring the end of the job's output back; it helps, and is not needed."""
        with suppress(RadloopError, CommandFailed):
            said = self._login.run('tail -c "$2" "$1"', f"{self._there}/{LOG}", str(_LOG_BYTES))
            self._logs.mkdir(parents=True, exist_ok=True)
            (self._logs / "cluster.log").write_text(said, encoding="utf-8")

    def _give_up(self) -> None:
        """End the job, save the last checkpoint, and leave nothing there; as far as that goes."""
        try:
            if self._state.job:
                cancel(self._login, self._state.job)
            self._fetch_all()
        except (RadloopError, CommandFailed) as error:
            log.warning("checkpoint_not_fetched", error=type(error).__name__)
            return
        with suppress(RadloopError):
            self._clean_up()
        forget(self._folder)  # the next time it is sent anew

    def _clean_up(self) -> None:
        """Delete the training's folder there, and what was packed here."""
        for name in (PACKED, "packing"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        self._login.run(_DELETE, self._there)

    def _note(self, **changes: str | int | bool) -> None:
        self._state = replace(self._state, **changes)  # type: ignore[arg-type]  # fields of Noted
        write_noted(self._folder, self._state)


def as_there(order: TrainOrder, cluster: Cluster) -> TrainOrder:
    """Return an order as the cluster carries it out: on its devices, with its cores.

    GPUs that were asked for and are not there are an error, and not a training that takes weeks.
    """
    device = "cuda" if cluster.gpus else "cpu"
    return order.model_copy(update={"device": device, "threads": None, "processes": 1})


def _of_any_hour(ending: Ending | None) -> Ending | None:
    """Leave quiet hours out: they are those of this machine."""
    return None if ending == "outside_hours" else ending


def _login(cluster: Cluster) -> Login:
    return Login(cluster.host, cluster.port, cluster.key, cluster.known_hosts)
