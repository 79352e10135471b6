"""Families of distortion with graded severity, for pictures as numpy arrays. No torch here.

Every family takes `[H, W, 3]` float32 in [0, 1], a severity above 0 and up to 1, and a generator for what is left to
chance; it gives the same shape, with values that may leave the range. A larger severity is a stronger dose of the same:
within a family, it looks worse.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

Pixels = np.ndarray
Distort = Callable[[Pixels, float, np.random.Generator], Pixels]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. ITU-R BT.601
GRAY_AXIS = np.ones(3) / math.sqrt(3)


class Family(NamedTuple):
    """A distortion and the subset that it is filed under."""

    subset: str
    distort: Distort


def gaussian_blur(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Out of focus: a standard deviation of up to 3 pixels."""
    return from_picture(to_picture(pixels).filter(ImageFilter.GaussianBlur(3 * severity)))


def motion_blur(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """A hand that moved: the mean along a line of up to 13 pixels in any direction."""
    angle = rng.uniform(0, math.pi)
    reach = 6 * severity * np.linspace(-1, 1, 13)
    return sum(_moved(pixels, r * math.sin(angle), r * math.cos(angle)) for r in reach) / np.float32(len(reach))


def ringing(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Sharpened too much: bright and dark seams along edges."""
    smooth = from_picture(to_picture(pixels).filter(ImageFilter.GaussianBlur(2)))
    return pixels + 3 * severity * (pixels - smooth)


def gaussian_noise(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """A sensor in the dark: a standard deviation of up to 0.18 in each channel."""
    return pixels + 0.18 * severity * rng.standard_normal(pixels.shape, np.float32)


def impulse_noise(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Salt and pepper: up to 15% of the pixels are black or white."""
    chance = rng.random(pixels.shape[:2], np.float32)[..., None]
    hit = 0.15 * severity
    return np.where(chance < hit / 2, np.float32(0), np.where(chance < hit, np.float32(1), pixels))


def blotches(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Coarse noise of brightness, of about 5 pixels, as denoisers leave it: a standard deviation of up to 0.15."""
    return pixels + 0.15 * severity * _smooth_field(pixels.shape[:2], 5, rng)[..., None]


def jpeg(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Blocks, and colours smeared: quality from 60 down to 4."""
    file = io.BytesIO()
    to_picture(pixels).save(file, "JPEG", quality=round(60 * (4 / 60) ** severity))
    return from_picture(Image.open(file))


def banding(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Too few shades: steps of up to half the range in each channel."""
    step = np.float32(0.5 * severity)
    return np.round(pixels / step) * step


def dropped_blocks(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """A broken transmission: up to 20% of the blocks of 8 x 8 show what lies beside them."""
    height, width = pixels.shape[:2]
    hit = rng.random((-(-height // 8), -(-width // 8))) < 0.2 * severity
    mask = hit.repeat(8, 0).repeat(8, 1)[:height, :width, None]
    return np.where(mask, np.roll(pixels, rng.choice([-12, 12], 2), (0, 1)), pixels)


def downsampling(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """A thumbnail made large again, smoothly: up to 6 times smaller on each side."""
    return _through_thumbnail(pixels, 1 + 5 * severity, Image.Resampling.BICUBIC)


def mosaic(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """A thumbnail made large again by repeating its pixels: up to 6 times smaller on each side."""
    return _through_thumbnail(pixels, 1 + 5 * severity, Image.Resampling.NEAREST)


def tint(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """A wrong white point: up to 0.25 in a direction of colour that keeps the mean of the channels."""
    return pixels + np.float32(0.25 * severity) * _coloured_direction(rng)


def desaturation(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Faded, up to gray."""
    gray = (pixels @ LUMA)[..., None]
    return pixels + np.float32(severity) * (gray - pixels)


def hue_rotation(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Colours turned about the gray axis, by up to 90 degrees either way (Rodrigues' formula)."""
    angle = rng.choice([-1, 1]) * severity * math.pi / 2
    x, y, z = GRAY_AXIS
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * (cross @ cross)
    return pixels @ turn.T.astype(np.float32)


def contrast_loss(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Haze: up to 80% of the contrast goes."""
    mean = pixels.mean(axis=(0, 1), keepdims=True)
    return mean + np.float32(1 - 0.8 * severity) * (pixels - mean)


def warp(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """Seen through water: each pixel moves by up to about 5 pixels, neighbours alike."""
    dy, dx = (2.2 * severity * _smooth_field(pixels.shape[:2], 10, rng) for _ in range(2))
    rows, columns = np.indices(pixels.shape[:2], np.float32)
    return _sampled(pixels, rows + dy, columns + dx)


def colour_fringes(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """A poor lens: red and blue move apart, by up to 5 pixels each."""
    angle = rng.uniform(0, 2 * math.pi)
    dy, dx = 5 * severity * math.sin(angle), 5 * severity * math.cos(angle)
    red, blue = _moved(pixels[..., :1], dy, dx), _moved(pixels[..., 2:], -dy, -dx)
    return np.concatenate([red, pixels[..., 1:2], blue], axis=2)


def ghost(pixels: Pixels, severity: float, rng: np.random.Generator) -> Pixels:
    """A second image 4 to 7 pixels away, of up to half the weight."""
    angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(4, 7)
    second = _moved(pixels, away * math.sin(angle), away * math.cos(angle))
    return pixels + np.float32(0.5 * severity) * (second - pixels)


FAMILIES = {
    "gaussian_blur": Family("blur", gaussian_blur),
    "motion_blur": Family("blur", motion_blur),
    "ringing": Family("blur", ringing),
    "gaussian_noise": Family("noise", gaussian_noise),
    "impulse_noise": Family("noise", impulse_noise),
    "blotches": Family("noise", blotches),
    "jpeg": Family("compression", jpeg),
    "banding": Family("compression", banding),
    "dropped_blocks": Family("compression", dropped_blocks),
    "downsampling": Family("resampling", downsampling),
    "mosaic": Family("resampling", mosaic),
    "tint": Family("tone", tint),
    "desaturation": Family("tone", desaturation),
    "hue_rotation": Family("tone", hue_rotation),
    "contrast_loss": Family("tone", contrast_loss),
    "warp": Family("geometry", warp),
    "colour_fringes": Family("geometry", colour_fringes),
    "ghost": Family("geometry", ghost),
}


def to_picture(pixels: Pixels) -> Image.Image:
    """`[H, W, 3]` in [0, 1], clipped, to 8 bits."""
    return Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


def from_picture(picture: Image.Image) -> Pixels:
    """8 bits to `[H, W, 3]` float32 in [0, 1]."""
    return np.asarray(picture, np.float32) / 255


def _through_thumbnail(pixels: Pixels, factor: float, back: Image.Resampling) -> Pixels:
    height, width = pixels.shape[:2]
    small = (max(1, round(width / factor)), max(1, round(height / factor)))
    return from_picture(to_picture(pixels).resize(small, Image.Resampling.BOX).resize((width, height), back))


def _coloured_direction(rng: np.random.Generator) -> Pixels:
    """`[3]`, of length 1 and mean 0."""
    angle = rng.uniform(0, 2 * math.pi)
    return np.float32(math.sqrt(2 / 3)) * np.cos(angle + np.arange(3) * (2 * math.pi / 3)).astype(np.float32)


def _smooth_field(shape: tuple[int, ...], grain: float, rng: np.random.Generator) -> Pixels:
    """`[H, W]` normal numbers that change over about `grain` pixels."""
    height, width = shape
    coarse = rng.standard_normal((math.ceil(height / grain) + 1, math.ceil(width / grain) + 1), np.float32)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def _moved(pixels: Pixels, dy: float, dx: float) -> Pixels:
    """By a fraction of a pixel too, bilinear; the border repeats."""
    (height, width), (top, left) = pixels.shape[:2], (math.floor(dy), math.floor(dx))
    reach = max(abs(top), abs(left)) + 1
    padded = np.pad(pixels, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    rows = padded[reach + top : reach + top + height + 1]
    rows = rows[:-1] + np.float32(dy - top) * (rows[1:] - rows[:-1])
    columns = rows[:, reach + left : reach + left + width + 1]
    return columns[:, :-1] + np.float32(dx - left) * (columns[:, 1:] - columns[:, :-1])


def _sampled(pixels: Pixels, rows: np.ndarray, columns: np.ndarray) -> Pixels:
    """Bilinear, at places that broadcast to `[H, W]`; beyond the border the border."""
    rows, columns = rows.clip(0, pixels.shape[0] - 1), columns.clip(0, pixels.shape[1] - 1)
    top, left = rows.astype(int), columns.astype(int)
    below, right = np.minimum(top + 1, pixels.shape[0] - 1), np.minimum(left + 1, pixels.shape[1] - 1)
    fy, fx = (rows - top)[..., None].astype(np.float32), (columns - left)[..., None].astype(np.float32)
    upper = pixels[top, left] * (1 - fx) + pixels[top, right] * fx
    lower = pixels[below, left] * (1 - fx) + pixels[below, right] * fx
    return upper * (1 - fy) + lower * fy
