"""Measure this bundle: ``python -m models.bundles.mr_brain.scripts.evaluate``.

Everything goes the way a study goes: the bundle, read and run by the node's own predictor, on each
series' own grid. Phantoms need nothing; what is real is added by ``--data``, the folder with
``t1_nifti``, ``silver_labels``, ``sag_anon_t1_dicom``, ``fruit_ge_t1_dicom`` and ``pyradiomics``.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from dicom.phantom import Plane, head_mr
from models.bundle import read_bundle
from models.bundles.mr_brain.scripts.heads import (
    ADULT,
    CHILD,
    LPS_TO_RAS,
    Mask,
    mended,
    read_archived_series,
    read_head,
    resampled,
)
from models.predictor import Predictor

BUNDLE = Path(__file__).resolve().parent.parent
PHANTOMS = range(1, 13)  # training draws from 100 000 on


@dataclass(frozen=True, slots=True)
class Figures:
    """One head, or none, and what the model said of it."""

    what: str
    reference: str
    slices: int
    reference_ml: float | None
    ml: float
    dice: float | None
    hd95_mm: float | None
    forward_s: float
    total_s: float


def measure(
    predictor: Predictor,
    what: str,
    voxels_kji: NDArray[np.generic],
    affine_lps: NDArray[np.float64],
    references: dict[str, Mask | None],
) -> Iterator[Figures]:
    """Predict once and yield a row for each reference mask; None where nobody drew one."""
    made = predictor.predict(voxels_kji, affine_lps)
    brain = made.labels_kji == 1
    spacing = np.linalg.norm(affine_lps[:3, :3], axis=0)
    voxel_ml = float(np.prod(spacing)) / 1000
    for name, mask in references.items():
        overlap = mask is not None and bool((mask & brain).any())
        yield Figures(
            what=what,
            reference=name,
            slices=len(voxels_kji),
            reference_ml=None if mask is None else round(mask.sum() * voxel_ml, 1),
            ml=round(brain.sum() * voxel_ml, 1),
            dice=None if mask is None else round(dice(mask, brain), 4),
            hd95_mm=round(hd95(mask, brain, spacing), 2) if mask is not None and overlap else None,
            forward_s=round(made.forward_s, 2),
            total_s=round(made.total_s, 2),
        )


def dice(a: Mask, b: Mask) -> float:
    """Return the overlap of two masks; 1 when both are empty."""
    sizes = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / sizes if sizes else 1.0


def hd95(a: Mask, b: Mask, spacing_mm: NDArray[np.float64]) -> float:
    """Return the 95th percentile of the distances between two surfaces, in mm, both ways."""
    box = ndimage.find_objects((a | b).astype(np.uint8))[0]
    a, b = np.pad(a[box], 1), np.pad(b[box], 1)
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (a, b)]
    far = [ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
    return float(np.percentile(np.concatenate([far[0][edges[1]], far[1][edges[0]]]), 95))


def all_figures(predictor: Predictor, data: Path | None) -> Iterator[Figures]:
    """Yield what the model says of phantoms and, with `data`, of everything real there is."""
    planes: tuple[Plane, ...] = get_args(Plane)
    for seed in PHANTOMS:
        plane = planes[seed % 3]
        head = head_mr(seed, plane=plane, slices=160)
        what = f"phantom, seed {seed}, {plane}"
        truth: dict[str, Mask | None] = {"the phantom itself": head.brain_kji}
        yield from measure(predictor, what, head.voxels_kji, head.affine_lps, truth)
    if data is None:
        return

    child = read_head(CHILD, data)
    series = read_archived_series(data / "sag_anon_t1_dicom" / "dicom.tar.xz")
    masks: dict[str, Mask | None] = {}
    for name, mask in (("mended", child.brain_xyz), ("silver", child.silver_xyz)):
        here = LPS_TO_RAS @ series.affine_lps
        shape = series.voxels_kji.shape
        masks[name] = resampled(mask.astype(np.float32), child.affine_ras, shape, here) > 0.5
    yield from measure(predictor, "child, sag_anon", series.voxels_kji, series.affine_lps, masks)

    adult = read_head(ADULT, data)
    masks = {
        "silver": adult.silver_xyz,
        "mended": mended(adult.voxels_xyz, adult.silver_xyz),
    }
    here = LPS_TO_RAS @ adult.affine_ras
    yield from measure(predictor, "adult, t1crop", adult.voxels_xyz, here, masks)

    fruit = read_archived_series(data / "fruit_ge_t1_dicom" / "dicom.tar.gz")
    empty = np.zeros(fruit.voxels_kji.shape, bool)
    yield from measure(
        predictor, "a fruit", fruit.voxels_kji, fruit.affine_lps, {"no brain": empty}
    )

    voxels, affine = read_nrrd(data / "pyradiomics" / "brain1_image.nrrd")
    yield from measure(predictor, "tumour, 6.5 mm slices, brain1", voxels, affine, {"none": None})


def read_nrrd(path: Path) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Return voxels_kji and affine_lps of a gzipped NRRD of int16 in left-posterior-superior."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    lines = (line.split(": ", 1) for line in head.decode("ascii").splitlines() if ": " in line)
    fields = {line[0]: line[1] for line in lines}
    if (fields["type"], fields["space"]) != ("short", "left-posterior-superior"):
        raise ValueError("only int16 in left-posterior-superior is read")
    i, j, k = (int(n) for n in fields["sizes"].split())
    voxels = np.frombuffer(gzip.decompress(body), "<i2").reshape(k, j, i)
    axes = [json.loads(f"[{axis}]") for axis in fields["space directions"].strip("()").split(") (")]
    affine = np.eye(4)
    affine[:3, :3] = np.array(axes[::-1]).T
    affine[:3, 3] = json.loads(f"[{fields['space origin'].strip('()')}]")
    return voxels, affine


def table(rows: list[dict[str, str | float | None]]) -> str:
    """Return figures as the Markdown table that the card shows, the phantoms in one line."""
    lines = [
        "| what | reference | ml, reference | ml, found | Dice | HD95, mm |",
        "|---|---|---|---|---|---|",
    ]
    of_phantoms = [row for row in rows if str(row["what"]).startswith("phantom")]
    if of_phantoms:
        dices = sorted(cast(float, row["dice"]) for row in of_phantoms)
        far = sorted(cast(float, row["hd95_mm"]) for row in of_phantoms)
        lines.append(
            f"| {len(dices)} phantoms, median (worst) | the phantom | | "
            f"| {np.median(dices):.3f} ({dices[0]:.3f}) | {np.median(far):.1f} ({far[-1]:.1f}) |"
        )
    for row in rows:
        if row not in of_phantoms:
            show = ["" if row[k] is None else f"{row[k]:.0f}" for k in ("reference_ml", "ml")]
            show += ["" if row["dice"] is None else f"{row['dice']:.3f}"]
            show += ["" if row["hd95_mm"] is None else f"{row['hd95_mm']:.1f}"]
            lines.append(f"| {row['what']} | {row['reference']} | {' | '.join(show)} |")
    return "\n".join(lines) + "\n"


def with_weights(weights: Path, folder: Path) -> Path:
    """Return a copy of this bundle, in `folder`, with other weights."""
    copy = folder / BUNDLE.name
    shutil.copytree(BUNDLE, copy, ignore=shutil.ignore_patterns("scripts", "model.pt"))
    (copy / "models").mkdir(exist_ok=True)
    shutil.copy(weights, copy / "models" / "model.pt")
    return copy


def main() -> None:
    """Read the command line, measure, print a table, write the figures."""
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--data", type=Path, help="folder of the real series")
    command.add_argument("--weights", type=Path, default=BUNDLE / "models" / "model.pt")
    command.add_argument("--out", type=Path, help="where the figures are written, as JSON")
    command.add_argument("--note", default="", help="what these weights are")
    command.add_argument("--threads", type=int, default=2)
    options = command.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        bundle = read_bundle(with_weights(options.weights, Path(folder)))
        predictor = Predictor(bundle, device="cpu", threads=options.threads)
        for row in all_figures(predictor, options.data):
            rows.append(row)
            print(row.what, row.reference, row.dice, f"{row.ml} ml", flush=True)  # noqa: T201
    print(table([asdict(row) for row in rows]))  # noqa: T201
    if options.out is not None:
        document = {
            "note": options.note,
            "weights_sha256": hashlib.sha256(options.weights.read_bytes()).hexdigest(),
            "machine": f"{platform.machine()}, torch {torch.__version__}",
            "threads": options.threads,
            "rows": [asdict(row) for row in rows],
        }
        options.out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
