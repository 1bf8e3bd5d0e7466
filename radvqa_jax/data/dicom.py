"""DICOM -> pixels as a radiologist would see them, the window that was used, and nothing about the patient.

Only the tags of ALLOWED leave this module, each checked against what its kind of value may look like; nothing else of a
file is shown, logged or put into an error. Pixels go through pydicom: modality rescale, then the VOI LUT or window
(DICOM PS3.3 C.11.1 and C.11.2). Needs the extra `dicom`.
"""

import contextlib
import io
import logging
import re
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from radvqa_jax.trees import nearest

# Named windows for CT, (centre, width) in Hounsfield units: the usual ones of radiology text books.
WINDOWS = {
    "lung": (-600.0, 1500.0),
    "mediastinum": (40.0, 400.0),
    "abdomen": (50.0, 400.0),
    "liver": (60.0, 160.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "stroke": (35.0, 35.0),
}
# Keyword -> the form that its value must have to be shown: codes and numbers, never free text.
CODE = r"[A-Z0-9][A-Z0-9 _]{0,15}"
ALLOWED = {
    "Modality": CODE,
    "BodyPartExamined": CODE,
    "ViewPosition": CODE,
    "Laterality": r"[LRUB]",
    "ImageLaterality": r"[LRUB]",
    "PatientSex": r"[MFO]",
    "PatientAge": r"\d{3}[DWMY]",
    "PhotometricInterpretation": CODE,
    "BitsStored": r"\d{1,2}",
    "NumberOfFrames": r"\d{1,6}",
}
OLDEST = 89  # years; a higher age is rare enough to identify a person (HIPAA Safe Harbor)


class Dicom(NamedTuple):
    """One frame of a file."""

    image: UInt8[np.ndarray, "h w 3"]
    frame: int  # which, from 1
    frames: int
    window: str  # in words, how stored values became grey
    tags: dict[str, str]  # those of ALLOWED that the file has
    warnings: list[str]


def is_dicom(data: bytes) -> bool:
    """Returns whether the bytes are a DICOM file (PS3.10: 128 bytes, then DICM)."""
    return data[128:132] == b"DICM"


def _pydicom() -> types.ModuleType:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        raise ValueError("Reading DICOM needs pydicom: pip install -e '.[dicom]'.") from error
    return pydicom


@contextlib.contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Keeps pydicom's warnings, log and errors to itself: they hold values of the file, and so names of patients."""
    logger = logging.getLogger("pydicom")
    silent, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings(), _pydicom().config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except Refused:
        raise
    except Exception as error:
        raise ValueError(f"The DICOM file's {what} cannot be read ({type(error).__name__}).") from None
    finally:
        logger.disabled = silent


class Refused(ValueError):
    """A message of ours, without a value of the file that is not allowed."""


def capped_age(age: str) -> str:
    """Returns an age that identifies nobody.

    >>> capped_age("063Y"), capped_age("093Y"), capped_age("018M")
    ('063Y', 'over 89 years', '018M')
    """
    years = int(age[:3]) * {"D": 1 / 365, "W": 7 / 365, "M": 1 / 12, "Y": 1}[age[3]]
    return f"over {OLDEST} years" if years > OLDEST else age


def allowed_tags(ds: Any) -> dict[str, str]:
    """Returns the tags of ALLOWED whose values have the form they must have."""
    found = {name: str(ds[name].value or "") for name in ALLOWED if name in ds}
    tags = {name: value for name, value in found.items() if re.fullmatch(ALLOWED[name], value)}
    return tags | ({"PatientAge": capped_age(tags["PatientAge"])} if "PatientAge" in tags else {})


def _warnings(ds: Any) -> list[str]:
    said = str(ds.get("BurnedInAnnotation", "") or "")
    if said == "NO":
        return []
    known = f"says {said}" if said == "YES" else "is missing"
    return [
        f"The file does not say that its pixels are free of text (BurnedInAnnotation {known}): look for names before "
        "the image is shown to others."
    ]


def _functional(ds: Any, frame: int, sequence: str) -> Any:
    """Returns the macro of one frame of an enhanced file, its own or the shared one, or None."""
    groups = [*ds.get("PerFrameFunctionalGroupsSequence", [])[frame - 1 : frame]]
    groups += [*ds.get("SharedFunctionalGroupsSequence", [])[:1]]
    return next((group[sequence].value[0] for group in groups if group.get(sequence)), None)


def _settings(ds: Any, frame: int) -> Any:
    """Returns what rescale and window need, as a data set of its own: from the frame's groups, else from the file."""
    found = _pydicom().Dataset()
    found.file_meta = ds.file_meta  # the byte order of look-up tables
    rescale = _functional(ds, frame, "PixelValueTransformationSequence")
    voi = _functional(ds, frame, "FrameVOILUTSequence")
    for source, names in (
        (ds, ("PhotometricInterpretation", "PixelRepresentation", "BitsStored")),
        (rescale or ds, ("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence")),
        (voi or ds, ("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence")),
    ):
        for name in names:
            if name in source:
                found[name] = source[name]
    return found


def _linear(low: float, high: float) -> Callable[[Any], Any]:
    return lambda values: (values - low) / max(high - low, 1e-12)


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, list | tuple) or hasattr(value, "__len__") else value)


def _window(ds: Any, settings: Any, values: Float[np.ndarray, "h w"], name: str) -> tuple[Any, str]:
    """Returns (function to grey in [0, 1], in words what it is)."""
    pixels = _pydicom().pixels
    if name:
        if name not in WINDOWS:
            near = nearest(name, WINDOWS)
            raise Refused(f"ask.window={name!r} is no window.{near} There are {', '.join(WINDOWS)}; empty: the file's.")
        if str(ds.get("Modality", "")) != "CT" or "RescaleIntercept" not in settings:
            raise Refused(f"ask.window={name!r} is in Hounsfield units, which only a CT with rescale values has.")
        centre, width = WINDOWS[name]
        return _linear(centre - width / 2, centre + width / 2), f"{name}: centre {centre:g}, width {width:g} HU"
    if settings.get("VOILUTSequence"):
        top = 2 ** int(settings.VOILUTSequence[0].LUTDescriptor[2]) - 1
        return lambda v: pixels.apply_voi(np.rint(v).astype(int), settings, index=0) / top, "VOI LUT of the file"
    if "WindowCenter" in settings and "WindowWidth" in settings:
        centre, width = _first(settings.WindowCenter), _first(settings.WindowWidth)
        kind = str(settings.get("VOILUTFunction", "") or "LINEAR")
        ends = np.array([centre - 9 * width, centre + 9 * width])
        # What pydicom's range of grey is depends on bits and rescale; far beyond the window it shows its ends.
        scale = _linear(*pixels.apply_windowing(ends, settings))
        text = f"of the file: {kind} centre {centre:g}, width {width:g}"
        return lambda v: scale(pixels.apply_windowing(v, settings)), text
    low, high = float(values.min()), float(values.max())
    return _linear(low, high), f"the file has none: all values of this frame, {low:g} to {high:g}"


def _grey(ds: Any, raw: np.ndarray, frame: int, window: str) -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    settings = _settings(ds, frame)
    values = _pydicom().pixels.apply_rescale(raw, settings).astype(np.float64)
    # Padding around a CT's circle is no tissue and has no part in the range.
    padding = ds.get("PixelPaddingValue")
    inside = values[raw != padding] if padding is not None and (raw != padding).any() else values
    function, said = _window(ds, settings, inside.reshape(1, -1), window)
    grey = np.asarray(function(values)).clip(0, 1)
    if ds.PhotometricInterpretation == "MONOCHROME1":
        grey, said = 1 - grey, f"{said}; MONOCHROME1, shown inverted"
    return np.repeat(np.rint(255 * grey).astype(np.uint8)[..., None], 3, axis=-1), said


def _colour(ds: Any, raw: np.ndarray) -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        raw = _pydicom().pixels.apply_color_lut(raw, ds)
        return (raw / (2 ** (8 * raw.dtype.itemsize) - 1) * 255).round().astype(np.uint8)[..., :3], "palette, no window"
    return (raw / (2 ** int(ds.BitsStored) - 1) * 255).round().clip(0, 255).astype(np.uint8), "colour, no window"


def read_dicom(data: bytes, *, frame: int = 1, window: str = "") -> Dicom:
    """Returns one frame of a DICOM file.

    Args:
        data: of the file.
        frame: which, from 1.
        window: empty = the file's own (its first, if it has several), or a name in WINDOWS for CT.

    Raises:
        ValueError: if the file cannot be read, has no pixels or no such frame, or the window does not apply. No message
            holds a value of the file beyond those of ALLOWED.
    """
    pydicom = _pydicom()
    with _quiet("header"):
        ds = pydicom.dcmread(io.BytesIO(data))
        if "PixelData" not in ds or "PhotometricInterpretation" not in ds:
            raise Refused("The DICOM file holds no image.")
        frames = int(ds.get("NumberOfFrames", 1) or 1)
        tags, notes = allowed_tags(ds), _warnings(ds)
        syntax = ds.file_meta.TransferSyntaxUID.name
    if not 1 <= frame <= frames:
        raise ValueError(f"ask.frame={frame}, but the DICOM file has frames 1 to {frames}.")
    with _quiet(f"pixels ({syntax}; if it is compressed: pip install 'pylibjpeg[all]', or write it uncompressed)"):
        raw = pydicom.pixels.pixel_array(ds, index=frame - 1)
    with _quiet("window"):
        is_grey = str(ds.PhotometricInterpretation).startswith("MONOCHROME")
        if window and not is_grey:
            raise Refused(f"ask.window={window!r} does not apply to a colour image.")
        image, said = _grey(ds, raw, frame, window) if is_grey else _colour(ds, raw)
    return Dicom(image, frame, frames, said, tags, notes)
