"""Whether structures that are coded left and right are on their sides of the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy

from dicom.codes import LEFT, RIGHT
from dicom.errors import WrongGeometry
from dicom.gate.places import Floats
from dicom.seg import Masks, Segment
from dicom.volume import Volume
from dicom.volume.values import Voxels

_WHOLE: Final = 0.5  # shares of a voxel count from here on
_FEWEST: Final = 10  # voxels: fewer have no side worth a refusal
_APART_MM: Final = 5.0
_TURNED: Final = float(np.tan(np.deg2rad(15)))  # how far a patient may lie turned, or bent
_OFF_SHARE: Final = 0.15  # of the body's width, beyond the midline

_COARSE_MM: Final = 4.0
_AIR_HU: Final = -300.0
_UPRIGHT: Final = float(np.cos(np.deg2rad(30)))
_A_BODY: Final = 0.3  # of the largest one's voxels: an arm beside a trunk is less, a leg is more
_TRUNK_MM: Final = 300.0  # no limb is so wide
_MIRRORED: Final = 0.65  # correlation with one's mirror image
_RATHER: Final = 0.2  # by which left and right are more alike than front and back
_SEARCHED: Final = 0.08  # of the body's extent, on either side of its middle

# Paired structures of head and trunk (SCT): an image that shows one of them shows no limb.
_NOT_IN_LIMBS: Final = frozenset(
    {
        "39607008",  # lung
        "45653009",  # upper lobe of lung
        "90572001",  # lower lobe of lung
        "3120008",  # pleura
        "64033007",  # kidney
        "25990002",  # renal pelvis
        "2841007",  # renal artery
        "56400007",  # renal vein
        "23451007",  # adrenal gland
        "81745001",  # eye
        "363654007",  # orbit
        "18234004",  # optic nerve
        "45289007",  # parotid gland
        "54019009",  # submandibular gland
        "15924003",  # maxillary sinus
        "60911003",  # temporal bone
        "372073000",  # cerebral hemisphere
        "83251001",  # frontal lobe
        "16630005",  # parietal lobe
        "78277001",  # temporal lobe
        "31065004",  # occipital lobe
        "36169008",  # insula
        "40146001",  # cerebral cortex
        "68523003",  # cerebral white matter
        "66720007",  # lateral ventricle
        "5366008",  # hippocampus
        "4958002",  # amygdala
        "42695009",  # thalamus
        "11000004",  # caudate nucleus
        "89278009",  # putamen
        "14738005",  # globus pallidus
        "427667007",  # nucleus accumbens
    }
)


@dataclass(frozen=True, slots=True)
class _Body:
    """What of the body is in an image, where it is whole from right to left."""

    middle_x: float  # LPS, mm
    width_mm: float
    halved: bool  # its middle is surely the patient's: a trunk's, a head's, two legs'


def check_sides(
    masks: Masks, segments: Sequence[Segment], affine_lps: Floats, volume: Volume | None = None
) -> None:
    """Make sure that what is coded left lies on the patient's left of what is coded right.

    Every left structure is held against every right one of the same type and region: its centre may
    lie beyond the other's by 5 mm, and by what a patient who lies turned by 15 degrees adds where
    they are far apart. What has no counterpart on the other side, and each of several, is judged by
    the middle of the body as well: it must not lie beyond it by more than 15 % of the body's width.

    That needs a body that is in the image from right to left, and is sure to be halved by its
    middle: the structure is one of head or trunk, or the body is wider than any limb, or its left
    is the mirror image of its right. In the image of a single limb a medial structure rightly lies
    on the limb's other half. Small structures and crossing ones are not judged; organs that lie on
    the other side by nature (situs inversus) keep their left and right.

    Parameters
    ----------
    masks : Masks
        Of each segment number.
    segments : sequence of Segment
        With their codes.
    affine_lps : ndarray, shape (4, 4)
        From index (k, j, i, 1) to LPS, mm; x grows to the patient's left.
    volume : Volume, optional
        The image, to find the body in; without it only left is held against right.

    Raises
    ------
    WrongGeometry
        When one is on the wrong side.
    """
    kinds: dict[tuple[str, str], dict[str, list[Floats]]] = {}
    for segment in segments:
        centre = _centre(masks, segment, affine_lps)
        if centre is not None and segment.laterality is not None:
            kind = (segment.type.value, segment.region.value if segment.region else "")
            sides = kinds.setdefault(kind, {LEFT.value: [], RIGHT.value: []})
            sides[segment.laterality.value].append(centre)
    for sides in kinds.values():
        _check_against_each_other(sides[LEFT.value], sides[RIGHT.value])
    alone = {
        kind: sides for kind, sides in kinds.items() if [len(s) for s in sides.values()] != [1, 1]
    }
    body = _body(volume) if volume is not None and alone else None
    if body is None:
        return
    for kind, sides in alone.items():
        if body.halved or not _NOT_IN_LIMBS.isdisjoint(kind):
            _check_against_middle(sides, body)


def _centre(masks: Masks, segment: Segment, affine_lps: Floats) -> Floats | None:
    """Return a sided segment's centre, LPS in mm; None of one that is not judged."""
    side = segment.laterality.value if segment.laterality else ""
    crop = masks.crops.get(segment.number)
    if side not in (LEFT.value, RIGHT.value) or crop is None:
        return None
    inside = crop.voxels_kji >= _WHOLE
    count = int(np.count_nonzero(inside))
    if count < _FEWEST:
        return None
    means = []
    for axis, corner in enumerate(crop.corner_kji):
        held = np.count_nonzero(inside, axis=tuple(other for other in range(3) if other != axis))
        means.append(float(held @ np.arange(held.size)) / count + corner)
    centre: Floats = (affine_lps @ [*means, 1.0])[:3]
    return centre


def _check_against_each_other(lefts: Sequence[Floats], rights: Sequence[Floats]) -> None:
    for left in lefts:
        for right in rights:
            crossed, *along = right - left
            if crossed > _APART_MM + _TURNED * float(np.hypot(*along)):
                raise WrongGeometry("a left and a right structure are on each other's side")


def _check_against_middle(sides: dict[str, list[Floats]], body: _Body) -> None:
    beyond = [body.middle_x - centre[0] for centre in sides[LEFT.value]]
    beyond += [centre[0] - body.middle_x for centre in sides[RIGHT.value]]
    if max(beyond) > _OFF_SHARE * body.width_mm:
        raise WrongGeometry("a one-sided structure lies on the other side of the body")


# --- the body -------------------------------------------------------------------------------------


def _body(volume: Volume) -> _Body | None:
    """Return the body in an image; None where it is cut off at a side, or lies too oblique."""
    strides = np.maximum(1, np.floor(_COARSE_MM / np.array(volume.spacing_kji))).astype(int)
    values = volume.voxels_kji[tuple(slice(None, None, stride) for stride in strides)]
    steps = volume.affine_lps[:3, :3] * strides
    directions = steps / np.linalg.norm(steps, axis=0)
    across, along = int(np.abs(directions[0]).argmax()), int(np.abs(directions[1]).argmax())
    if min(abs(directions[0, across]), abs(directions[1, along])) < _UPRIGHT:
        return None
    found = _bodies(values > (_AIR_HU if volume.unit == "HU" else float(values.mean())))
    rows = tuple(axis for axis in range(3) if axis != across)
    profile = np.flatnonzero(found.any(axis=rows))
    if not profile.size or profile[0] == 0 or profile[-1] == found.shape[across] - 1:
        return None
    centre = np.argwhere(found).mean(axis=0)
    x = float((volume.affine_lps @ [*(centre * strides), 1.0])[0])
    width_mm = float(profile[-1] - profile[0] + 1) * float(np.linalg.norm(steps[:, across]))
    halved = width_mm >= _TRUNK_MM or _is_mirrored(values, found, across, along)
    return _Body(x, width_mm, halved)


def _bodies(solid: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the largest connected part, and those of its order: no table, no arms."""
    cross = scipy.ndimage.generate_binary_structure(3, 1)
    if min(solid.shape) < 3:
        cross = cross & (np.indices(cross.shape)[int(np.argmin(solid.shape))] == 1)
    apart, count = scipy.ndimage.label(scipy.ndimage.binary_opening(solid, cross), cross)
    if not count:
        return np.zeros_like(solid)
    sizes = np.bincount(apart.ravel())
    sizes[0] = 0
    kept: npt.NDArray[np.bool_] = np.isin(apart, np.flatnonzero(sizes >= _A_BODY * sizes.max()))
    return kept


def _is_mirrored(values: Voxels, body: npt.NDArray[np.bool_], across: int, along: int) -> bool:
    """Tell whether a body is its own mirror image from left to right, more than front to back."""
    low, high = np.percentile(values[body], (1, 99))
    smooth = scipy.ndimage.gaussian_filter(np.clip(values, low, high).astype(np.float32), 1.0)
    sideways = _likeness(smooth, body, across)
    return sideways >= _MIRRORED and sideways >= _likeness(smooth, body, along) + _RATHER


def _likeness(values: npt.NDArray[np.float32], body: npt.NDArray[np.bool_], axis: int) -> float:
    """Return the best correlation of a body with its mirror image along an axis, near its middle.

    What of the body has no counterpart in its mirror image takes away as much.
    """
    values, body = np.moveaxis(values, axis, 0), np.moveaxis(body, axis, 0)
    count = len(values)
    places = np.flatnonzero(body.any(axis=(1, 2)))
    middle = round(2 * float(np.argwhere(body)[:, 0].mean()))
    reach = max(1, round(_SEARCHED * 2 * (places[-1] - places[0])))
    best = 0.0
    for total in range(middle - reach, middle + reach + 1):
        one = np.arange(max(0, total - count + 1), min(count - 1, total) + 1)
        both = body[one] & body[total - one]
        if both.any():
            a, b = values[one][both], values[total - one][both]
            a, b = a - a.mean(), b - b.mean()
            scale = float(np.sqrt((a @ a) * (b @ b)))
            share = float(both.sum() / body.sum())
            best = max(best, share * float(a @ b) / scale if scale else 0.0)
    return best
