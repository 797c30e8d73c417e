"""radloop's own table in a bundle: what MONAI's metadata cannot say.

It is the object ``radloop`` of configs/metadata.json, or the file configs/radloop.json beside it,
as an import writes it for a bundle that it leaves untouched::

    {
      "task": "segmentation",
      "segments": [{"number": 1, "label": "Brain",
                    "category": {"value": "91723000", "scheme": "SCT",
                                 "meaning": "Anatomical Structure"},
                    "type": {"value": "12738006", "scheme": "SCT", "meaning": "Brain"},
                    "region": null, "laterality": null, "rgb": [236, 152, 62]}],
      "suits": {"modalities": ["MR"], "min_slices": 20, "orientations": ["axial", "sagittal"]},
      "algorithm": {"name": "...", "family": {"value": "123110", "scheme": "DCM", "meaning": "..."}}
    }

All other fields may be left out; docs/models.md has a page on each. A field that is not known is a
misspelling, and refused.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from dicom.codes import Code
from dicom.volume import Mending, Orientation
from models.tasks import Activation, After, Aggregate, Finding, Input, Prompted, Wanted, Without

METADATA = "configs/metadata.json"
TABLE = "configs/radloop.json"

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
# PS3.5 Table 6.2-1: LO, the representation of labels and names that a SEG carries.
ShortText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=64)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Shade = Annotated[int, Field(ge=0, le=255)]
Number = Annotated[int, Field(ge=1, le=255)]  # labels are uint8
Whole = Annotated[str, StringConstraints(pattern=r"^\d{1,4}$")]
Range = tuple[float, float]


def _regular(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_regular)]


class Strict(BaseModel):
    """Ours: an unknown field is a misspelling."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SegmentRow(Strict):
    """One segment, with its codes."""

    number: Number
    label: ShortText
    category: Code
    type: Code
    region: Code | None = None
    laterality: Code | None = None
    rgb: tuple[Shade, Shade, Shade]


class FindingRow(Strict):
    """One class of a classification or detection, with its code."""

    number: Annotated[int, Field(ge=0, le=9999)]
    label: ShortText
    code: Code
    region: Code | None = None

    def finding(self) -> Finding:
        """Return it as what the rest of the house knows."""
        return Finding(self.number, self.label, self.code, self.region)


class Suits(Strict):
    """Which series the model was made for."""

    modalities: Annotated[tuple[ShortText, ...], Field(min_length=1)]
    min_slices: Annotated[int, Field(ge=1)]
    orientations: Annotated[tuple[Orientation, ...], Field(min_length=1)] | None = None


class AlgorithmRow(Strict):
    """What results say of the algorithm."""

    name: ShortText
    family: Code


class InstanceMaps(Strict):
    """Where the postprocessing leaves its map of instances, and that of their kinds."""

    map: Key | None = None
    kinds: Key | None = None
    min_voxels: Annotated[int, Field(ge=1)] = 1


class InputRow(Strict):
    """One image that the model needs, and how it is known among a study's series."""

    name: ShortText
    key: Key | None = None
    colour: bool = False
    modalities: tuple[ShortText, ...] = ()
    description: Pattern = ""
    not_description: Pattern = ""
    protocol: Pattern = ""
    contrast: bool | None = None
    image_type: tuple[ShortText, ...] = ()
    not_image_type: tuple[ShortText, ...] = ()
    sequence: dict[
        Literal["EchoTime", "RepetitionTime", "InversionTime", "FlipAngle"], Range
    ] | None = None  # fmt: skip

    def input(self, only_key: str) -> Input:
        """Return it as what the rest of the house knows; `only_key` where it names no key."""
        wanted = Wanted(
            modalities=self.modalities,
            description=self.description,
            not_description=self.not_description,
            protocol=self.protocol,
            contrast=self.contrast,
            image_type=self.image_type,
            not_image_type=self.not_image_type,
            sequence={str(k): v for k, v in self.sequence.items()} if self.sequence else None,
        )
        return Input(self.name, self.key or only_key, self.colour, wanted)


class AfterRow(Strict):
    """The model that looks first."""

    bundle: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*@\d[^/\s]*$")]
    segment: ShortText
    margin_mm: Annotated[float, Field(ge=0, le=1000)] = 20.0

    def after(self) -> After:
        """Return it as what the rest of the house knows."""
        return After(self.bundle, self.segment, self.margin_mm)


class WithoutRow(Strict):
    """The model whose boxes are painted over before anything else looks."""

    bundle: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*@\d[^/\s]*$")]
    margin: Annotated[float, Field(ge=0, le=1)] = 0.15

    def without(self) -> Without:
        """Return it as what the rest of the house knows."""
        return Without(self.bundle, self.margin)


class PromptsRow(Strict):
    """Which inputs are made of a reader's clicks."""

    positive: ShortText
    negative: ShortText
    previous: ShortText | None = None
    box: ShortText | None = None
    sigma_mm: Annotated[float, Field(gt=0, le=100)] = 2.0
    reach_mm: Annotated[float, Field(gt=0, le=1000)] | None = 40.0
    any_structure: bool = False

    def prompted(self) -> Prompted:
        """Return it as what the rest of the house knows."""
        return Prompted(
            self.positive,
            self.negative,
            self.previous or "",
            self.box or "",
            self.sigma_mm,
            self.reach_mm,
            self.any_structure,
        )


class Table(Strict):
    """The whole table."""

    task: Literal["segmentation", "instances", "classification", "detection"] = "segmentation"
    segments: tuple[SegmentRow, ...] = ()
    findings: tuple[FindingRow, ...] = ()
    channels: dict[Whole, Text] | None = None
    values: dict[Whole, Text] | None = None
    overlapping: bool = False
    background: float | None = None
    instances: InstanceMaps = InstanceMaps()
    activation: Activation = "none"
    over_slices: Aggregate = "max"
    question: Code | None = None
    min_score: Annotated[float, Field(ge=0, le=1)] = 0.0
    dimensions: Literal["2d", "2.5d", "3d"] = "3d"
    neighbours: Annotated[int, Field(ge=1, le=16)] = 1
    inputs: tuple[InputRow, ...] = ()
    registration: Literal["auto", "always", "never"] = "auto"
    after: AfterRow | None = None
    without: WithoutRow | None = None
    prompts: PromptsRow | None = None
    mending: tuple[Mending, ...] = ()
    suits: Suits
    algorithm: AlgorithmRow
    files: dict[Text, Sha256] = Field(default_factory=dict)
    provenance: dict[Text, str] = Field(default_factory=dict)


class Channels(BaseModel):
    """MONAI's description of a tensor: the fields that are used; the rest is for other readers."""

    num_channels: Annotated[int, Field(ge=1)]
    channel_def: dict[Whole, Text] = Field(default_factory=dict)


class DataFormat(BaseModel):
    """MONAI's ``network_data_format``."""

    inputs: Annotated[dict[str, Channels], Field(min_length=1)]
    outputs: Annotated[dict[str, Channels], Field(min_length=1)]


class Metadata(BaseModel):
    """MONAI's metadata.json, as far as it is used, with our table where it holds one."""

    name: Text
    version: Text
    description: str = ""
    authors: Text
    intended_use: str = ""
    network_data_format: DataFormat
    radloop: Table | None = None
