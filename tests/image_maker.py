"""Image files of every kind, whole and as bytes, for the tests of decoding."""

import struct
import zlib

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from iqazoo.errors import InputError
from iqazoo.images import decode

ORIENTATION = 274
rng = np.random.default_rng(7)
GRAY, RGB, RGBA = (rng.integers(0, 256, shape, np.uint8) for shape in ((5, 7), (5, 7, 3), (5, 7, 4)))
GRAY16, RGB16, RGBA16 = (rng.integers(0, 2**16, a.shape, np.uint16) for a in (GRAY, RGB, RGBA))

recent_pillow = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="older Pillow refuses it")


def planes(samples):
    """What `decode` should make of opaque samples."""
    samples = np.atleast_3d(samples)
    full = np.float32(np.iinfo(samples.dtype).max)
    return torch.from_numpy(samples.transpose(2, 0, 1).astype(np.float32) / full)


def opaque(samples):
    """The samples with an alpha channel that hides nothing."""
    return np.dstack([samples, np.full(samples.shape[:2], np.iinfo(samples.dtype).max, samples.dtype)])


def check_same(result, expected):
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, *, before=(), after=(), depth=None, colour_type=None, size=None):
    """PNG bytes of `[H, W, C]` samples, with chunks before and after the pixels; fewer bits come packed."""
    samples = np.atleast_3d(samples)
    depth = depth or samples.itemsize * 8
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[samples.shape[2]] if colour_type is None else colour_type
    width, height = size or samples.shape[1::-1]
    rows = b"".join(b"\0" + row.astype(f">u{samples.itemsize}").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def tiff(samples, photometric, *, order="<", bits=None, planar=1, tags=None):
    """TIFF bytes of `[H, W, C]` samples in one strip, or a strip per plane; `tags` holds further short tags."""
    samples = np.atleast_3d(samples)
    height, width, channels = samples.shape
    strips = [samples] if planar == 1 else [samples[..., i] for i in range(channels)]
    strips = [strip.astype(f"{order}u{samples.itemsize}").tobytes() for strip in strips]
    starts = np.cumsum([8, *map(len, strips)])
    entries = {
        256: [width],
        257: [height],
        258: [bits or samples.itemsize * 8] * channels,
        259: [1],
        262: [photometric],
        273: list(starts[:-1]),
        277: [channels],
        278: [height],
        279: list(map(len, strips)),
        284: [planar],
        **(tags or {}),
    }
    behind = starts[-1] + 2 + 12 * len(entries) + 4
    directory, values = struct.pack(f"{order}H", len(entries)), b""
    for tag, numbers in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(numbers)}H", *numbers)
        if len(packed) > 4:
            place, values = struct.pack(f"{order}I", behind + len(values)), values + packed
        else:
            place = packed.ljust(4, b"\0")
        directory += struct.pack(f"{order}HHI", tag, 3, len(numbers)) + place
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", starts[-1])
    return magic + b"".join(strips) + directory + b"\0\0\0\0" + values


def two_frames():
    return {"save_all": True, "append_images": [Image.fromarray(255 - RGB)]}


def exif(orientation):
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags.tobytes()


def samples_of_every_kind(write):
    """Small files, one of each road through the decoders."""
    turned, indexed = exif(6), Image.fromarray(RGBA).quantize(8)
    orientation = (b"eXIf", turned.removeprefix(b"Exif\0\0"))
    yield write("rgb.png", png(RGB, before=[(b"tRNS", bytes(6)), orientation]))
    yield write("palette.png", indexed)
    yield write("rgb16.png", png(RGB16))
    yield write("gray16.png", png(GRAY16))
    yield write("animated.png", RGB, **two_frames())
    yield write("a.jpg", RGB, exif=turned)
    yield write("mpo.jpg", RGB, format="MPO", **two_frames())
    yield write("a.webp", RGBA, exif=turned)
    yield write("plain.tif", tiff(RGB, 2, tags={ORIENTATION: [6]}))
    yield write("packed.tif", RGB, compression="tiff_lzw")
    yield write("deep.tif", tiff(RGB16, 2))
    yield write("pages.tif", RGB, **two_frames())
    yield write("a.bmp", RGBA)
    yield write("palette.bmp", indexed.convert("RGB").quantize(8))


def outcome(path):
    """The tensor, or None for an InputError; any other exception is a failure."""
    try:
        result = decode(path, background="gray")
    except InputError:
        return None
    assert result.numel() > 0
    assert result.isfinite().all()
    return result
