"""Every image series of the corpus: what it is, or the code why not; values as pydicom has them.

The corpus's index says what each file is there for: sizes and transfer syntaxes that are mixed
within a series, slices at one place, files without pixels, mosaics, tiles, missing frames of
reference. Expected is what a careful reader would say of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom.errors import InputError
from dicom.folder import read_folder
from dicom.study import Series
from dicom.volume import Kind, describe_series, read_pictures, read_volume
from dicom.volume.report import SeriesReport, report_series
from tests.dicom.test_volume_geometry import assert_same_place, by_simpleitk
from tests.series import DATA, real_series

CORPUS = DATA / "dicom-corpus"

# First file of the series: what it is, and shape (slices, rows, columns), pictures or code.
EXPECTED = {
    "dcm_qa_BSD2_siemens_csa/Orientation__axmb__AxAsc36mb2a__jpg1.dcm": ("mosaic", "mosaic"),
    "dcm_qa_BSD2_siemens_csa/Orientation__axmb__AxInt36mb__jp2k1.dcm": ("mosaic", "mosaic"),
    "dcmqi_BSD3/paramaps/pm-example-slice.dcm": ("slices", "1 256 256"),
    "dcmqi_BSD3/segmentations/23x38x3/image/IMG0001.dcm": ("slices", "3 38 23"),
    "dcmqi_BSD3/segmentations/23x38x3/multiframe/mf.dcm": ("slices", "3 38 23"),
    "dcmqi_BSD3/segmentations/24x38x3/image/IMG0001.dcm": ("slices", "3 38 24"),
    "dcmqi_BSD3/segmentations/24x38x3/multiframe/mf.dcm": ("slices", "3 38 24"),
    "dcmqi_BSD3/segmentations/ct-3slice/01.dcm": ("slices", "3 512 512"),
    "deid/deid-data_MIT/cookie1.dcm": ("picture", 1),
    "deid/deid-data_MIT/ctbrain1_phi_header.dcm": ("screen capture", 1),
    "deid/deid-data_MIT/us_greyscale.dcm": ("picture", 1),
    "deid/presidio_pseudo-phi/0_ORIGINAL_compressed.dcm": ("picture", "unreadable_pixels"),
    "deid/presidio_pseudo-phi/2_ORIGINAL.dcm": ("localiser", "localiser"),
    "highdicom_MIT/dx_image.dcm": ("picture", 1),
    "highdicom_MIT/sm_image.dcm": ("slide", "tiled_image"),
    "highdicom_MIT/sm_image_grayscale_reversed.dcm": ("slide", "tiled_image"),
    "highdicom_MIT/sm_image_jpegls.dcm": ("slide", "tiled_image"),
    "highdicom_MIT/sm_image_numbers.dcm": ("slide", "tiled_image"),
    "nema_wg04/J2KI/CT1_J2KI": ("slices", "doubled_slice"),
    "nema_wg04/J2KI/MR4_J2KI": ("slices", "doubled_slice"),
    "nema_wg04/J2KI/NM1_J2KI": ("picture", 10),
    "nema_wg04/J2KI/US1_J2KI": ("picture", 6),
    "nema_wg04/J2KI/VL6_J2KI": ("picture", 2),
    "nema_wg04/RLE/CT1_RLE": ("slices", "1 512 512"),
    "nema_wg04/RLE/MR4_RLE": ("slices", "1 512 512"),
    "nema_wg04/RLE/NM1_RLE": ("picture", 1),
    "nema_wg04/RLE/US1_RLE": ("picture", 1),
    "nema_wg04/RLE/VL6_RLE": ("picture", 1),
    "pydicom-data_MIT/693_UNCR.dcm": ("slices", "no_geometry"),
    "pydicom-data_MIT/MR-SIEMENS-DICOM-WithOverlays.dcm": ("reformat", "mixed_sizes"),
    "pydicom-data_MIT/MR2_J2KR.dcm": ("slices", "1 1024 1024"),
    "pydicom-data_MIT/OBXXXX1A_rle.dcm": ("picture", 2),
    "pydicom-data_MIT/RG1_J2KI.dcm": ("picture", 1),
    "pydicom-data_MIT/RG3_J2KR.dcm": ("picture", 1),
    "pydicom-data_MIT/SC_rgb_16bit.dcm": ("picture", 26),
    "pydicom-data_MIT/color-px.dcm": ("picture", 1),
    "pydicom-data_MIT/eCT_Supplemental.dcm": ("slices", "2 512 512"),
    "pydicom-data_MIT/emri_small_RLE.dcm": ("slices", "multi_frame"),
    "pydicom-data_MIT/explicit_VR-UN.dcm": ("slices", "no_geometry"),
    "pydicom_MIT/charset_files/chrArab.dcm": ("picture", 1),
    "pydicom_MIT/charset_files/chrFren.dcm": ("picture", 2),
    "pydicom_MIT/charset_files/chrGerm.dcm": ("picture", 1),
    "pydicom_MIT/charset_files/chrGreek.dcm": ("picture", 1),
    "pydicom_MIT/charset_files/chrH31.dcm": ("picture", 1),
    "pydicom_MIT/charset_files/chrH32.dcm": ("picture", 1),
    "pydicom_MIT/charset_files/chrHbrw.dcm": ("picture", 1),
    "pydicom_MIT/charset_files/chrI2.dcm": ("picture", 1),
    "pydicom_MIT/charset_files/chrJapMultiExplicitIR6.dcm": ("picture", "unreadable_pixels"),
    "pydicom_MIT/charset_files/chrKoreanMulti.dcm": ("picture", "unreadable_pixels"),
    "pydicom_MIT/charset_files/chrRuss.dcm": ("picture", 1),
    "pydicom_MIT/charset_files/chrX1.dcm": ("picture", 1),
    "pydicom_MIT/test_files/CT_small.dcm": ("slices", "1 128 128"),
    "pydicom_MIT/test_files/ExplVR_BigEnd.dcm": ("picture", 1),
    "pydicom_MIT/test_files/GDCMJ2K_TextGBR.dcm": ("picture", 1),
    "pydicom_MIT/test_files/J2K_pixelrep_mismatch.dcm": ("slices", "1 512 512"),
    "pydicom_MIT/test_files/MR_small.dcm": ("slices", "doubled_slice"),
    "pydicom_MIT/test_files/SC_jpeg_no_color_transform.dcm": ("picture", 1),
    "pydicom_MIT/test_files/SC_jpeg_no_color_transform_2.dcm": ("picture", 2),
    "pydicom_MIT/test_files/dicomdirtests/77654033/CR1/6154": ("picture", 1),
    "pydicom_MIT/test_files/dicomdirtests/77654033/CR2/6247": ("picture", 1),
    "pydicom_MIT/test_files/dicomdirtests/77654033/CR3/6278": ("picture", 1),
    "pydicom_MIT/test_files/dicomdirtests/77654033/CT2/17106": ("slices", "missing_slice"),
    "pydicom_MIT/test_files/dicomdirtests/98892001/CT2N/6293": ("localiser", "localiser"),
    "pydicom_MIT/test_files/dicomdirtests/98892001/CT5N/2062": ("slices", "5 16 16"),
    "pydicom_MIT/test_files/dicomdirtests/98892003/MR1/15820": ("localiser", "localiser"),
    "pydicom_MIT/test_files/dicomdirtests/98892003/MR1/4919": ("localiser", "localiser"),
    "pydicom_MIT/test_files/dicomdirtests/98892003/MR1/5641": ("localiser", "localiser"),
    "pydicom_MIT/test_files/dicomdirtests/98892003/MR2/15970": ("localiser", "localiser"),
    "pydicom_MIT/test_files/dicomdirtests/98892003/MR2/4950": ("slices", "mixed_orientations"),
    "pydicom_MIT/test_files/dicomdirtests/98892003/MR2/6273": ("slices", "mixed_orientations"),
    "pydicom_MIT/test_files/dicomdirtests/98892003/MR700/4467": ("projection", "derived_images"),
    "pydicom_MIT/test_files/examples_ybr_color.dcm": ("cine", 1),
    "pydicom_MIT/test_files/image_dfl.dcm": ("picture", 1),
    "rt-utils_MIT/mock_data/ct_1.dcm": ("slices", "2 512 512"),
    "rt-utils_MIT/one_slice_data/0.dcm": ("slices", "no_geometry"),
    "rt-utils_MIT/oriented_data/1.dcm": ("slices", "no_geometry"),
    "rt-utils_MIT/oriented_data/2.dcm": ("slices", "no_geometry"),
}


def series_of(root: Path) -> Iterator[tuple[str, Series]]:
    for study in read_folder(root).studies:
        for series in study.series:
            yield min(str(each.path.relative_to(root)) for each in series.instances), series


def told(report: SeriesReport) -> tuple[str, str | int]:
    if report.error is not None:
        return str(report.kind), report.error.code
    if report.pictures:
        return str(report.kind), len(report.pictures)
    return str(report.kind), "; ".join(" ".join(map(str, v.shape_kji)) for v in report.volumes)


@pytest.fixture(scope="module")
def corpus() -> dict[str, Series]:
    if not CORPUS.exists():
        pytest.skip("real data (shared/data) is absent")
    return dict(series_of(CORPUS))


def test_each_series_is_told_for_what_it_is(corpus: dict[str, Series]) -> None:
    reports = {name: report_series(series) for name, series in corpus.items()}
    images = {name: told(r) for name, r in reports.items() if r.kind is not Kind.DOCUMENT}
    assert images == EXPECTED
    for report in reports.values():
        if report.kind is Kind.DOCUMENT:
            assert report.error is not None
            assert report.error.code == "not_an_image"


@pytest.mark.filterwarnings("ignore")  # pydicom's, of what the files are there for
def test_values_are_those_that_pydicom_reads(corpus: dict[str, Series]) -> None:
    compared = 0
    for name, (kind, _) in EXPECTED.items():
        series = corpus[name]
        try:
            if kind in ("slices", "reformat"):
                pairs = [
                    (voxels_ji, source.instance.path, (source.frame_number or 1) - 1)
                    for volume in [read_volume(series)]
                    for voxels_ji, source in zip(volume.voxels_kji, volume.sources, strict=True)
                ]
            else:
                pairs = [
                    (pixels, source.instance.path, (source.frame_number or 1) - 1)
                    for picture in read_pictures(series)
                    for pixels, source in zip(picture.pixels_fji, picture.sources, strict=True)
                ]
        except InputError:
            continue
        for found, path, frame in pairs[:3]:
            compared += assert_as_pydicom(name, found, path, frame)
    assert compared > 45


def assert_as_pydicom(name: str, found: np.ndarray, path: Path, frame: int) -> bool:
    """Compare one plane; YBR and palettes are tested where they are decoded."""
    ds = dcmread(path)
    if ds.SamplesPerPixel == 3 and ds.PhotometricInterpretation != "RGB":
        return False
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        return False
    try:
        stored = ds.pixel_array
    except (RuntimeError, ValueError, AttributeError):
        return False
    if int(ds.get("NumberOfFrames") or 1) > 1:
        stored = stored[frame]
    if ds.PhotometricInterpretation == "MONOCHROME1" and ds.Modality not in ("CT", "PT"):
        stored = 2**ds.BitsStored - 1 - stored.astype(int)
    slope, intercept = ds.get("RescaleSlope", 1), ds.get("RescaleIntercept", 0)
    if "PerFrameFunctionalGroupsSequence" in ds:
        groups = ds.PerFrameFunctionalGroupsSequence[frame], ds.SharedFunctionalGroupsSequence[0]
        macro = next(
            group.PixelValueTransformationSequence[0]
            for group in groups
            if "PixelValueTransformationSequence" in group
        )
        slope, intercept = macro.RescaleSlope, macro.RescaleIntercept
    if ds.SamplesPerPixel == 1:
        stored = stored * float(slope) + float(intercept)
    np.testing.assert_allclose(found, stored, rtol=1e-6, err_msg=name)
    return True


@pytest.mark.parametrize("size", ["24x38x3", "23x38x3"])
def test_a_series_and_its_legacy_converted_frames_are_one(
    corpus: dict[str, Series], size: str
) -> None:
    folder = f"dcmqi_BSD3/segmentations/{size}"
    classic = read_volume(corpus[f"{folder}/image/IMG0001.dcm"])
    enhanced = read_volume(corpus[f"{folder}/multiframe/mf.dcm"])
    np.testing.assert_allclose(enhanced.affine_lps, classic.affine_lps, atol=1e-6)
    np.testing.assert_array_equal(enhanced.voxels_kji, classic.voxels_kji)


@pytest.mark.parametrize(
    ("archive", "shape", "spacing", "orientation"),
    [
        # 2.0 mm apart, though SliceThickness says 3.2; z falls with InstanceNumber
        ("ct/chaos_ct_set3/DICOM_anon.tar.xz", (78, 512, 512), (2.0, 0.7266, 0.7266), "axial"),
        ("mr/sag_anon_t1_dicom/dicom.tar.xz", (192, 256, 256), (0.9, 0.8594, 0.8594), "sagittal"),
        ("mr/fruit_ge_t1_dicom/dicom.tar.gz", (196, 256, 256), (1.2, 1.0547, 1.0547), "sagittal"),
    ],
    ids=["CHAOS", "head", "fruit"],
)
def test_whole_real_series_lie_where_simpleitk_has_them(
    tmp_path: Path,
    archive: str,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    orientation: str,
) -> None:
    series = real_series(archive, tmp_path)
    volume = read_volume(series)
    assert volume.shape_kji == shape
    np.testing.assert_allclose(volume.spacing_kji, spacing, atol=1e-4)
    facts = describe_series(series)
    assert (facts.orientation, facts.kind) == (orientation, "slices")
    assert facts.contrast_agent == ("chaos" in archive)
    assert volume.unit == ("HU" if "chaos" in archive else "")

    voxels, affine = by_simpleitk(series, volume.instances[0].path.parent)
    to_theirs = np.linalg.solve(affine, volume.affine_lps)
    if to_theirs[0, 0] < 0:  # theirs run the other way
        voxels, to_theirs = voxels[::-1], to_theirs * [[-1], [1], [1], [1]]
        to_theirs[0, 3] += len(voxels) - 1
    np.testing.assert_allclose(to_theirs, np.eye(4), atol=1e-2)
    np.testing.assert_array_equal(volume.voxels_kji, voxels)


@pytest.mark.parametrize("patient", ["STS_008", "STS_042"])
def test_soft_tissue_sarcoma_series_lie_where_simpleitk_has_them(
    tmp_path: Path, patient: str
) -> None:
    real_series(f"ct/sts/{patient}.tar.gz", tmp_path)
    volumes = {}
    for study in read_folder(tmp_path).studies:
        for series in study.series:
            if series.modality in ("CT", "MR", "PT"):
                volume = volumes[series.modality] = read_volume(series)
                voxels, affine = by_simpleitk(series, series.instances[0].path.parent)
                assert_same_place(volume, voxels.astype(volume.voxels_kji.dtype), affine)
    assert (volumes["PT"].unit, volumes["PT"].suv_factor) == ("SUVbw", 1.0)
    assert volumes["CT"].unit == "HU"
    for one, other in itertools.combinations(volumes.values(), 2):
        assert one.frame_of_reference_uid == other.frame_of_reference_uid


def test_a_lung_phantom_is_three_millimetres_apart(tmp_path: Path) -> None:
    real_series("ct/unclear/ibsi1_lung_ct_phantom_CC-BY-NC/dicom.tar.gz", tmp_path)
    (series,) = [
        series
        for study in read_folder(tmp_path).studies
        for series in study.series
        if series.modality == "CT"
    ]
    volume = read_volume(series)
    assert volume.shape_kji == (60, 201, 204)
    np.testing.assert_allclose(volume.spacing_kji, (3.0, 0.977, 0.977), atol=1e-3)
    assert_same_place(volume, *by_simpleitk(series, series.instances[0].path.parent))
