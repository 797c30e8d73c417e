"""What kinds of task a bundle can be made for: one type each, with what its answer needs.

No torch here. The answers themselves are the types of :mod:`models.prediction`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from dicom.codes import Code
from dicom.seg import Segment

Activation: TypeAlias = Literal["none", "softmax", "sigmoid"]
Aggregate: TypeAlias = Literal["max", "mean"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a classification or a detection can say.

    Attributes
    ----------
    number : int
        The network's class that means it.
    label : str
        Name for people.
    code : Code
        What it is.
    region : Code or None
        Where, when the code alone does not say it.
    """

    number: int
    label: str
    code: Code
    region: Code | None = None


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Which voxels belong to which segment; answered by Labels, or by Masks where they overlap.

    Attributes
    ----------
    segments : tuple of Segment
        What it can find.
    channel_numbers : tuple of int
        Segment number of each output channel; 0 is background.
    value_numbers : Mapping of int to int, or None
        Segment number of each value, where the bundle's own postprocessing ends in one map of
        other values than channel indices (the 1, 2, 4 of BraTS).
    overlapping : bool
        A voxel can be in several segments; the postprocessing ends in one mask a channel.
    background : float or None
        A window in which no value, as the network is given it, is above this is background and
        not looked at; None: every window is.
    """

    segments: tuple[Segment, ...]
    channel_numbers: tuple[int, ...]
    value_numbers: Mapping[int, int] | None = None
    overlapping: bool = False
    background: float | None = None


@dataclass(frozen=True, slots=True)
class InstanceSegmentation:
    """Single things, each a segment of its own; answered by Instances.

    Attributes
    ----------
    segments : tuple of Segment
        The kinds of thing.
    channel_numbers : tuple of int
        Segment number of each output channel, and of each value of the map of kinds.
    map_name, kinds_name : str
        Names of the map of instances, and of the map of their kinds, after the postprocessing;
        empty where the network makes none: then touching voxels of one segment are one instance.
    min_voxels : int
        Smaller ones are dropped.
    """

    segments: tuple[Segment, ...]
    channel_numbers: tuple[int, ...]
    map_name: str = ""
    kinds_name: str = ""
    min_voxels: int = 1


@dataclass(frozen=True, slots=True)
class Classification:
    """How probable each finding is for the image; answered by Classes.

    Attributes
    ----------
    findings : tuple of Finding
        One for each of the network's classes, by number from 0.
    activation : str
        Laid over what the network says, in place of the bundle's postprocessing; 'none' leaves it
        to that.
    over_slices : str
        How the slices' probabilities become the series', where the model looks at slices.
    question : Code or None
        What is asked, whose answer the most probable finding is: the view of an image.
    """

    findings: tuple[Finding, ...]
    activation: Activation = "none"
    over_slices: Aggregate = "max"
    question: Code | None = None


@dataclass(frozen=True, slots=True)
class Detection:
    """Boxes around things; answered by Boxes.

    Attributes
    ----------
    findings : tuple of Finding
        By the network's class.
    min_score : float
        Boxes below it are dropped.
    """

    findings: tuple[Finding, ...]
    min_score: float = 0.0


Task: TypeAlias = Segmentation | InstanceSegmentation | Classification | Detection


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which series of a study an input takes; a condition that is not given holds always.

    Attributes
    ----------
    modalities : tuple of str
        Modality is one of these.
    description, protocol : str
        Regular expressions, found in the cleaned SeriesDescription and ProtocolName; upper and
        lower case are the same.
    not_description : str
        Not found in either.
    contrast : bool or None
        Whether a contrast agent is named.
    image_type, not_image_type : tuple of str
        All of these, and none of these, among the values of ImageType.
    sequence : Mapping of str to tuple of float
        Range, both ends included, of EchoTime, RepetitionTime, InversionTime (ms) or FlipAngle
        (degrees).
    """

    modalities: tuple[str, ...] = ()
    description: str = ""
    not_description: str = ""
    protocol: str = ""
    contrast: bool | None = None
    image_type: tuple[str, ...] = ()
    not_image_type: tuple[str, ...] = ()
    sequence: Mapping[str, tuple[float, float]] | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """One image that the bundle needs.

    Attributes
    ----------
    name : str
        How people call it: `image`, `T1c`.
    key : str
        Its name in the bundle's transforms; inputs of one key are its channels, in their order.
    colour : bool
        Red, green and blue; a grey image is given three times.
    wanted : Wanted
        Which series of a study it is.
    """

    name: str
    key: str
    colour: bool = False
    wanted: Wanted = Wanted()


@dataclass(frozen=True, slots=True)
class Prompted:
    """Which inputs the node makes of a reader's clicks (:mod:`models.prompts.promptable`).

    Attributes
    ----------
    positive, negative, previous, box : str
        Names of inputs; empty where the bundle has no such input.
    sigma_mm : float
        Of the Gaussian at each click.
    reach_mm : float or None
        How far around clicks, box and mask the network is shown; None: the whole image.
    any_structure : bool
        It follows the clicks whatever the structure is; else it is for its own segment.
    """

    positive: str
    negative: str
    previous: str
    box: str
    sigma_mm: float
    reach_mm: float | None
    any_structure: bool


@dataclass(frozen=True, slots=True)
class Without:
    """Another bundle, a detection: what it finds is painted over before this one looks.

    Attributes
    ----------
    bundle : str
        NAME@VERSION.
    margin : float
        How much larger than its box the painted part is on each side, as a share of the box.
    """

    bundle: str
    margin: float


@dataclass(frozen=True, slots=True)
class After:
    """Another bundle that looks first; this one is given what lies about a segment of its answer.

    Attributes
    ----------
    bundle : str
        NAME@VERSION.
    segment : str
        Its segment, by label.
    margin_mm : float
        How far the region reaches beyond the segment, along each axis of the grid.
    """

    bundle: str
    segment: str
    margin_mm: float
