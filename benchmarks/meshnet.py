"""A brainchop MeshNet on a real head: the predictor's forward passes beside plain torch's.

Both run the same weights on the same image, in turns, on two threads; the best of several counts.
``rows`` is for a larger table of inference too.
"""

from __future__ import annotations

import gc
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.table import Row, machine, publish
from models import load
from models.importing.meshnet import convert_meshnet
from models.importing.model import import_meshnet

DATA = Path(__file__).parents[2] / "shared/data"
WEIGHTS = DATA / "weights/brainchop_tfjs_MIT/model5_gw_ae"
HEAD = DATA / "mr/sag_anon_t1_dicom/dicom.tar.xz"
THREADS, ROUNDS = 2, 3
FASTER, DICE = 3.0, 0.999


def rows() -> list[Row]:
    """Return how much faster the predictor's network is, and whether it says the same."""
    if not (WEIGHTS.is_dir() and HEAD.is_file()):
        raise SystemExit(f"{DATA} does not hold the weights and the head")
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory(prefix="radloop-bench-") as name:
        folder = Path(name)
        with tarfile.open(HEAD) as opened:
            opened.extractall(folder / "study", filter="data")
        bundle = import_meshnet(WEIGHTS, folder / "site")
        model = load(bundle.root, threads=THREADS, device="cpu")
        plain = _Plain(bundle.root)
        ours, eager, totals = [], [], []
        for _ in range(ROUNDS):
            result = model.predict(folder / "study")
            ours.append(result.prediction.forward_s)
            totals.append(result.prediction.total_s)
            gc.collect()
            eager.append(plain.forward_s(result.image.voxels, result.affine_lps))
        same = _dice(result.labels_kji, plain.labels(result.affine_lps))
    best, peer = min(ours), min(eager)
    return [
        Row(
            f"meshnet, model5_gw_ae, forward pass, best of {ROUNDS}",
            "s",
            round(best, 3),
            "torch, eager",
            round(peer, 3),
            round(peer / best, 2),
            f">= {FASTER:.0f} x",
            peer / best >= FASTER,
        ),
        Row("meshnet, whole prediction", "s", round(min(totals), 3)),
        Row(
            "meshnet, Dice of the two, the lower of two tissues",
            "",
            round(same, 5),
            target=f">= {DICE}",
            met=same >= DICE,
        ),
    ]


class _Plain:
    """The same network as a person would run it: torch, no more, on the prepared image at once."""

    def __init__(self, root: Path) -> None:
        from models.building import build
        from models.bundle import read_bundle

        ours = convert_meshnet(WEIGHTS).network()
        layers = [layer for each in ours.convolutions for layer in (each, ours.activation)]
        self._network = torch.nn.Sequential(*layers, ours.head)
        self._parts = build(read_bundle(root), torch.device("cpu"))
        self._answer: torch.Tensor | None = None
        self._data: dict[str, object] = {}

    def forward_s(self, voxels_kji: np.ndarray, affine_lps: np.ndarray) -> float:
        from models.prediction import Image
        from models.tensors import volume_tensor

        image = volume_tensor([Image(voxels_kji, affine_lps)])
        self._data = dict(self._parts.preprocess({"image": image}))
        prepared = self._data["image"].as_tensor()[None]  # type: ignore[attr-defined]
        with torch.inference_mode():
            begun = time.perf_counter()
            self._answer = self._network(prepared)
            return time.perf_counter() - begun

    def labels(self, affine_lps: np.ndarray) -> np.ndarray:
        from monai.data.meta_tensor import MetaTensor

        image = self._data["image"]
        logits = MetaTensor(self._answer[0], meta=dict(image.meta))  # type: ignore[index,attr-defined]
        with torch.inference_mode():
            found = self._parts.postprocess({**self._data, "pred": logits})["pred"]  # type: ignore[misc]
        return found[0].numpy().transpose(2, 1, 0)


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return min(
        float(2 * ((one == n) & (other == n)).sum() / ((one == n).sum() + (other == n).sum()))
        for n in (1, 2)
    )


def main() -> None:
    """Measure, print and write the table."""
    about = machine()
    publish("meshnet", rows(), about)


if __name__ == "__main__":
    main()
