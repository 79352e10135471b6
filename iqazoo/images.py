"""From an image file to pixels: `[C, H, W]` float32 in [0, 1], or an InputError that says why not."""

from __future__ import annotations

import os
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import Image, ImageColor, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from iqazoo.errors import InputError

if TYPE_CHECKING:
    import torch

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
EXIF_ORIENTATION, TIFF_BITS_PER_SAMPLE, TIFF_PHOTOMETRIC = 274, 258, 262

TURNED_INTO = {"1": "L", "La": "LA", "PA": "RGBA", "RGBX": "RGB", "CMYK": "RGB", "YCbCr": "RGB"}
"""Pillow's modes that are converted before they are read; "P" besides, which depends on its palette."""
READABLE = ("L", "LA", "RGB", "RGBA", "I;16", "I;16B")


def decode(path: str | os.PathLike[str], *, background: str | None = None) -> torch.Tensor:
    """Reads a PNG, JPEG, WebP, TIFF or BMP file, upright and at its full precision.

    Values stay as encoded: no colour profile is applied and no gamma undone. Safe to call from many threads.

    Args:
        path: the file; its content decides the kind, not its suffix.
        background: what shows through transparent pixels, as a name ("white", "black", "gray") or "#rrggbb".
            Blending is done on the encoded values. Files without transparent pixels ignore it.

    Returns:
        `[C, H, W]` float32 in [0, 1]; C is 1 for gray and 3 for RGB.

    Raises:
        InputError: the file is missing, broken, of another kind, of several frames or of unknown range; it
            has transparent pixels and no background was given; or it holds 16-bit colour and the extra
            `iqazoo[16bit]` is not installed.
    """
    import torch

    return torch.from_numpy(decode_array(path, background=background))


def decode_array(path: str | os.PathLike[str], *, background: str | None = None) -> np.ndarray:
    """As `decode`, as an array and without importing torch."""
    backdrop = None if background is None else parse_background(background)
    try:
        return _flatten(_read(path), backdrop)
    except InputError as error:
        raise InputError(f"{os.fspath(path)}: {error}") from error.__cause__
    except Exception as error:  # decoders answer broken bytes with anything, from struct.error to MemoryError
        raise InputError(
            f"{os.fspath(path)}: expected a readable PNG, JPEG, WebP, TIFF or BMP file, "
            f"got {_reason(error)}; replace the file or leave it out"
        ) from error


def _reason(error: Exception) -> str:
    """What went wrong, in words that hold no address of a file object."""
    if isinstance(error, UnidentifiedImageError):
        return "bytes of another kind"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"


def parse_background(name: str) -> np.ndarray:
    """A colour's name or "#rrggbb" as `[3, 1, 1]` float32 in [0, 1]; `[1, 1, 1]` where it is a gray.

    Raises:
        InputError: it is no colour, or a transparent one.
    """
    expected = f'background must be a colour such as "white" or "#rrggbb", got {name!r}'
    try:
        colour = ImageColor.getrgb(name)
    except ValueError as error:
        raise InputError(expected) from error
    if len(colour) != 3:
        raise InputError(f"{expected}, which is transparent itself")
    # One plane broadcasts over gray and RGB alike, so a gray image stays gray where it can.
    planes = colour[:1] if len(set(colour)) == 1 else colour
    return np.array(planes, np.float32).reshape(-1, 1, 1) / 255


def _read(path: str | os.PathLike[str]) -> np.ndarray:
    """Upright samples, `[H, W, C]` uint8 or uint16; an even C (gray 2, RGB 4) ends in alpha."""
    with open(path, "rb") as file:
        head = file.read(26)
        if not head:
            raise InputError("expected an image, got an empty file; replace it or leave it out")
        with Image.open(file, formats=FORMATS) as image:
            _refuse_frames(image)
            samples = _samples(image)
            depth = _bit_depth(image, head)
            if depth > 8 and samples.dtype == np.uint8:
                samples = _sixteen_bits(file, samples)
            if image.format == "PNG" and head[25] == 4:  # gray and alpha; 16-bit ones arrive as RGBA
                samples = samples[..., [0, -1]]
            if depth not in (1, 2, 4, 8, 16):
                raise InputError(f"expected 8 or 16 bits per sample, got {depth}; save it as one of these")
            if image.mode != "P" and "transparency" in image.info:
                samples = _add_alpha(samples, image.info["transparency"], depth)
            # Asked when the pixels are read: EXIF may follow them, and Pillow turns a TIFF upright by itself.
            return _upright(samples, image.getexif().get(EXIF_ORIENTATION, 1))


def _refuse_frames(image: Image.Image) -> None:
    """Raises where it is unclear which of several pictures is meant."""
    if image.format == "MPO":  # a camera's JPEG: the first picture is the photograph, the others serve it
        return
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise InputError(f"expected one picture, got {frames} frames or pages; save each to its own file")


def _bit_depth(image: Image.Image, head: bytes) -> int:
    """Bits per sample in the file, from its first 26 bytes or tags: Pillow's mode hides it for colour."""
    if image.format == "PNG":
        if head[12:16] != b"IHDR":
            raise InputError("expected IHDR as the first chunk of a PNG file, got a broken file; replace it")
        return head[24]
    if isinstance(image, TiffImageFile):
        return max(image.tag_v2.get(TIFF_BITS_PER_SAMPLE, (1,)))
    return 8


def _samples(image: Image.Image) -> np.ndarray:
    """What Pillow makes of the file, `[H, W, C]`: uint16 for 16-bit gray, else uint8."""
    mode = TURNED_INTO.get(image.mode, image.mode)
    if mode == "P":
        mode = "RGBA" if image.has_transparency_data else "RGB"
    if mode not in READABLE:
        raise InputError(
            f"expected gray or RGB of 8 or 16 bits, got Pillow's mode {mode}, whose range is not known; "
            "save it as one of these"
        )
    samples = np.asarray(image if mode == image.mode else image.convert(mode))
    if mode == "I;16" and isinstance(image, TiffImageFile) and image.tag_v2.get(TIFF_PHOTOMETRIC) == 0:
        samples = ~samples  # zero is white, which Pillow heeds up to 8 bits only
    return samples.reshape(*samples.shape[:2], -1)


def _sixteen_bits(file: IO[bytes], high: np.ndarray) -> np.ndarray:
    """The samples of which Pillow gave only the `high` bytes, `[H, W, C]` uint16, by OpenCV."""
    try:
        import cv2
    except ImportError as error:
        raise InputError(
            "16-bit colour needs OpenCV, as Pillow would cut it to 8 bits; pip install 'iqazoo[16bit]'"
        ) from error
    file.seek(0)
    samples = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if samples is not None and samples.ndim == 3:
        samples = samples[..., [2, 1, 0, 3][: high.shape[-1]]]  # from BGR or BGRA
    # OpenCV silently misreads some TIFF layouts (separate planes, premultiplied alpha); Pillow does not.
    if samples is None or samples.dtype != np.uint16 or not np.array_equal(samples // 256, high):
        raise InputError("OpenCV cannot read this kind of 16-bit colour; save it as a 16-bit RGB PNG")
    return samples


def _add_alpha(samples: np.ndarray, key: int | tuple[int, int, int], depth: int) -> np.ndarray:
    """Appends the alpha channel that a PNG states as one transparent colour."""
    opaque = np.iinfo(samples.dtype).max
    # Pillow widens gray of few bits to 8, but not the key; recent versions widen the key of 1 bit.
    widened = np.minimum(np.multiply(key, {1: 255, 2: 85, 4: 17}.get(depth, 1)), opaque)
    transparent = (samples == widened).all(axis=-1, keepdims=True)
    return np.concatenate([samples, np.where(transparent, 0, opaque).astype(samples.dtype)], axis=-1)


def _upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation on `[H, W, C]`: 5 to 8 swap the axes, then either axis may be reversed."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        samples = samples[::-1]
    if orientation in (2, 3, 6, 7):
        samples = samples[:, ::-1]
    return samples


def _flatten(samples: np.ndarray, backdrop: np.ndarray | None) -> np.ndarray:
    """`[H, W, C]` whole numbers -> `[C, H, W]` float32 in [0, 1], any alpha laid over the backdrop."""
    full = np.iinfo(samples.dtype).max
    alpha = samples[..., -1] if samples.shape[-1] in (2, 4) else None
    colour = samples if alpha is None else samples[..., :-1]
    planes = np.ascontiguousarray(colour.transpose(2, 0, 1), dtype=np.float32)  # [C, H, W]
    planes /= full
    if alpha is None or alpha.min() == full:
        return planes
    if backdrop is None:
        raise InputError(
            "expected opaque pixels, got transparent ones; say what shows through them: "
            'background="white" in Python, `iqazoo score --background white`; or save them opaque'
        )
    opacity = alpha.astype(np.float32) / full  # [H, W]
    return planes * opacity + backdrop * (1 - opacity)
