"""The worker: reads what is new in the archive, hands it to the engine, and is seen to be alive.

One loop does all of it; between two rounds it sleeps until the plugin rings, or until it is time
to look anyway. On SQLite there is exactly one worker; on PostgreSQL the work of one that died is
taken over by the others.
"""

from __future__ import annotations

import hmac
import os
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog

from dicom.errors import PeerError, PortTaken, ResourceError
from pipelines.corrections.aftercare import Aftercare
from pipelines.custody.runs import WithdrawalRuns
from pipelines.engine import Engine
from pipelines.groundwork import Groundwork
from pipelines.inference import Inference
from pipelines.intake import Intake
from pipelines.learning import Lessons, Lookout, Schedule
from pipelines.sharing.collecting import CollectionRuns
from pipelines.sharing.exporting import ExportRuns
from pipelines.store import Access, SeriesView, Studies

log = structlog.get_logger()

_BEAT_S = 5.0
_SWEEP_S = 600.0
_CARE_S = 1.0
_DEAD_AFTER = timedelta(seconds=30)
_RECEIVING_POLL_S = 0.1
_HURRY_S = 5.0  # as long as a sender pauses, and so long afterwards: its job is about to come
_PAUSE = timedelta(seconds=0.3)
STALLED = 75
"""Exit code of a worker that stood still so long that others may have its work."""


class Worker:
    """The loop of one worker process.

    Parameters
    ----------
    poll_s : float
        Longest time between two looks at the archive.
    shared : bool
        Whether other workers use the same database.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        intake: Intake,
        inference: Inference,
        groundwork: Groundwork,
        aftercare: Aftercare,
        collecting: CollectionRuns,
        exporting: ExportRuns,
        withdrawing: WithdrawalRuns,
        lessons: Lessons,
        schedule: Schedule,
        lookout: Lookout,
        studies: Studies,
        access: Access,
        executor_id: str,
        poll_s: float,
        shared: bool,
    ) -> None:
        self._engine = engine
        self._intake = intake
        self._inference = inference
        self._groundwork = groundwork
        self._aftercare = aftercare
        self._collecting = collecting
        self._exporting = exporting
        self._withdrawing = withdrawing
        self._lessons = lessons
        self._schedule = schedule
        self._lookout = lookout
        self._studies = studies
        self._access = access
        self._executor_id = executor_id
        self._poll_s = poll_s
        self._shared = shared
        self.ready = threading.Event()
        self._sweep_at = self._care_at = self._hurried_until = float("-inf")
        self._rung = threading.Event()
        self._ended = threading.Event()

    def ring(self) -> None:
        """Look at the archive now; called from any thread."""
        self._rung.set()

    def end(self) -> None:
        """End the loop after its round; called from any thread or signal."""
        self._ended.set()
        self._rung.set()

    def run(self) -> None:
        """Work until `end` is called."""
        self._inference.attach(self._engine)
        self._aftercare.attach(self._engine)
        self._lessons.attach(self._engine)
        self._schedule.attach(self._engine)
        self._engine.start()
        threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True).start()
        self.ready.set()
        log.info("worker_ready", worker=self._executor_id)
        try:
            while not self._ended.is_set():
                self._sweep_now_and_then()
                receiving = self._look()
                self._groundwork.look(receiving)
                self._hurry(receiving)
                self._look_ahead()
                self._inference.cancel_requested()
                self._inference.hand_over()
                self._care()
                self._rung.wait(_RECEIVING_POLL_S if receiving else self._poll_s)
                if receiving and self._rung.is_set():
                    self._ended.wait(_RECEIVING_POLL_S)  # rings come in bursts: read them together
                self._rung.clear()
        finally:
            self._engine.stop()
            self._groundwork.stop()
            self._access.forget_worker(self._executor_id)

    def _sweep_now_and_then(self) -> None:
        if time.monotonic() >= self._sweep_at:
            self._sweep_at = time.monotonic() + _SWEEP_S
            self._inference.sweep()
            self._groundwork.sweep()
            self._lookout.look()
            self._lookout.tell()

    def _hurry(self, receiving: Sequence[SeriesView]) -> None:
        """Let the engine look out for the job that the quiet time is about to make."""
        horizon = datetime.now(UTC) - _PAUSE
        if any(not one.ours and one.changed_at <= horizon for one in receiving):
            self._hurried_until = time.monotonic() + _HURRY_S
        self._engine.hurry(time.monotonic() < self._hurried_until)

    def _look(self) -> list[SeriesView]:
        """Read the archive's feed; return the series that are still being received."""
        try:
            self._intake.look()
        except PeerError as error:  # the archive restarts, say: the feed is read on later
            log.warning("archive_away", code=error.code)
        return self._studies.receiving()

    def _look_ahead(self) -> None:
        """Ask for what a series that pauses will need, while its quiet time runs."""
        try:
            self._intake.look_ahead()
        except PeerError as error:
            log.warning("archive_away", code=error.code)

    def _care(self) -> None:
        """See to what follows corrections, and to datasets, once a second at most."""
        if time.monotonic() < self._care_at:
            return
        self._care_at = time.monotonic() + _CARE_S
        try:
            self._aftercare.hand_over()
        except PeerError as error:
            log.warning("archive_away", code=error.code)
        self._collecting.hand_over(self._engine)
        self._exporting.hand_over(self._engine)
        self._withdrawing.hand_over(self._engine)
        self._lessons.hand_over()
        self._schedule.look()

    def _keep_beating(self) -> None:
        """Show that this worker is alive; take over from those that are not."""
        beaten_at = time.monotonic()
        while not self._ended.is_set():
            silent_s = time.monotonic() - beaten_at
            if self._shared and silent_s > _DEAD_AFTER.total_seconds():
                log.error("worker_stalled", seconds=round(silent_s, 1))
                os._exit(STALLED)  # others may have this work already: leave it, start anew
            now = time.monotonic()
            try:
                self._access.beat(self._executor_id)
                beaten_at = now  # before the row's time: this worker gives up first
                self._take_over()
            except (
                PeerError,
                ResourceError,
            ) as error:  # a database restarts, a disk is full
                log.warning("heartbeat_missed", code=error.code)
            self._ended.wait(_BEAT_S)

    def _take_over(self) -> None:
        if self._shared:
            taken = self._engine.adopt(self._access, dead_after=_DEAD_AFTER)
            if taken:
                log.warning("work_taken_over", count=taken)


class WakeListener:
    """A small HTTP server on loopback that the plugin and the front ring.

    `POST /wake` with the token rings; `GET /healthz` says 204 once the worker works, else 503.

    Raises
    ------
    PortTaken
        When another program has the port.
    """

    def __init__(self, host: str, port: int, *, token: str, worker: Worker) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                given = self.headers.get("Authorization", "")
                if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                    self._answer(HTTPStatus.UNAUTHORIZED)
                elif self.path != "/wake":
                    self._answer(HTTPStatus.NOT_FOUND)
                else:
                    worker.ring()
                    self._answer(HTTPStatus.NO_CONTENT)

            def do_GET(self) -> None:
                if self.path != "/healthz":
                    self._answer(HTTPStatus.NOT_FOUND)
                elif worker.ready.is_set():
                    self._answer(HTTPStatus.NO_CONTENT)
                else:
                    self._answer(HTTPStatus.SERVICE_UNAVAILABLE)

            def _answer(self, status: HTTPStatus) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing: a ring is no event."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise PortTaken(f"port {port} for wake-ups is used by another program") from error
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def start(self) -> None:
        """Answer on a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
