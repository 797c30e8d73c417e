"""Images of one patient on one grid: resampled where they lie, or registered first.

Images that share a frame of reference lie where their affines say (PS3.3 C.7.4.1). Others, or all
where a bundle asks, are moved by a rigid registration (Mattes' mutual information over three
resolutions). It is repeatable: samples are drawn by a fixed seed, and one thread adds them up.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from dicom.errors import CannotRegister
from models.grids import is_same_grid
from models.prediction import Floats, Image

_SEED = 20_240
_BINS = 32
_SAMPLES = 100_000
_LEVELS = ((4, 2.0), (2, 1.0), (1, 0.0))  # shrink factor, smoothing in mm
_STEPS = 150
_LEAST_OVERLAP = 0.1


def on_common_grid(
    images: dict[str, Image], *, registration: Literal["auto", "always", "never"]
) -> dict[str, Image]:
    """Return the images on the grid of the first.

    Parameters
    ----------
    images : dict of str to Image
        Grey images; the first one stays as it is.
    registration : str
        'auto' registers an image whose frame of reference is not the first one's, 'always' each
        that is not on the grid already, 'never' none.

    Returns
    -------
    dict of str to Image
        Float32, linearly interpolated; where an image does not reach, its smallest value.

    Raises
    ------
    CannotRegister
        When an image overlaps the first one by less than a tenth, before or after.
    """
    (first_name, first), *others = images.items()
    placed = {first_name: first}
    for name, image in others:
        frames = (first.frame_of_reference_uid, image.frame_of_reference_uid)
        apart = frames[0] != frames[1] and all(frames)
        moves = registration == "always" or (registration == "auto" and apart)
        if is_same_grid(image, first) and not moves:
            placed[name] = image
            continue
        transform = _registered(first, image, name) if moves else sitk.Euler3DTransform()
        placed[name] = _resampled(first, image, transform, name)
    return placed


def rigid_matrix(fixed: Image, moving: Image) -> Floats:
    """Return the rigid motion, 4 x 4, LPS mm, from a place in `fixed` to its place in `moving`."""
    transform = _registered(fixed, moving, "the moving image")
    matrix = np.eye(4)
    matrix[:3, 3] = transform.TransformPoint((0.0, 0.0, 0.0))
    for axis in range(3):
        point = [0.0, 0.0, 0.0]
        point[axis] = 1.0
        matrix[:3, axis] = np.array(transform.TransformPoint(point)) - matrix[:3, 3]
    return matrix


def _registered(fixed: Image, moving: Image, name: str) -> Any:  # noqa: ANN401 - untyped library
    """Return the rigid transform from places in `fixed` to places in `moving`."""
    fixed_itk, moving_itk = _itk(fixed), _itk(moving)
    start = sitk.CenteredTransformInitializer(
        fixed_itk,
        moving_itk,
        sitk.Euler3DTransform(),
        sitk.CenteredTransformInitializerFilter.MOMENTS,
    )
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    share = min(_SAMPLES / fixed.voxels.size, 1.0)
    method.SetMetricSamplingPercentage(share, _SEED)
    method.SetNumberOfWorkUnits(1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=1e-4, numberOfIterations=_STEPS, relaxationFactor=0.6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([factor for factor, _ in _LEVELS])
    method.SetSmoothingSigmasPerLevel([sigma for _, sigma in _LEVELS])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=False)
    try:
        return method.Execute(fixed_itk, moving_itk)
    except RuntimeError as error:  # what SimpleITK raises of everything
        raise CannotRegister(f"{name} could not be registered to the first image") from error


def _resampled(first: Image, image: Image, transform: Any, name: str) -> Image:  # noqa: ANN401
    moving, grid = _itk(image), _itk(first)
    inside = _inside(moving, grid, transform)
    if inside < _LEAST_OVERLAP:
        raise CannotRegister(f"{name} and the first image overlap by {inside:.0%} only")
    lowest = float(image.voxels.min())
    found = sitk.Resample(moving, grid, transform, sitk.sitkLinear, lowest, sitk.sitkFloat32)
    voxels: NDArray[np.float32] = sitk.GetArrayFromImage(found)
    return Image(voxels, first.affine_lps, first.frame_of_reference_uid)


def _inside(moving: Any, grid: Any, transform: Any) -> float:  # noqa: ANN401
    """Return the share of the grid that the moving image covers."""
    whole = sitk.Image(moving.GetSize(), sitk.sitkUInt8) + 1
    whole.CopyInformation(moving)
    covered = sitk.Resample(whole, grid, transform, sitk.sitkNearestNeighbor, 0.0)
    return float(sitk.GetArrayViewFromImage(covered).mean())


def _itk(image: Image) -> Any:  # noqa: ANN401 - untyped library
    """Return an image as SimpleITK has it: axes (i, j, k), LPS; a mirrored grid keeps its place."""
    made = sitk.GetImageFromArray(np.ascontiguousarray(image.voxels, dtype=np.float32))
    axes = image.affine_lps[:3, [2, 1, 0]]
    spacing = np.linalg.norm(axes, axis=0)
    made.SetSpacing(spacing.tolist())
    made.SetDirection((axes / spacing).flatten().tolist())
    made.SetOrigin(image.affine_lps[:3, 3].tolist())
    return made
