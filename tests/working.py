"""The durable engine of a worker, in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pipelines.engine import Engine, Queue, WorkflowSpec


class Room(Protocol):
    """What hands workflows to an engine."""

    def specs(self) -> Sequence[WorkflowSpec]: ...

    def attach(self, engine: Engine) -> None: ...


def engine_in(folder: Path, workflows: Sequence[WorkflowSpec], queue: Queue) -> Engine:
    """Return an engine that does one thing of that queue at a time; it has not begun."""
    return Engine(
        f"sqlite:///{folder / 'engine.db'}",
        executor_id="w1",
        version="test",
        workflows=workflows,
        limits={queue: 1},
    )


@contextmanager
def working(room: Room, folder: Path, queue: Queue) -> Iterator[Engine]:
    """Carry out what a room hands over, as a worker does."""
    engine = engine_in(folder, room.specs(), queue)
    room.attach(engine)
    engine.start()
    try:
        yield engine
    finally:
        engine.stop()
