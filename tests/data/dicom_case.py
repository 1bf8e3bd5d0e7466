"""DICOM files with made-up patients, for the tests of DICOM."""

import io
from typing import Any

import numpy as np
import pytest

try:
    import pydicom
    import pydicom.config
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid
except ImportError:
    pytest.skip("pydicom is not installed: pip install -e '.[dicom]'", allow_module_level=True)

SECRET = "Doe^Jane"
HU = np.array([[-1024, -1000, -600], [-100, 0, 40], [80, 400, 3000]])


def make(pixels: np.ndarray, **tags: Any) -> bytes:
    """A DICOM file with these pixels [h w] or [frames h w], with tags that must not be shown."""
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
    with pydicom.config.disable_value_validation():  # some tests need invalid values
        for name, value in tags.items():
            setattr(ds, name, value)
        ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


def ct(**tags: Any) -> bytes:
    stored = (HU + 1024).astype(np.uint16)
    return make(stored, **({"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024} | tags))


def broken(data: bytes) -> bytes:
    """A file whose tags have values that pydicom warns about, and too few pixels."""
    ds = pydicom.dcmread(io.BytesIO(data))
    ds.PixelData = ds.PixelData[:4]
    file = io.BytesIO()
    ds.save_as(file)
    return file.getvalue().replace(b"20200102", b"Jane-Doe")
