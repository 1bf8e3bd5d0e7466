"""DICOM: the grey that a viewer would show, the frame and window asked for, and nothing about the patient."""

import io
import logging
import warnings
from typing import Any

import numpy as np
import pytest

from radvqa_jax.data.dicom import ALLOWED, capped_age, is_dicom, read_dicom

try:
    import pydicom
    from pydicom.data import get_testdata_file
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
except ImportError:
    pytest.skip("pydicom is not installed: pip install -e '.[dicom]'", allow_module_level=True)

SECRET = "Doe^Jane"
HU = np.array([[-1024, -1000, -600], [-100, 0, 40], [80, 400, 3000]])


def make(pixels: np.ndarray, **tags: Any) -> bytes:
    """Returns a DICOM file with these pixels [h w] or [frames h w], full of what may not be shown."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.PatientName, ds.PatientID, ds.InstitutionName, ds.StudyDate = SECRET, SECRET, SECRET, "20200102"
    ds.StudyDescription = ds.ImageComments = SECRET
    ds.Rows, ds.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        ds.NumberOfFrames = len(pixels)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * pixels.dtype.itemsize
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = bits, bits, bits - 1
    ds.PixelRepresentation = int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    file = io.BytesIO()
    with pydicom.config.disable_value_validation():  # some have values that they may not have
        for name, value in tags.items():
            setattr(ds, name, value)
        ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def ct(**tags: Any) -> bytes:
    stored = (HU + 1024).astype(np.uint16)
    return make(stored, **({"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024} | tags))


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


def test_a_sigmoid_window() -> None:
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


def test_without_a_window_the_range_of_the_frame_without_padding() -> None:
    stored = np.array([[-2000, 0], [50, 100]], np.int16)
    found = read_dicom(make(stored, PixelPaddingValue=-2000))
    assert found.image[..., 0].tolist() == [[0, 0], [128, 255]]
    assert "0 to 100" in found.window
    assert grey(make(np.full((2, 2), 7, np.uint16))).tolist() == [[0, 0], [0, 0]]


def test_sixteen_bits_keep_their_steps_and_monochrome1_is_inverted() -> None:
    stored = np.array([[0, 16384], [32768, 65535]], np.uint16)
    assert grey(make(stored)).tolist() == [[0, 64], [128, 255]]
    found = read_dicom(make(stored, PhotometricInterpretation="MONOCHROME1"))
    assert found.image[..., 0].tolist() == [[255, 191], [127, 0]]
    assert found.window.endswith("MONOCHROME1, shown inverted")


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


def test_colour() -> None:
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
    assert "ViewPosition" not in found.tags  # no code
    assert "Doe" not in repr(found._replace(image=np.zeros(1))) and "2020" not in repr(found.tags)
    assert (capped_age("089Y"), capped_age("090Y"), capped_age("999M")) == ("089Y", "over 89 years", "999M")


@pytest.mark.parametrize(("said", "warned"), [("NO", False), ("YES", True), (None, True)])
def test_text_in_the_pixels_is_warned_of(said: str | None, warned: bool) -> None:
    found = read_dicom(ct(**({"BurnedInAnnotation": said} if said else {})))
    assert bool(found.warnings) == warned


def broken(data: bytes) -> bytes:
    """Returns a file whose tags have values that pydicom warns of, and too few pixels."""
    ds = pydicom.dcmread(io.BytesIO(data))
    ds.PixelData = ds.PixelData[:4]
    file = io.BytesIO()
    ds.save_as(file)
    return file.getvalue().replace(b"20200102", b"Jane-Doe")


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


def test_what_a_window_needs() -> None:
    with pytest.raises(ValueError, match=r"ask\.window='lungs' is no window\. Did you mean"):
        read_dicom(ct(), window="lungs")
    with pytest.raises(ValueError, match="only a CT with rescale values has"):
        read_dicom(make(HU.astype(np.int16), Modality="MR"), window="brain")


def test_what_is_dicom() -> None:
    assert is_dicom(ct()) and not is_dicom(b"\x89PNG\r\n") and not is_dicom(b"")


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "examples_rgb_color.dcm"])
def test_files_of_others(name: str) -> None:
    path = get_testdata_file(name, download=False)
    if path is None:
        pytest.skip(f"pydicom does not bring {name} along")
    with open(path, "rb") as file:
        data = file.read()
    ds, found = pydicom.dcmread(path), read_dicom(data)
    assert found.image.shape == (ds.Rows, ds.Columns, 3)
    assert found.image.std() > 5
    assert str(ds.PatientName) not in repr(found.tags)
