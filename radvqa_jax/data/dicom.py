"""DICOM -> pixels as a radiologist sees them and the window used, without anything about the patient.

Only the tags of ALLOWED leave this module, each checked against the form of its kind of value; nothing else of a file
is shown, logged or put into an error. Pixels go through pydicom: modality rescale, then the VOI LUT or window
(DICOM PS3.3 C.11.1 and C.11.2). Needs the extra `dicom`.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from radvqa_jax.data.dicom_guard import (
    Refused,
    codestream_fault,
    decoder_fault,
    frame_fault,
    is_dicom,
    load_pydicom,
    size_fault,
)
from radvqa_jax.data.dicom_terms import BODY_PARTS, MODALITIES, PHOTOMETRIC, VIEWS
from radvqa_jax.data.dicom_window import DoesNotApply, check_rescale, choose_window, grey_settings

# Keyword -> the terms, or the form, that its value must have to be shown: never free text.
ALLOWED: dict[str, frozenset[str] | str] = {
    "Modality": MODALITIES,
    "BodyPartExamined": BODY_PARTS,
    "ViewPosition": VIEWS,
    "Laterality": r"[LRUB]",
    "ImageLaterality": r"[LRUB]",
    "PatientSex": r"[MFO]",
    "PatientAge": r"\d{3}[DWMY]",
    "PhotometricInterpretation": PHOTOMETRIC,
    "BitsStored": r"\d{1,2}",
    "NumberOfFrames": r"\d{1,6}",
}
# Photometric interpretations that become grey levels or RGB here; the standard's others are retired or partly decoded.
SHOWN = frozenset("MONOCHROME1 MONOCHROME2 RGB YBR_FULL YBR_FULL_422 YBR_ICT YBR_RCT".split()) | {"PALETTE COLOR"}
STRIP = 1 << 20  # pixels that are computed at a time, in floating point
OLDEST = 89  # years; a higher age is rare enough to identify a person (HIPAA Safe Harbor)


class Dicom(NamedTuple):
    """One frame of a file."""

    image: UInt8[np.ndarray, "h w 3"]
    frame: int  # its number, from 1
    frames: int
    window: str  # the conversion of stored values to grey, in words
    tags: dict[str, str]  # those of ALLOWED that the file has
    warnings: list[str]


@contextlib.contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Hides pydicom's warnings, log and errors: they contain values of the file, and so names of patients."""
    # Its parts log under their own names; their messages propagate through this logger.
    logger = logging.getLogger("pydicom")
    handlers, propagate = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        with warnings.catch_warnings(), load_pydicom().config.disable_value_validation():
            warnings.simplefilter("ignore")
            yield
    except Refused:
        raise
    except Exception as error:
        raise Refused(f"The DICOM file's {what} cannot be read ({type(error).__name__}).") from None
    finally:
        logger.handlers, logger.propagate = handlers, propagate


def capped_age(age: str) -> str:
    """An age that identifies nobody.

    >>> capped_age("063Y"), capped_age("093Y"), capped_age("018M")
    ('063Y', 'over 89 years', '018M')
    """
    years = int(age[:3]) * {"D": 1 / 365, "W": 7 / 365, "M": 1 / 12, "Y": 1}[age[3]]
    return f"over {OLDEST} years" if years > OLDEST else age


def _is_allowed(allowed: frozenset[str] | str, value: str) -> bool:
    return re.fullmatch(allowed, value) is not None if isinstance(allowed, str) else value in allowed


def allowed_tags(ds: Any) -> dict[str, str]:
    """The tags of ALLOWED whose values are permitted terms or have the permitted form."""
    found = {name: str(ds[name].value or "") for name in ALLOWED if name in ds}
    tags = {name: value for name, value in found.items() if _is_allowed(ALLOWED[name], value)}
    return tags | ({"PatientAge": capped_age(tags["PatientAge"])} if "PatientAge" in tags else {})


def _is_oblong(ds: Any) -> bool:
    """Whether pixels are higher than wide or wider than high, by more than 1 %."""
    for name in ("PixelAspectRatio", "PixelSpacing"):
        try:
            high, wide = map(float, ds.get(name) or (1, 1))
        except (TypeError, ValueError):
            continue  # not a pair of numbers: unknown
        if not 0.99 * wide <= high <= 1.01 * wide:
            return True
    return False


def _warnings(ds: Any) -> list[str]:
    oblong = ["The pixels are not square, and the image is shown as if they were."] if _is_oblong(ds) else []
    said = str(ds.get("BurnedInAnnotation", "") or "")
    if said == "NO":
        return oblong
    known = "is YES" if said == "YES" else "is missing"
    return [
        *oblong,
        f"The pixels may contain text (BurnedInAnnotation {known}). Look for names before you share the image.",
    ]


def _strips(raw: np.ndarray) -> list[np.ndarray]:
    """The rows of a frame in parts, so that floating-point values of a large one need little memory."""
    rows = max(1, STRIP // max(1, raw.shape[1]))
    return [raw[begin : begin + rows] for begin in range(0, len(raw), rows)]


def _tissue(ds: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A mask of stored values that are not padding (PS3.3 C.7.5.1.1.2), such as the padding around a CT's circle."""
    padding, limit = ds.get("PixelPaddingValue"), ds.get("PixelPaddingRangeLimit")
    if padding is None:
        return lambda values: np.ones(values.shape, bool)
    low, high = sorted((int(padding), int(padding if limit is None else limit)))
    return lambda values: (values < low) | (values > high)


def _grey(ds: Any, raw: np.ndarray, frame: int, window: str) -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    settings = grey_settings(ds, frame)
    check_rescale(settings)
    tissue = _tissue(ds)
    padded = any(tissue(strip).any() for strip in _strips(raw))  # an image of padding alone has no other range

    def values(strip: np.ndarray) -> Float[np.ndarray, "..."]:
        found = load_pydicom().pixels.apply_rescale(strip, settings).astype(np.float64)
        if not np.isfinite(found).all():
            raise Refused("The DICOM file's values are not finite after rescaling.")
        return found

    def limits() -> tuple[float, float]:
        inside = [strip[tissue(strip)] if padded else strip for strip in _strips(raw)]
        found = [values(strip.reshape(1, -1)) for strip in inside if strip.size]
        return min(float(v.min()) for v in found), max(float(v.max()) for v in found)

    function, said = choose_window(ds, settings, limits, window)
    inverse = ds.get("PresentationLUTShape") == "INVERSE"
    inverted = inverse or ds.PhotometricInterpretation == "MONOCHROME1"
    grey = np.empty(raw.shape, np.uint8)
    for strip, out in zip(_strips(raw), _strips(grey), strict=True):
        shade = np.asarray(function(values(strip))).clip(0, 1)
        out[...] = np.rint(255 * (1 - shade if inverted else shade))
    said += f"; {'PresentationLUTShape INVERSE' if inverse else 'MONOCHROME1'}, shown inverted" if inverted else ""
    return np.repeat(grey[..., None], 3, axis=-1), said


def _colour(ds: Any, raw: np.ndarray) -> tuple[UInt8[np.ndarray, "h w 3"], str]:
    palette = ds.PhotometricInterpretation == "PALETTE COLOR"
    image = np.empty((*raw.shape[:2], 3), np.uint8)
    for strip, out in zip(_strips(raw), _strips(image), strict=True):
        if palette:
            looked_up = load_pydicom().pixels.apply_color_lut(strip, ds)
            levels, top = looked_up[..., :3], 2 ** (8 * looked_up.dtype.itemsize) - 1
        else:
            levels, top = strip, 2 ** int(ds.BitsStored) - 1
        out[...] = np.rint(levels / top * 255).clip(0, 255)
    return image, "palette, no window" if palette else "colour, no window"


def _read_header(data: bytes) -> Any:
    """The data set of a file, with its transfer syntax completed if the file omits it."""
    pydicom = load_pydicom()
    ds = pydicom.dcmread(io.BytesIO(data), force=True)
    if "PixelData" not in ds or "PhotometricInterpretation" not in ds:
        raise Refused("The DICOM file has no image.")
    if (kind := str(ds.PhotometricInterpretation)) not in SHOWN:
        named = f"of the kind {kind}" if kind in PHOTOMETRIC else "of a kind that the standard does not know"
        raise Refused(f"The DICOM file's pixels are {named}, which is not read. Convert it to RGB or MONOCHROME2.")
    if "TransferSyntaxUID" not in ds.file_meta:
        if ds["PixelData"].is_undefined_length:
            raise Refused("The DICOM file does not say how its pixels are compressed (no TransferSyntaxUID).")
        implicit, little = ds.original_encoding
        plain = pydicom.uid.ExplicitVRLittleEndian if little else pydicom.uid.ExplicitVRBigEndian
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian if implicit else plain
    if fault := frame_fault(ds):
        raise Refused(f"The DICOM file {fault}.")
    return ds


def _read_pixels(ds: Any, frame: int, frames: int) -> np.ndarray:
    """The stored values of one frame; it is decoded only if its own header does not claim too large a size."""
    pydicom = load_pydicom()
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax not in pydicom.uid.UID_dictionary or not syntax.is_transfer_syntax:
        raise Refused("The DICOM file's transfer syntax is not one of the standard's. Write the file uncompressed.")
    if fault := decoder_fault(pydicom.pixels, syntax, int(ds.BitsStored)):
        raise Refused(f"The DICOM file's pixels cannot be decoded: {fault}.")
    with _quiet(f"pixels ({syntax.name})"):
        if syntax.is_encapsulated:
            encoded = pydicom.encaps.get_frame(ds.PixelData, frame - 1, number_of_frames=frames)
            if fault := codestream_fault(encoded):
                raise Refused(f"The DICOM file {fault}.")
        return pydicom.pixels.pixel_array(ds, index=frame - 1)


def read_dicom(data: bytes, *, frame: int = 1, window: str = "") -> Dicom:
    """One frame of a DICOM file.

    Args:
        data: of the file.
        frame: its number, from 1.
        window: empty = the file's own (its first, if it has several), or a name in WINDOWS for CT.

    Raises:
        ValueError: if the file cannot be read, has no pixels, too many or no such frame, or the window does not apply
            (DoesNotApply).
            No message holds a value of the file beyond those of ALLOWED and the numbers of its size and window.
    """
    if not is_dicom(data):
        raise ValueError(
            "These bytes are not a DICOM file: they have neither DICM after 128 bytes nor tags at their beginning."
        )
    if fault := size_fault(data):
        raise ValueError(f"The DICOM file {fault}.")
    with _quiet("header"):
        ds = _read_header(data)
        frames = int(ds.get("NumberOfFrames", 1) or 1)
        tags, notes = allowed_tags(ds), _warnings(ds)
    if not 1 <= frame <= frames:
        raise ValueError(f"ask.frame={frame}, but the DICOM file has frames 1 to {frames}.")
    with _quiet("pixels"):
        raw = _read_pixels(ds, frame, frames)
    with _quiet("window"):
        is_grey = str(ds.PhotometricInterpretation).startswith("MONOCHROME")
        if window and not is_grey:
            raise DoesNotApply(f"ask.window={window!r} does not apply to a colour image.")
        image, said = _grey(ds, raw, frame, window) if is_grey else _colour(ds, raw)
    return Dicom(image, frame, frames, said, tags, notes)
