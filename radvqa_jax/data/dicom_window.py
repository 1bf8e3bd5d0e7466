"""Stored DICOM values -> grey levels: rescale, VOI LUT or window (PS3.3 C.11.1 and C.11.2), named windows for CT."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from radvqa_jax.data.dicom_guard import Refused, load_pydicom
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
PIXELS = ("PhotometricInterpretation", "PixelRepresentation", "BitsStored")
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")  # of a window


class DoesNotApply(Refused):
    """A named window is for CT, and the file's values are not in Hounsfield units."""


def _functional(ds: Any, frame: int, sequence: str) -> Any:
    """The macro of one frame of an enhanced file, its own or the shared one, or None."""
    groups = [*ds.get("PerFrameFunctionalGroupsSequence", [])[frame - 1 : frame]]
    groups += [*ds.get("SharedFunctionalGroupsSequence", [])[:1]]
    return next((group[sequence].value[0] for group in groups if group.get(sequence)), None)


def grey_settings(ds: Any, frame: int) -> Any:
    """The elements for rescale and window, as a separate data set: from the frame's groups, else from the file."""
    found = load_pydicom().Dataset()
    found.file_meta = ds.file_meta  # the byte order of look-up tables
    rescale = _functional(ds, frame, "PixelValueTransformationSequence")
    voi = _functional(ds, frame, "FrameVOILUTSequence")
    for source, names in (
        (ds, PIXELS),
        (rescale or ds, ("RescaleSlope", "RescaleIntercept", "RescaleType", "ModalityLUTSequence")),
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


def _number(settings: Any, name: str) -> float | None:
    """A number of the settings, the first of several, or None if it is absent or empty.

    Raises:
        Refused: if it is not finite, because every image computed with it would be black or white.
    """
    if name not in settings or settings[name].value in (None, "") or not len(str(settings[name].value)):
        return None
    number = _first(settings[name].value)
    if not math.isfinite(number):
        raise Refused(f"The DICOM file's {name} is not a finite number, so no grey level can be computed.")
    return number


def check_rescale(settings: Any) -> None:
    """Raises Refused for a rescale that makes every value the same or not a number."""
    intercept, slope = _number(settings, "RescaleIntercept"), _number(settings, "RescaleSlope")
    if slope is not None and (intercept or 0.0) + slope == (intercept or 0.0):
        beside = f" with an intercept of {intercept:g}" if slope else ""
        raise Refused(f"The DICOM file's RescaleSlope is {slope:g}{beside}, so that all its values would be the same.")


def _window_function(settings: Any) -> tuple[Callable[[Any], Any], str] | None:
    """(function to grey in [0, 1], its description) of the file's own window; None if it has none."""
    centre, width = _number(settings, "WindowCenter"), _number(settings, "WindowWidth")
    if centre is None or width is None:
        return None
    kind = str(settings.get("VOILUTFunction", "") or "LINEAR")
    least = 1 if kind == "LINEAR" else 0
    if kind not in FUNCTIONS or width < least or (width == 0 and kind != "LINEAR"):
        raise Refused(
            f"The DICOM file's window has the width {width:g} and "
            + (f"the function {kind}" if kind in FUNCTIONS else "a function that the standard does not know")
            + ". Give ask.window (for a table data.window) if the file is a CT, or correct the file."
        )
    pixels = load_pydicom().pixels
    # The values are rescaled already. pydicom would also rescale its range of grey, and a negative slope would turn it.
    window = load_pydicom().Dataset()
    for name in (*PIXELS, "WindowCenter", "WindowWidth", "VOILUTFunction"):
        if name in settings:
            window[name] = settings[name]
    # What pydicom's range of grey is depends on the bits; far beyond the window it shows its ends.
    scale = _linear(*pixels.apply_windowing(np.array([centre - 9 * width, centre + 9 * width]), window))
    text = f"of the file: {kind} centre {centre:g}, width {width:g}"
    return lambda v: scale(pixels.apply_windowing(v, window)), text


def _no_window(settings: Any) -> str:
    """The reason why a file has no complete window, in words."""
    there = [name for name in ("WindowCenter", "WindowWidth") if _number(settings, name) is not None]
    if not there:
        return "the file has none"
    absent = "WindowWidth" if there == ["WindowCenter"] else "WindowCenter"
    return f"the file has {there[0]} without {absent}, which is no window"


def choose_window(
    ds: Any, settings: Any, limits: Callable[[], tuple[float, float]], name: str
) -> tuple[Callable[[Any], Any], str]:
    """(function to grey in [0, 1], its description); `limits` gives the frame's smallest and largest value."""
    pixels = load_pydicom().pixels
    if name:
        if name not in WINDOWS:
            near = nearest(name, WINDOWS)
            raise Refused(
                f"ask.window={name!r} is not a window.{near} Known: {', '.join(WINDOWS)}; empty = the file's own."
            )
        if str(ds.get("Modality", "")) != "CT" or "RescaleIntercept" not in settings:
            raise DoesNotApply(f"ask.window={name!r} is in Hounsfield units, which only a CT with rescale values has.")
        if str(settings.get("RescaleType", "") or "HU") != "HU":
            raise DoesNotApply(
                f"ask.window={name!r} is in Hounsfield units, and the RescaleType of the DICOM file is another."
            )
        centre, width = WINDOWS[name]
        return _linear(centre - width / 2, centre + width / 2), f"{name}: centre {centre:g}, width {width:g} HU"
    if settings.get("VOILUTSequence"):
        top = 2 ** int(settings.VOILUTSequence[0].LUTDescriptor[2]) - 1
        return lambda v: pixels.apply_voi(np.rint(v).astype(int), settings, index=0) / top, "VOI LUT of the file"
    if found := _window_function(settings):
        return found
    low, high = limits()
    return _linear(low, high), f"{_no_window(settings)}: all values of this frame, {low:g} to {high:g}"
