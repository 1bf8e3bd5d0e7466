"""Renders the plan of an image: anatomy, lesion, then the blur and noise of the modality."""

import io
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, PngImagePlugin
from scipy import ndimage

from tfds_builders.phantom_rad import anatomy_ct, anatomy_mri, anatomy_xray
from tfds_builders.phantom_rad.anatomy import Body
from tfds_builders.phantom_rad.attributes import SOURCE, Attributes
from tfds_builders.phantom_rad.lesions import add_lesion
from tfds_builders.phantom_rad.shapes import Map, make_grid, smooth_noise

DRAW = {"X-ray": anatomy_xray.DRAW, "CT": anatomy_ct.DRAW, "MRI": anatomy_mri.DRAW}
GREY_STEP = 4  # 64 grey levels: the last two bits would be noise and double the file


class Phantom(NamedTuple):
    """One rendered image, its lesion, and what it shows."""

    image: UInt8[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]
    attributes: Attributes


def _grain(rng: np.random.Generator, shape: tuple[int, int], *, sigma: float, blur: float) -> Map:
    """Noise of deviation `sigma` whose grain is `blur` pixels wide."""
    noise = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), blur, truncate=2.5)
    return noise * np.float32(sigma / max(float(noise.std()), 1e-6))


def expose_xray(image: Float[np.ndarray, "h w"], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """A radiograph: focal blur, scatter, exposure, and more quantum noise where fewer photons arrive."""
    sharp = ndimage.gaussian_filter(image, 0.7, truncate=2.5)
    scattered = 0.94 * sharp + 0.06 * ndimage.uniform_filter(image, 31)
    exposed = np.clip(scattered, 0, 1) ** rng.uniform(0.88, 1.12) * rng.uniform(0.94, 1.04)
    quantum = _grain(rng, image.shape, sigma=0.016, blur=0.7) * (0.6 + 0.8 * image)
    vertical = np.linspace(-1, 1, image.shape[0], dtype=np.float32)[:, None]
    return exposed * (1 + rng.uniform(-0.05, 0.05) * vertical) + quantum


def reconstruct_ct(image: Float[np.ndarray, "h w"], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """A CT slice: a soft kernel, grain, and faint streaks along the rows where bone hardens the beam."""
    sharp = ndimage.gaussian_filter(image, 0.5, truncate=2.5)
    hardness = (image > 0.8).mean(axis=1, keepdims=True, dtype=np.float32)
    streaks = _grain(rng, (image.shape[0], 1), sigma=0.02, blur=0.8) * np.minimum(1, 8 * hardness)
    window = (sharp - 0.5) * rng.uniform(0.94, 1.06) + 0.5 + rng.uniform(-0.025, 0.025)
    return window * (sharp > 0.02) + (_grain(rng, image.shape, sigma=0.02, blur=0.6) + streaks) * (
        0.3 + 0.7 * (sharp > 0.02)
    )


def acquire_mri(image: Float[np.ndarray, "h w"], rng: np.random.Generator) -> Float[np.ndarray, "h w"]:
    """A magnitude image: a smooth coil sensitivity times the signal, and Rician noise."""
    signal = ndimage.gaussian_filter(image, 0.6, truncate=2.5)
    height, width = image.shape
    v, u = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    gain = rng.uniform(-0.12, 0.12, 4)
    bias = 1 + gain[0] * u + gain[1] * v + gain[2] * (u * u - 0.3) + gain[3] * (v * v - 0.3)
    real = signal * np.clip(bias, 0.8, 1.15) + _grain(rng, image.shape, sigma=0.022, blur=0.6)
    return np.hypot(real, _grain(rng, image.shape, sigma=0.022, blur=0.6))


ACQUIRE = {"X-ray": expose_xray, "CT": reconstruct_ct, "MRI": acquire_mri}


def render_case(rng: np.random.Generator, attributes: Attributes, *, body: Body | None = None) -> Phantom:
    """A phantom with these attributes; equal generators give equal pixels.

    Args:
        rng: draws pose, anatomy, lesion and noise.
        attributes: view, finding, side, size; ValueError if they contradict each other.
        body: the patient; a random one if not given.
    """
    view = attributes.check().view
    body = body or Body.draw(rng)
    shape = (view.height, view.width)
    grid = make_grid(rng, shape, scale=body.scale, girth=body.girth)
    anatomy = DRAW[view.modality][view.organ, view.plane](grid, rng, body)
    texture = 0.02 * smooth_noise(rng, shape, cells=32) * (anatomy.image > 0.05)
    image, mask = add_lesion(anatomy._replace(image=anatomy.image + texture), attributes, grid=grid, rng=rng)
    seen = ACQUIRE[view.modality](image, rng)
    levels = 255 // GREY_STEP
    grey = (np.rint(np.clip(seen, 0, 1) * levels) * GREY_STEP).astype(np.uint8)
    return Phantom(grey, mask, attributes)


def encode_png(pixels: UInt8[np.ndarray, "h w"] | Bool[np.ndarray, "h w"]) -> bytes:
    """The bytes of a one-channel PNG, marked as synthetic in its metadata; True becomes 255."""
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    note = PngImagePlugin.PngInfo()
    note.add_text("Source", f"{SOURCE}: drawn by a program, shows no patient")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=note, compress_level=1)
    return buffer.getvalue()
