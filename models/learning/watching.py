"""What a training leaves for those who watch: pictures of unseen cases, TensorBoard's files.

::

    RUN/looks/0007-1.png         epoch 7, its first case: what is true, what was found
    RUN/events.out.tfevents.*    the same and the curves, for TensorBoard
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from models.learning.cases import Dataset
from models.learning.events import EventFile
from models.learning.pictures import Look, as_png, colours_of, painted_look

LOOKS: Final = "looks"
_KEPT: Final = 200  # epochs whose pictures stay; of more, every second goes


class Chronicle:
    """Writes a run's pictures and event file; both can be deleted at any time.

    Parameters
    ----------
    run : Path
    dataset : Dataset
        Whose colours and names are used.
    """

    def __init__(self, run: Path, dataset: Dataset) -> None:
        self._colours = colours_of(dataset)
        self._classes = dict(dataset.classes)
        self._names = {f"score/{number}": name for number, name in dataset.classes.items()}
        self._run = run
        self._events: EventFile | None = None  # none is made for a run that ends before an epoch

    def note(
        self, epoch: int, *, step: int, figures: Mapping[str, float], looks: Sequence[Look]
    ) -> None:
        """Write an epoch's figures and pictures.

        A full disk costs these, not the training: the checkpoint says so itself.
        """
        folder = self._run / LOOKS
        try:
            folder.mkdir(exist_ok=True)
            shown = {}
            for at, look in enumerate(looks, 1):
                pixels = painted_look(look, self._colours, self._classes)
                png = as_png(pixels)
                beside = folder / f".{epoch:04d}-{at}.part"
                beside.write_bytes(png)
                beside.replace(folder / f"{epoch:04d}-{at}.png")
                shown[f"unseen/{look.case}"] = (*pixels.shape[:2], png)
            finite = {
                f"score/{self._names[tag]}" if tag in self._names else tag: value
                for tag, value in figures.items()
                if math.isfinite(value)
            }
            self._events = self._events or EventFile(self._run)
            self._events.add(step, scalars=finite, pictures=shown)
            self._thin_out(folder)
        except OSError:
            return

    def _thin_out(self, folder: Path) -> None:
        found = sorted(folder.glob("*.png"))
        epochs = sorted({path.name[:4] for path in found})
        if len(epochs) > _KEPT:
            gone = set(epochs[1:-1:2])
            for path in found:
                if path.name[:4] in gone:
                    path.unlink(missing_ok=True)


def looks_of(run: Path) -> dict[int, tuple[Path, ...]]:
    """Return the pictures that a run has left, by epoch."""
    found: dict[int, list[Path]] = {}
    for path in sorted((run / LOOKS).glob("[0-9]*-[0-9]*.png")):
        found.setdefault(int(path.stem.split("-")[0]), []).append(path)
    return {epoch: tuple(paths) for epoch, paths in found.items()}
