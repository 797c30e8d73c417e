"""Coded concepts: what a segment is, in words that every archive understands.

A name such as ``kidney_left`` stands for SNOMED CT codes, and a colour to show it in. Every code is
listed in PS3.16 and is checked against pydicom's copy of it by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pydicom.dataset import Dataset

Rgb = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Code:
    """One coded concept (PS3.3 Table 8.8-1): value, coding scheme, and its meaning in words."""

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        """Refuse what a code sequence cannot carry (PS3.5 Table 6.2-1: SH and LO)."""
        if not (0 < len(self.value) <= 16 and 0 < len(self.scheme) <= 16):
            raise ValueError("a code value and its scheme have 1 to 16 characters")
        if not 0 < len(self.meaning) <= 64:
            raise ValueError("a code's meaning has 1 to 64 characters")

    def to_dataset(self) -> Dataset:
        """Return the code as an item of a code sequence (PS3.3 8.8)."""
        item = Dataset()
        item.CodeValue = self.value
        item.CodingSchemeDesignator = self.scheme
        item.CodeMeaning = self.meaning
        return item

    @classmethod
    def from_dataset(cls, item: Dataset) -> Code:
        """Return the code that an item of a code sequence holds.

        Raises
        ------
        ValueError
            When value, scheme or meaning is missing.
        """
        # PS3.3 8.8: a value that is longer than SH holds stands in one of the other two.
        value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or ""
        scheme = item.get("CodingSchemeDesignator") or ""
        return cls(str(value), str(scheme), str(item.get("CodeMeaning") or ""))


@dataclass(frozen=True, slots=True)
class Structure:
    """A named thing that a segment can be: category, type, side, and a colour to show it in."""

    name: str
    category: Code
    type: Code
    laterality: Code | None
    rgb: Rgb


def cielab(rgb: Rgb) -> tuple[int, int, int]:
    """Return a colour as DICOM writes it for display.

    Parameters
    ----------
    rgb : tuple of int
        sRGB, 0 to 255 each.

    Returns
    -------
    tuple of int
        L*, a*, b* as unsigned 16-bit numbers: L* 0..100 and a*, b* -128..127 spread over 0..65535
        (PS3.3 C.10.7.1.1).
    """
    from highdicom.color import CIELabColor  # 20 MB: when it is needed

    lightness, a, b = CIELabColor.from_rgb(*rgb).value
    return int(lightness), int(a), int(b)


def rgb_of(lab: tuple[int, int, int]) -> Rgb:
    """Return the sRGB colour, 0 to 255 each, that DICOM's unsigned 16-bit CIELab stands for."""
    from highdicom.color import CIELabColor  # 20 MB: when it is needed

    red, green, blue = CIELabColor.from_dicom_value(lab).to_rgb(clip=True)
    return int(red), int(green), int(blue)


def _sct(value: str, meaning: str) -> Code:
    return Code(value, "SCT", meaning)


# PS3.16 CID 7150: segmentation property categories
ANATOMICAL_STRUCTURE = _sct("91723000", "Anatomical Structure")
MORPHOLOGICALLY_ABNORMAL = _sct("49755003", "Morphologically Abnormal Structure")
TISSUE = _sct("85756007", "Tissue")
BODY_SUBSTANCE = _sct("91720002", "Body Substance")

# SNOMED CT: what every structure is a kind of, for one that nothing more is known of
BODY_STRUCTURE = _sct("123037004", "Body structure")

# PS3.16 CID 244: laterality
LEFT = _sct("7771000", "Left")
RIGHT = _sct("24028007", "Right")

# PS3.16 CID 7162: algorithm families
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")


def _whole(name: str, value: str, meaning: str, rgb: Rgb) -> tuple[Structure, ...]:
    return (Structure(name, ANATOMICAL_STRUCTURE, _sct(value, meaning), None, rgb),)


def _paired(name: str, value: str, meaning: str, left: Rgb, right: Rgb) -> tuple[Structure, ...]:
    """Return the structure without a side, its left and its right one."""
    code = _sct(value, meaning)
    return (
        Structure(name, ANATOMICAL_STRUCTURE, code, None, left),
        Structure(f"{name}_left", ANATOMICAL_STRUCTURE, code, LEFT, left),
        Structure(f"{name}_right", ANATOMICAL_STRUCTURE, code, RIGHT, right),
    )


def _of(category: Code, name: str, value: str, meaning: str, rgb: Rgb) -> tuple[Structure, ...]:
    return (Structure(name, category, _sct(value, meaning), None, rgb),)


_ROWS: tuple[tuple[Structure, ...], ...] = (
    # head
    _whole("brain", "12738006", "Brain", (236, 152, 62)),
    _whole("brain_stem", "119238007", "Brain Stem", (120, 190, 120)),
    _whole("cerebellum", "113305005", "Cerebellum", (90, 150, 210)),
    _whole("hippocampus", "5366008", "Hippocampus", (222, 206, 70)),
    _whole("thalamus", "42695009", "Thalamus", (60, 168, 150)),
    _whole("brain_ventricle", "35764002", "Brain ventricle", (112, 102, 210)),
    _whole("spinal_cord", "2748008", "Spinal cord", (240, 220, 130)),
    _whole("skull", "89546000", "Skull", (232, 222, 190)),
    _paired("eye", "81745001", "Eye", (96, 176, 232), (64, 136, 204)),
    _whole("retina", "5665001", "Retina", (214, 110, 70)),
    _of(TISSUE, "grey_matter", "389081007", "Gray Matter", (168, 160, 160)),
    _of(TISSUE, "white_matter", "389080008", "White Matter", (244, 240, 216)),
    _of(BODY_SUBSTANCE, "cerebrospinal_fluid", "65216001", "Cerebrospinal Fluid", (88, 196, 232)),
    # chest
    _paired("lung", "39607008", "Lung", (126, 186, 226), (158, 212, 190)),
    _whole("heart", "80891009", "Heart", (206, 66, 76)),
    _whole("aorta", "15825003", "Aorta", (224, 72, 52)),
    _whole("trachea", "44567001", "Trachea", (184, 220, 244)),
    _whole("oesophagus", "32849002", "Esophagus", (210, 160, 112)),
    _whole("thyroid", "69748006", "Thyroid", (196, 92, 160)),
    # abdomen and pelvis
    _whole("liver", "10200004", "Liver", (190, 92, 72)),
    _whole("spleen", "78961009", "Spleen", (152, 82, 140)),
    _whole("pancreas", "15776009", "Pancreas", (240, 184, 112)),
    _whole("gallbladder", "28231008", "Gallbladder", (116, 168, 72)),
    _whole("stomach", "69695003", "Stomach", (226, 142, 160)),
    _whole("colon", "71854001", "Colon", (178, 148, 98)),
    _paired("kidney", "64033007", "Kidney", (206, 130, 62), (168, 98, 50)),
    _paired("adrenal_gland", "23451007", "Adrenal gland", (244, 212, 92), (214, 176, 62)),
    _whole("urinary_bladder", "89837001", "Bladder", (232, 210, 96)),
    _whole("prostate", "41216001", "Prostate", (202, 128, 186)),
    _whole("portal_vein", "32764006", "Portal vein", (78, 112, 196)),
    _whole("inferior_vena_cava", "64131007", "Inferior vena cava", (60, 92, 172)),
    # anywhere
    _whole("blood_vessel", "59820001", "Blood Vessel", (216, 60, 60)),
    _whole("artery", "51114001", "Artery", (220, 48, 48)),
    _whole("vein", "29092000", "Vein", (60, 88, 200)),
    _whole("bone", "272673000", "Bone", (240, 230, 200)),
    _whole("vertebra", "51282000", "Vertebra", (226, 212, 172)),
    _whole("rib", "113197003", "Rib", (234, 222, 184)),
    _whole("sternum", "56873002", "Sternum", (218, 204, 164)),
    _paired("femur", "71341001", "Femur", (232, 220, 182), (214, 200, 160)),
    _whole("muscle", "71616004", "Muscle", (192, 104, 88)),
    _whole("skin", "39937001", "Skin", (226, 180, 150)),
    _of(TISSUE, "fat", "55603005", "Fat", (236, 214, 122)),
    # what ought not to be there
    _of(MORPHOLOGICALLY_ABNORMAL, "tumour", "108369006", "Neoplasm", (122, 210, 88)),
    _of(MORPHOLOGICALLY_ABNORMAL, "mass", "4147007", "Mass", (150, 200, 70)),
    _of(MORPHOLOGICALLY_ABNORMAL, "nodule", "27925004", "Nodule", (180, 214, 60)),
    _of(MORPHOLOGICALLY_ABNORMAL, "lesion", "52988006", "Lesion", (208, 84, 196)),
    _of(MORPHOLOGICALLY_ABNORMAL, "cyst", "367643001", "Cyst", (92, 204, 204)),
    _of(MORPHOLOGICALLY_ABNORMAL, "haemorrhage", "50960005", "Hemorrhage", (168, 28, 36)),
    _of(MORPHOLOGICALLY_ABNORMAL, "oedema", "79654002", "Edema", (128, 148, 232)),
)

STRUCTURES: Mapping[str, Structure] = MappingProxyType(
    {structure.name: structure for row in _ROWS for structure in row}
)
"""Every structure by name; lower case, words joined by ``_``, the side last."""
