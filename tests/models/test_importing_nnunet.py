"""nnU-Net v2 models: beside nnU-Net's own predictor where it is installed, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray

from dicom.errors import CannotImport, MissingCodes, MissingPackage, RadloopError
from models.adapters.nnunet import EvenWindows, NnunetNetwork, NnunetPreprocessd, NnunetRestored
from models.importing.draft import read_provenance
from models.importing.model import Wish, import_model
from models.importing.nnunet_results import read_results
from models.predictor import Predictor
from tests.models.nnunet_results import PATCH, dataset, older_plans, plans, write_results

torch.set_num_threads(1)

needs_nnunet = pytest.mark.skipif(
    find_spec("nnunetv2") is None, reason="nnunetv2 is not installed: pip install nnunetv2"
)
needs_networks = pytest.mark.skipif(
    find_spec("dynamic_network_architectures") is None,
    reason="dynamic_network_architectures is not installed: pip install 'radloop[nnunet]'",
)

SPACING_KJI = (3.0, 1.2, 1.1)
UNET = plans()["configurations"]["3d_fullres"]["architecture"]


def image(shape: tuple[int, int, int] = (22, 40, 37), seed: int = 4) -> NDArray[np.float32]:
    """Blobs in zeros, so that there is something to cut away."""
    random = np.random.default_rng(seed)
    found = np.zeros(shape, dtype=np.float32)
    inner = tuple(slice(2, size - 3) for size in shape)
    size = found[inner].shape
    waves = sum(np.sin(0.3 * (axis + 1) * grid) for axis, grid in enumerate(np.indices(size)))
    found[inner] = 60 + 60 * waves + random.normal(0, 12, size)
    return found


def affine_lps(spacing: tuple[float, float, float] = SPACING_KJI) -> NDArray[np.float64]:
    """A grid that runs to left, posterior and superior: axes LPS."""
    affine = np.eye(4)
    affine[:3, :3] = np.diag(spacing)[:, [2, 1, 0]].T[[2, 1, 0]][:, [2, 1, 0]]
    affine[:3, 0] = (0, 0, spacing[0])
    affine[:3, 1] = (0, spacing[1], 0)
    affine[:3, 2] = (spacing[2], 0, 0)
    return affine


def by_nnunet(
    root: Path,
    image_ckji: NDArray[np.float32],
    *,
    mirroring: bool = True,
    folds: tuple[int, ...] | None = None,
    sums: torch.dtype = torch.float32,
) -> NDArray[np.uint8]:
    """The labels of nnU-Net's own predictor, with its windows added up in that precision.

    Its own is half, in which corners, which weigh little, are a matter of rounding; a network of
    chance is undecided in so many voxels that this would hide a mistake of ours.
    """
    module = import_module("nnunetv2.inference.predict_from_raw_data")
    predictor = module.nnUNetPredictor(
        use_mirroring=mirroring,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.initialize_from_trained_model_folder(str(root), folds, "checkpoint_final.pth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "half", sums)
        labels: NDArray[np.uint8] = predictor.predict_single_npy_array(
            image_ckji, {"spacing": list(SPACING_KJI)}
        )
    torch.set_num_threads(1)
    return labels


def share_that_differs(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    assert len(np.unique(expected)) > 1, "a model that says one thing compares nothing"
    return float((found != expected).mean())


@needs_nnunet
@pytest.mark.parametrize(
    ("case", "make"),
    [
        ("plain", lambda: (plans(), dataset())),
        ("older plans", lambda: (older_plans(), dataset())),
        ("isotropic", lambda: (plans(spacing=[1.5, 1.5, 1.5]), dataset())),
        ("coarse slices", lambda: (plans(spacing=[6.0, 1.5, 1.5]), dataset())),
        ("z-score", lambda: (plans(normalization_schemes=["ZScoreNormalization"]), dataset())),
        (
            "z-score in the mask",
            lambda: (
                plans(normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True]),
                dataset(),
            ),
        ),
        (
            "transposed",
            lambda: (
                {**plans(), "transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]},
                dataset(),
            ),
        ),
        (
            "regions",
            lambda: (
                plans(),
                dataset(
                    labels={"background": 0, "liver": [1, 2, 3], "spleen": [2, 3], "heart": 3},
                    regions_class_order=[1, 2, 3],
                ),
            ),
        ),
    ],
)
def test_the_labels_are_nnunets_own(
    tmp_path: Path,
    case: str,
    make: Callable[[], tuple[dict[str, Any], dict[str, Any]]],
    record_property: Callable[[str, object], None],
) -> None:
    root = write_results(tmp_path, *make())
    voxels = image()
    expected = by_nnunet(root, voxels[None])
    bundle = import_model(root, tmp_path / "site", Wish(axes="LPS"))
    found = Predictor(bundle, device="cpu").predict(voxels, affine_lps()).labels_kji
    share = share_that_differs(found, expected)
    record_property(f"{case}: share of voxels that differ", share)
    assert share <= 1e-4


@needs_nnunet
def test_as_it_comes_nnunet_differs_where_it_rounds_only(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    root = write_results(tmp_path, plans(), dataset())
    voxels = image()
    expected = by_nnunet(root, voxels[None], sums=torch.half)
    bundle = import_model(root, tmp_path / "site", Wish(axes="LPS"))
    found = Predictor(bundle, device="cpu").predict(voxels, affine_lps()).labels_kji
    share = share_that_differs(found, expected)
    record_property("half precision: share of voxels that differ", share)
    assert share <= 0.01


@needs_nnunet
def test_several_folds_and_no_mirroring(tmp_path: Path) -> None:
    root = write_results(tmp_path, plans(), dataset(), folds=("0", "1", "2"))
    voxels = image()
    for mirroring, folds in ((False, None), (True, (1,))):
        expected = by_nnunet(root, voxels[None], mirroring=mirroring, folds=folds)
        names = tuple(str(fold) for fold in folds or ())
        wish = Wish(axes="LPS", mirroring=mirroring, folds=names, name=f"m{mirroring}")
        bundle = import_model(root, tmp_path / "site", wish)
        found = Predictor(bundle, device="cpu").predict(voxels, affine_lps()).labels_kji
        assert share_that_differs(found, expected) <= 1e-4


@needs_networks
def test_axes_say_how_the_network_sees_the_image(tmp_path: Path) -> None:
    root = write_results(tmp_path, plans(), dataset(), mirror_axes=None)
    voxels, affine = image(), affine_lps()
    lps = import_model(root, tmp_path / "site", Wish(axes="LPS"))
    ras = import_model(root, tmp_path / "site", Wish(axes="RAS", name="ras"))
    # The same voxels, stored from right to left and from front to back, at the same places.
    turned = affine.copy()
    turned[:3, 1:3] *= -1
    turned[:3, 3] += affine[:3, 1] * (voxels.shape[1] - 1) + affine[:3, 2] * (voxels.shape[2] - 1)
    straight = Predictor(lps, device="cpu").predict(voxels, affine).labels_kji
    mirrored = Predictor(lps, device="cpu").predict(voxels[:, ::-1, ::-1], turned).labels_kji
    assert np.array_equal(mirrored[:, ::-1, ::-1], straight)
    other = Predictor(ras, device="cpu").predict(voxels, affine).labels_kji
    assert not np.array_equal(other, straight)


@needs_networks
def test_totalsegmentators_models_are_known(tmp_path: Path) -> None:
    labels = {"background": 0, **{f"class_{number}": number for number in range(1, 25)}}
    name = "Dataset291_TotalSegmentator_part1_organs_1559subj"
    root = write_results(tmp_path, older_plans(), dataset(labels=labels, licence=""), name=name)
    bundle = import_model(root.parent, tmp_path / "site")
    assert bundle.name == "TotalSegmentator_part1_organs_1559subj"
    by_label = {segment.label: segment for segment in bundle.segments}
    assert len(by_label) == 24
    kidney = by_label["kidney_left"]
    assert (kidney.type.value, kidney.laterality and kidney.laterality.meaning) == (
        "64033007",
        "Left",
    )
    facts = read_provenance(bundle.root)
    assert (facts["licence"], facts["axes"], facts["source"].partition(":")[0]) == (
        "Apache-2.0",
        "RAS",
        "TotalSegmentator",
    )


@pytest.mark.skipif(
    find_spec("dynamic_network_architectures") is not None, reason="the extra is installed"
)
def test_a_missing_package_is_said_by_the_extras_name() -> None:
    name = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
    with pytest.raises(MissingPackage, match=r"radloop\[nnunet\]"):
        NnunetNetwork(name, {}, [], 1, 2)


# --- what is read and refused -------------------------------------------------------------------


def written(folder: Path, plans_document: dict[str, Any], dataset_document: Any) -> Path:
    """A results folder whose checkpoint is never looked into."""
    root = folder / "Dataset042_Small/nnUNetTrainer__nnUNetPlans__3d_fullres"
    (root / "fold_0").mkdir(parents=True)
    (root / "plans.json").write_text(json.dumps(plans_document))
    (root / "dataset.json").write_text(json.dumps(dataset_document))
    torch.save({"network_weights": {}}, root / "fold_0/checkpoint_final.pth")
    return root


@pytest.mark.parametrize(
    ("kind", "named", "plans_document", "dataset_document", "wish"),
    [
        (CannotImport, "--axes", plans(), dataset(), {"axes": None}),
        (CannotImport, "--axes", plans(), dataset(), {"axes": "RRS"}),
        (CannotImport, "fold_3", plans(), dataset(), {"folds": ("3",)}),
        (CannotImport, "preprocessor_name", plans(preprocessor_name="Mine"), dataset(), {}),
        (CannotImport, "resampling_fn_data", plans(resampling_fn_data="torch"), dataset(), {}),
        (CannotImport, "normalization", plans(normalization_schemes=["Mine"]), dataset(), {}),
        (CannotImport, "patch_size", plans(patch_size=[16, 16]), dataset(), {}),
        (
            CannotImport,
            "resampling of data",
            plans(resampling_fn_data_kwargs={"order": 1}),
            dataset(),
            {},
        ),
        (
            CannotImport,
            r"os\.system",
            plans(architecture={**UNET, "network_class_name": "os.system"}),
            dataset(),
            {},
        ),
        (
            CannotImport,
            "one normalisation",
            plans(),
            dataset(channel_names={"0": "a", "1": "b"}),
            {},
        ),
        (CannotImport, "--modality", plans(), dataset(channel_names={"0": "signal"}), {}),
        (CannotImport, "regions_class_order", plans(), dataset(labels={"liver": [1, 2]}), {}),
        (MissingCodes, "flap", plans(), dataset(labels={"background": 0, "flap": 1}), {}),
    ],
)
def test_what_the_adapter_does_not_do_is_refused_by_name(
    tmp_path: Path,
    kind: type[RadloopError],
    named: str,
    plans_document: dict[str, Any],
    dataset_document: dict[str, Any],
    wish: dict[str, Any],
) -> None:
    root = written(tmp_path, plans_document, dataset_document)
    with pytest.raises(kind, match=named):
        import_model(root, tmp_path / "site", Wish(**{"axes": "RAS", **wish}))
    assert not list((tmp_path / "site").glob("*"))


def test_a_checkpoint_that_runs_code_is_refused(tmp_path: Path) -> None:
    root = written(tmp_path, plans(), dataset())

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"network_weights": Evil()}, root / "fold_0/checkpoint_final.pth")
    with pytest.raises(CannotImport, match="plain weights"):
        import_model(root, tmp_path / "site", Wish(axes="RAS"))
    assert not (tmp_path / "ran").exists()


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    root = written(tmp_path, plans(), dataset())
    other = root.rename(root.with_name("nnUNetTrainer__nnUNetPlans__2d"))
    with pytest.raises(CannotImport, match="'2d' is not supported"):
        import_model(other, tmp_path / "site", Wish(axes="RAS"))


def test_a_reader_that_turns_images_tells_the_axes(tmp_path: Path) -> None:
    document = {**plans(), "image_reader_writer": "NibabelIOWithReorient"}
    assert read_results(written(tmp_path, document, dataset())).axes == "RAS"


# --- the parts ----------------------------------------------------------------------------------


def test_windows_meet_both_ends_and_average_to_the_image() -> None:
    inferer = EvenWindows(PATCH, 0.5)
    begins: list[tuple[int, ...]] = []

    def network(window: torch.Tensor) -> torch.Tensor:
        begins.append(tuple(window.shape))
        return torch.cat([window, -window], dim=1)

    image_bcn = torch.rand(1, 1, 37, 24, 9)
    found = inferer(image_bcn, network)
    assert found.shape == (1, 2, 37, 24, 9)
    assert torch.allclose(found[:, :1], image_bcn, atol=1e-5)
    assert set(begins) == {(1, 1, *PATCH)}
    assert len(begins) == 4  # 37 in 16: at 0, 7, 14, 21


def test_what_was_prepared_is_restored(tmp_path: Path) -> None:
    voxels = image()
    affine = np.diag([1.1, -1.2, 3.0, 1.0])
    given = MetaTensor(torch.from_numpy(voxels.transpose(2, 1, 0).copy())[None], affine=affine)
    prepare = NnunetPreprocessd(
        "image", [2.0, 1.5, 1.25], [2, 0, 1], ["NoNormalization"], [False], [{}]
    )
    ready = prepare({"image": given})["image"]
    assert [round(float(s), 1) for s in np.linalg.norm(ready.affine[:3, :3], axis=0)] == [
        2.0,
        1.5,
        1.2,
    ]
    logits = MetaTensor(torch.cat([torch.full_like(ready, 60.0), ready]), meta=dict(ready.meta))
    found = NnunetRestored("pred")({"pred": logits})["pred"]
    assert found.shape == given.shape
    assert np.allclose(found.affine, given.affine)
    above = (voxels > 60).transpose(2, 1, 0)
    overlap = 2 * (found[0].numpy().astype(bool) & above).sum() / (found.sum() + above.sum())
    assert float(overlap) > 0.9
    assert not found[0, :, :, :2].any()  # what was cut away is background
