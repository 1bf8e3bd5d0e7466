"""DICOM: grey levels as in a viewer, the requested frame and window, and nothing about the patient."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from radvqa_jax.data.dicom import ALLOWED, capped_age, is_dicom, read_dicom

from .dicom_case import HU, broken, ct, make

try:
    import pydicom
    import pydicom.config
    import pydicom.encaps
    import pydicom.pixels
    from pydicom.data import get_testdata_file
    from pydicom.dataset import Dataset
except ImportError:
    pytest.skip("pydicom is not installed: pip install -e '.[dicom]'", allow_module_level=True)


def grey(data: bytes, **options: Any) -> np.ndarray:
    image = read_dicom(data, **options).image
    assert image.dtype == np.uint8 and (image == image[..., :1]).all()
    return image[..., 0]


def test_a_named_window_is_in_hounsfield_units() -> None:
    found = read_dicom(ct(), window="lung")
    expected = np.rint(255 * np.clip((HU + 600 + 750) / 1500, 0, 1))
    assert np.array_equal(found.image[..., 0], expected)
    assert found.window == "lung: centre -600, width 1500 HU"


def test_the_window_of_the_file_is_linear_as_the_standard_says() -> None:
    """PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) * range."""
    found = read_dicom(ct(WindowCenter=40, WindowWidth=400))
    expected = np.clip((HU - 39.5) / 399 + 0.5, 0, 1) * 255
    assert np.abs(found.image[..., 0] - expected).max() <= 0.51
    assert found.window == "of the file: LINEAR centre 40, width 400"
    several = read_dicom(ct(WindowCenter=[40, -600], WindowWidth=[400, 1500]))
    assert np.array_equal(several.image, found.image) and several.window == found.window


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_a_negative_slope_turns_the_levels_and_nothing_else(function: str, kind: type) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "VOILUTFunction": function, "Modality": "CT"}
    stored = np.linspace(0, 4095, 64).astype(kind).reshape(8, 8)
    turned = grey(make(stored, RescaleSlope=-1, RescaleIntercept=4095, **window))
    assert np.array_equal(
        turned, grey(make((4095 - stored).astype(kind), RescaleSlope=1, RescaleIntercept=0, **window))
    )
    assert turned.max() > 200 and turned.min() < 50


def test_a_sigmoid_window_is_applied() -> None:
    found = read_dicom(ct(WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID"))
    expected = 255 / (1 + np.exp(-4 * (HU - 40) / 400))
    assert np.abs(found.image[..., 0] - expected).max() <= 0.51
    assert found.window.startswith("of the file: SIGMOID")


def test_a_voi_lut_comes_before_the_window() -> None:
    item = Dataset()
    item.LUTDescriptor = [4, 0, 16]
    item.add_new(0x00283006, "OW", np.array([0, 1000, 30000, 65535], np.uint16).tobytes())
    stored = np.array([[0, 1], [2, 3]], np.uint16)
    found = read_dicom(make(stored, VOILUTSequence=[item], WindowCenter=1, WindowWidth=2))
    assert found.image[..., 0].tolist() == [[0, 4], [117, 255]]
    assert found.window == "VOI LUT of the file"


def test_without_a_window_the_range_of_the_frame_is_used_without_padding() -> None:
    stored = np.array([[-2000, 0], [50, 100]], np.int16)
    found = read_dicom(make(stored, PixelPaddingValue=-2000))
    assert found.image[..., 0].tolist() == [[0, 0], [128, 255]]
    assert "0 to 100" in found.window
    padded = read_dicom(make(stored, PixelPaddingValue=-2000, PixelPaddingRangeLimit=0))
    assert "50 to 100" in padded.window and padded.image[..., 0].tolist() == [[0, 0], [0, 255]]
    assert grey(make(np.full((2, 2), 7, np.uint16))).tolist() == [[0, 0], [0, 0]]


def test_sixteen_bits_keep_their_steps_and_monochrome1_is_inverted() -> None:
    stored = np.array([[0, 16384], [32768, 65535]], np.uint16)
    assert grey(make(stored)).tolist() == [[0, 64], [128, 255]]
    found = read_dicom(make(stored, PhotometricInterpretation="MONOCHROME1"))
    assert found.image[..., 0].tolist() == [[255, 191], [127, 0]]
    assert found.window.endswith("MONOCHROME1, shown inverted")
    for term in ("MONOCHROME1", "MONOCHROME2"):  # two notes of it are one inversion
        found = read_dicom(make(stored, PhotometricInterpretation=term, PresentationLUTShape="INVERSE"))
        assert found.image[..., 0].tolist() == [[255, 191], [127, 0]]
        assert found.window.endswith("PresentationLUTShape INVERSE, shown inverted")


@pytest.mark.parametrize(("term", "said"), [("HSV", "of the kind HSV"), ("SECRET", "that the standard does not know")])
def test_colours_that_are_not_read_are_refused(term: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"pixels are .*{said}.*Convert it to RGB") as found:
        read_dicom(make(np.zeros((2, 2), np.uint8), PhotometricInterpretation=term))
    assert "SECRET" not in str(found.value)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({}, "the file has none: all values of this frame, 0 to 200"),
        ({"WindowWidth": 50}, "the file has WindowWidth without WindowCenter, which is no window: all values"),
        ({"WindowCenter": 50}, "the file has WindowCenter without WindowWidth, which is no window: all values"),
        ({"WindowWidth": 50, "WindowCenter": None}, "the file has WindowWidth without WindowCenter"),
    ],
)
def test_an_incomplete_window_is_reported(tags: dict[str, Any], said: str) -> None:
    found = read_dicom(make(np.array([[0, 200]], np.uint8), **tags))
    assert found.window.startswith(said) and found.image[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    ("tags", "oblong"),
    [
        ({"PixelAspectRatio": [1, 2]}, True),
        ({"PixelSpacing": [0.5, 0.7]}, True),
        ({"PixelSpacing": [0.5, 0.501], "PixelAspectRatio": [1, 1]}, False),
        ({}, False),
    ],
)
def test_pixels_that_are_not_square_are_reported(tags: dict[str, Any], oblong: bool) -> None:
    found = read_dicom(make(np.zeros((2, 2), np.uint8), **tags))
    assert any("not square" in note for note in found.warnings) is oblong


def test_a_frame_is_chosen() -> None:
    stored = np.arange(3, dtype=np.uint8)[:, None, None] * np.array([[0, 1], [50, 100]], np.uint8)
    data = make(stored, WindowCenter=128, WindowWidth=256)
    assert [int(grey(data, frame=number).max()) for number in (1, 2, 3)] == [0, 100, 200]
    assert (read_dicom(data, frame=3).frame, read_dicom(data).frames) == (3, 3)
    for wrong in (0, 4):
        with pytest.raises(ValueError, match=rf"ask\.frame={wrong}, but the DICOM file has frames 1 to 3"):
            read_dicom(data, frame=wrong)


def test_an_enhanced_file_has_a_window_for_each_frame() -> None:
    def group(centre: float) -> Dataset:
        voi, rescale, frame = Dataset(), Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, 101
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 2, -100, "HU"
        frame.FrameVOILUTSequence, frame.PixelValueTransformationSequence = [voi], [rescale]
        return frame

    stored = np.array([[[0, 50], [75, 100]]] * 2, np.uint16)
    data = make(stored, PerFrameFunctionalGroupsSequence=[group(0.5), group(50.5)])
    values = 2.0 * stored[0] - 100
    for number, centre in ((1, 0.0), (2, 50.0)):
        expected = np.clip((values - centre) / 100 + 0.5, 0, 1) * 255
        assert np.abs(grey(data, frame=number) - expected).max() <= 0.51


def test_colour_is_read() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0, "Rows": 4, "Columns": 5}
    data = make(pixels, **tags, NumberOfFrames=1)
    assert np.array_equal(read_dicom(data).image, pixels)
    with pytest.raises(ValueError, match="does not apply to a colour image"):
        read_dicom(data, window="lung")


def test_only_allowed_tags_come_out_and_only_as_codes() -> None:
    found = read_dicom(ct(PatientAge="093Y", PatientSex="F", BodyPartExamined="CHEST", ViewPosition="Doe, Jane"))
    assert set(found.tags) <= set(ALLOWED)
    assert found.tags["PatientAge"] == "over 89 years" and found.tags["PatientSex"] == "F"
    assert "ViewPosition" not in found.tags  # no term
    assert "Doe" not in repr(found._replace(image=np.zeros(1))) and "2020" not in repr(found.tags)
    assert (capped_age("089Y"), capped_age("090Y"), capped_age("999M")) == ("089Y", "over 89 years", "999M")


@pytest.mark.parametrize(("said", "warned"), [("NO", False), ("YES", True), (None, True)])
def test_text_in_the_pixels_is_warned_of(said: str | None, warned: bool) -> None:
    found = read_dicom(ct(**({"BurnedInAnnotation": said} if said else {})))
    assert bool(found.warnings) == warned


@pytest.mark.parametrize("data", [b"", b"\0" * 128 + b"DICM" + b"Doe" * 9, broken(ct())], ids=["empty", "cut", "short"])
def test_errors_and_logs_say_nothing_of_the_patient(
    data: bytes, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="DICOM file") as raised:
            read_dicom(data)
    said = f"{raised.value}{caplog.text}{[str(w.message) for w in warned]}{capsys.readouterr()}"
    assert "Doe" not in said and raised.value.__suppress_context__ | (raised.value.__context__ is None)


def test_an_unknown_window_and_one_for_another_modality_are_refused() -> None:
    with pytest.raises(ValueError, match=r"ask\.window='lungs' is not a window\. Did you mean"):
        read_dicom(ct(), window="lungs")
    with pytest.raises(ValueError, match="only a CT with rescale values has"):
        read_dicom(make(HU.astype(np.int16), Modality="MR"), window="brain")
    with pytest.raises(ValueError, match="in Hounsfield units, and the RescaleType of the DICOM file is another"):
        read_dicom(ct(RescaleType="US"), window="lung")
    assert np.array_equal(grey(ct(RescaleType="HU"), window="lung"), grey(ct(), window="lung"))


def test_dicom_is_recognised_by_its_bytes() -> None:
    assert is_dicom(ct()) and not is_dicom(b"\x89PNG\r\n") and not is_dicom(b"")


@pytest.mark.parametrize("name", ["Modality", "BodyPartExamined", "ViewPosition", "Laterality", "PatientSex"])
@pytest.mark.parametrize("typed", ["DOE JANE", "DOE", "1234567", "19500101", "DOE_JANE_1950"])
def test_free_text_in_a_code_field_is_not_shown(name: str, typed: str) -> None:
    found = read_dicom(make(HU.astype(np.int16), **{name: typed}))
    assert name not in found.tags and typed not in repr(found._replace(image=np.zeros(1)))


def test_terms_of_the_standard_are_shown() -> None:
    tags = {"Modality": "DX", "BodyPartExamined": "CHESTABDPELVIS", "ViewPosition": "PA"}
    assert tags.items() <= read_dicom(make(HU.astype(np.int16), **tags)).tags.items()


@pytest.mark.parametrize("value", ["NaN", "inf", "-inf", "1e999"])
@pytest.mark.parametrize("name", ["WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"])
def test_an_invalid_number_is_an_error_and_gives_no_black_image(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"The DICOM file's {name} is not a finite number"):
        read_dicom(ct(**({"WindowCenter": 40, "WindowWidth": 400} | {name: value})))


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "examples_rgb_color.dcm"])
def test_real_files_are_read_without_the_patients_name(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom does not bring {name} along")
    assert isinstance(path, str)
    data = Path(path).read_bytes()
    ds, found = pydicom.dcmread(path), read_dicom(data)
    assert found.image.shape == (ds.Rows, ds.Columns, 3)
    assert found.image.std() > 5
    assert str(ds.PatientName) not in repr(found.tags)
