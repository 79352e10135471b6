"""Every kind of file decodes to exactly known values, and every broken one to an InputError: nothing else."""

import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL
import pytest
import torch
from PIL import Image, ImageOps

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


def same(result, expected):
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


@pytest.fixture
def write(tmp_path):
    """Writes bytes, or an array or picture through Pillow, and returns the path."""

    def write(name, content, **options):
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            picture = content if isinstance(content, Image.Image) else Image.fromarray(content)
            picture.save(path, **options)
        return path

    return write


@pytest.fixture
def opencv():
    return pytest.importorskip("cv2")


# --- kinds of file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.bmp", "a.PNG"])
@pytest.mark.parametrize("samples", [GRAY, RGB], ids=["gray", "rgb"])
def test_lossless_files_give_exact_values(write, name, samples):
    result = decode(write(name, samples))
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    same(result, planes(samples))


def test_webp_lossless(write):
    same(decode(write("a.webp", RGB, lossless=True)), planes(RGB))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
def test_jpeg_is_what_pillow_decodes(write, mode, channels):
    path = write("a.jpg", Image.fromarray(RGB).convert(mode))
    expected = np.asarray(Image.open(path).convert("L" if mode == "L" else "RGB"))
    same(decode(path), planes(expected))
    assert decode(str(path)).shape == (channels, 5, 7)


def test_the_content_decides_not_the_suffix(write):
    same(decode(write("a.jpg", png(RGB))), planes(RGB))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_one_bit(write, name):
    same(decode(write(name, Image.fromarray(GRAY > 127))), planes(np.uint8(255) * (GRAY > 127)))


@pytest.mark.parametrize("depth", [2, 4])
def test_few_bits_of_gray_fill_the_range(write, depth):
    levels = np.arange(2**depth, dtype=np.uint8)
    packed = np.packbits((levels[:, None] >> np.arange(depth)[::-1]) & 1)[None]
    path = write("a.png", png(packed, depth=depth, size=(len(levels), 1)))
    same(decode(path), planes((levels * (255 // levels[-1]))[None]))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_palette_is_colour(write, name):
    indexed = Image.fromarray(GRAY % 4, "L").convert("P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 221])
    same(decode(write(name, indexed)), planes(np.asarray(indexed.convert("RGB"))))


def test_cmyk_becomes_rgb(write):
    ink = np.zeros((2, 3, 4), np.uint8)
    ink[0, 0], ink[1, 2] = (0, 0, 0, 255), (255, 0, 0, 0)
    expected = np.full((2, 3, 3), 255, np.uint8)
    expected[0, 0], expected[1, 2] = 0, (0, 255, 255)
    same(decode(write("a.tif", tiff(ink, 5))), planes(expected))


@recent_pillow
def test_ycbcr_becomes_rgb(write):
    gray = np.stack([GRAY, np.full_like(GRAY, 128), np.full_like(GRAY, 128)], axis=-1)
    same(decode(write("a.tif", tiff(gray, 6, tags={530: [1, 1]}))), planes(np.stack([GRAY] * 3, axis=-1)))


@pytest.mark.parametrize(
    "content", [png(GRAY16), tiff(GRAY16, 1), tiff(GRAY16, 1, order=">")], ids=["png", "little", "big"]
)
def test_16_bit_gray_keeps_every_bit(write, content):
    same(decode(write("a", content)), planes(GRAY16))


@pytest.mark.parametrize("samples", [GRAY, GRAY16], ids=["8 bit", "16 bit"])
def test_tiff_whose_zero_is_white(write, samples):
    same(decode(write("a.tif", tiff(samples, 0))), planes(~samples))


@pytest.mark.parametrize(
    "content",
    [
        png(RGB16),
        tiff(RGB16, 2),
        tiff(RGB16, 2, order=">"),
        png(opaque(RGB16)),
        tiff(opaque(RGB16), 2, tags={338: [1]}),
        tiff(np.dstack([RGB16, GRAY16]), 2, tags={338: [0]}),
    ],
    ids=["png", "tiff", "tiff big", "png opaque", "tiff opaque premultiplied", "tiff unspecified channel"],
)
def test_16_bit_colour_keeps_every_bit(opencv, write, content):
    same(decode(write("a", content)), planes(RGB16))


def test_16_bit_gray_with_opaque_alpha_is_gray(opencv, write):
    same(decode(write("a.png", png(opaque(GRAY16)))), planes(GRAY16))


@pytest.mark.parametrize(
    "content",
    [tiff(RGB16, 2, planar=2), tiff(RGBA16, 2, tags={338: [1]}), tiff(RGBA16, 5)],
    ids=["planes", "premultiplied", "cmyk"],
)
def test_16_bit_colour_that_opencv_misreads_is_refused(opencv, write, content):
    with pytest.raises(InputError, match="save it as a 16-bit RGB PNG"):
        decode(write("a.tif", content), background="white")


@pytest.mark.parametrize("content", [png(RGB16), png(RGBA16), png(RGBA16[..., :2]), tiff(RGB16, 2)])
def test_16_bit_colour_without_the_extra_says_what_to_install(write, content, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    path = write("a", content)
    with pytest.raises(InputError, match=r"pip install 'iqazoo\[16bit\]'") as caught:
        decode(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)
    same(decode(write("b.png", png(GRAY16))), planes(GRAY16))


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_unknown_range_is_refused(write, dtype):
    with pytest.raises(InputError, match="range is not known"):
        decode(write("a.tif", GRAY.astype(dtype)))


def test_12_bit_gray_is_refused(write):
    with pytest.raises(InputError, match="got 12"):
        decode(write("a.tif", tiff(np.zeros((2, 3), np.uint8), 1, bits=12, tags={256: [2]})))


# --- orientation -------------------------------------------------------------------------------------------


def turned(orientation):
    """Where each upright pixel comes from, by Pillow's own transposition."""
    index = Image.fromarray(np.arange(GRAY.size, dtype=np.uint8).reshape(GRAY.shape))
    index.getexif()[ORIENTATION] = orientation
    return torch.from_numpy(np.asarray(ImageOps.exif_transpose(index)).astype(np.int64))


def with_exif(kind, orientation):
    """The same picture, as file content and options, that states an orientation; 0 is outside the standard."""
    block, tags = exif(orientation), {ORIENTATION: [orientation]}
    bare = block.removeprefix(b"Exif\0\0")
    return {
        "jpeg": (RGB, {"format": "JPEG", "exif": block}),
        "webp": (RGB, {"format": "WEBP", "exif": block}),
        "png": (RGBA[..., :3], {"format": "PNG", "exif": block}),
        "png late": (png(RGB, after=[(b"eXIf", bare)]), {}),
        "png 16": (png(GRAY16, before=[(b"eXIf", bare)]), {}),
        "png 16 rgb": (png(RGB16, before=[(b"eXIf", bare)]), {}),
        "tiff": (tiff(RGB, 2, tags=tags), {}),
        "tiff 16": (tiff(GRAY16, 1, tags=tags), {}),
        "tiff 16 rgb": (tiff(RGB16, 2, tags=tags), {}),
    }[kind]


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize(
    "kind", ["jpeg", "webp", "png", "png late", "png 16", "png 16 rgb", "tiff", "tiff 16", "tiff 16 rgb"]
)
def test_orientation(write, kind, orientation):
    if kind.endswith("16 rgb"):
        pytest.importorskip("cv2")
    content, options = with_exif(kind, 1)
    upright = decode(write("upright", content, **options))
    content, options = with_exif(kind, orientation)
    result = decode(write("turned", content, **options))
    same(result, upright.flatten(1)[:, turned(orientation)])


# --- transparency ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.bmp"])
def test_opaque_alpha_is_dropped(write, name):
    path = write(name, opaque(RGB), **({"lossless": True} if name == "a.webp" else {}))
    same(decode(path), planes(RGB))
    same(decode(path, background="white"), planes(RGB))


def test_opaque_gray_alpha_is_dropped(write):
    same(decode(write("a.png", opaque(GRAY))), planes(GRAY))


@pytest.mark.parametrize("background", ["black", "white", "gray", "#3366c8"])
@pytest.mark.parametrize("samples", [RGBA, RGBA16], ids=["8 bit", "16 bit"])
def test_alpha_blends_over_the_background(write, samples, background):
    if samples is RGBA16:
        pytest.importorskip("cv2")
    values = planes(samples).double()
    behind = {"black": (0, 0, 0), "white": (255,) * 3, "gray": (128,) * 3, "#3366c8": (0x33, 0x66, 0xC8)}
    behind = torch.tensor(behind[background]).double().view(3, 1, 1) / 255
    expected = behind + values[3] * (values[:3] - behind)
    result = decode(write("a.png", png(samples)), background=background)
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-7)


def test_blending_is_exact_at_both_ends(write):
    samples = np.dstack([RGB, np.where(GRAY > 127, 255, 0).astype(np.uint8)])
    behind = torch.tensor([0x33, 0x66, 0xC8]).view(3, 1, 1) / 255
    expected = torch.where(torch.from_numpy(GRAY > 127), planes(RGB), behind)
    same(decode(write("a.png", samples), background="#3366c8"), expected)


def test_gray_stays_gray_on_a_gray_background_only(write):
    path = write("a.png", np.dstack([GRAY, np.zeros_like(GRAY)]))
    same(decode(path, background="gray"), torch.full((1, 5, 7), 128 / 255))
    same(decode(path, background="#ff0000"), torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 5, 7))


@pytest.mark.parametrize("samples", [RGBA, RGBA[..., :2]], ids=["rgb", "gray"])
def test_transparent_pixels_need_a_background(write, samples):
    path = write("a.png", png(samples))
    with pytest.raises(InputError, match=r'background="white".*--background white') as caught:
        decode(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("background", ["nocolour", "#12", "", "#ff000080"])
def test_a_background_that_is_no_opaque_colour(write, background):
    with pytest.raises(InputError, match="background must be a colour"):
        decode(write("a.png", RGB), background=background)


@pytest.mark.parametrize(
    ("samples", "key"),
    [(GRAY, (GRAY[1, 2],)), (RGB, RGB[1, 2]), (GRAY16, (GRAY16[1, 2],)), (RGB16, RGB16[1, 2])],
    ids=["gray", "rgb", "gray 16", "rgb 16"],
)
def test_a_transparent_colour_of_png(write, samples, key):
    if samples is RGB16:
        pytest.importorskip("cv2")
    if samples.ndim == 3:  # a pixel that shares a channel with the colour is not that colour
        samples = samples.copy()
        samples[0, 0] = [*key[:2], key[2] ^ 1]
    transparency = (b"tRNS", struct.pack(f">{len(key)}H", *map(int, key)))
    result = decode(write("a.png", png(samples, before=[transparency])), background="#fff")
    hidden = torch.from_numpy((np.atleast_3d(samples) == np.array(key)).all(-1))
    assert hidden.any()
    same(result, torch.where(hidden, torch.ones(()), planes(samples)))


def test_a_transparent_colour_that_is_absent_hides_nothing(write):
    samples = np.where(RGB == 9, 8, RGB).astype(np.uint8)
    same(decode(write("a.png", png(samples, before=[(b"tRNS", bytes([0, 9] * 3))]))), planes(samples))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_transparent_gray_of_few_bits(write, depth):
    levels = 2**depth
    packed = np.packbits((np.arange(levels)[:, None] >> np.arange(depth)[::-1]) & 1).astype(np.uint8)[None]
    for key in range(levels):
        content = png(packed, depth=depth, size=(levels, 1), before=[(b"tRNS", struct.pack(">H", key))])
        expected = torch.arange(levels) / (levels - 1)
        expected[key] = 128 / 255
        same(decode(write("a.png", content), background="gray"), expected.view(1, 1, -1))


@pytest.mark.parametrize("alphas", [bytes([0]), bytes([255, 0]), bytes([7, 128, 255])])
def test_a_palette_with_transparency(write, alphas):
    palette = bytes([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 221])
    content = png(GRAY % 4, colour_type=3, before=[(b"PLTE", palette), (b"tRNS", alphas)])
    entries = np.frombuffer(palette, np.uint8).reshape(4, 3) / 255
    opacity = np.array([*alphas, *[255] * (4 - len(alphas))])[:, None] / 255
    expected = torch.from_numpy((entries * opacity + 1 - opacity)[GRAY % 4]).permute(2, 0, 1)
    result = decode(write("a.png", content), background="white")
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=2e-7)


def test_tiff_alpha_plain_and_premultiplied(write):
    half = np.full_like(GRAY, 128)
    pixels = np.dstack([RGB // 2, half])
    expected = (planes(RGB // 2) * 255 / 128).clamp(max=1) * (128 / 255)
    plain = decode(write("a.tif", tiff(pixels, 2, tags={338: [2]})), background="black")
    torch.testing.assert_close(plain, planes(RGB // 2) * (128 / 255))
    premultiplied = decode(write("b.tif", tiff(pixels, 2, tags={338: [1]})), background="black")
    torch.testing.assert_close(premultiplied, expected, rtol=0, atol=1 / 255)


@recent_pillow
def test_tiff_gray_with_premultiplied_alpha(write):
    content = tiff(np.dstack([GRAY // 2, np.full_like(GRAY, 128)]), 1, tags={338: [1]})
    result = decode(write("a.tif", content), background="black")
    torch.testing.assert_close(result, planes(GRAY // 2), rtol=0, atol=1 / 255)


def test_palette_with_an_alpha_plane(write):
    colours = np.zeros((256, 3), np.uint16)
    colours[:4] = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [200, 210, 221]]) * 257
    alpha = np.where(GRAY > 99, 255, 0).astype(np.uint8)
    content = tiff(np.dstack([GRAY % 4, alpha]), 3, tags={338: [2], 320: list(colours.T.ravel())})
    expected = np.where(alpha[..., None] > 0, (colours // 257).astype(np.uint8)[GRAY % 4], np.uint8(255))
    same(decode(write("a.tif", content), background="white"), planes(expected))


# --- what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_several_frames_are_refused(write, name):
    path = write(name, RGB, **two_frames())
    with pytest.raises(InputError, match="got 2 frames") as caught:
        decode(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["GIF", "PPM", "TGA"])
def test_other_kinds_are_refused(write, kind):
    with pytest.raises(InputError, match="bytes of another kind"):
        decode(write("a.png", RGB, format=kind))


def test_mpo_gives_the_photograph(write):
    path = write("a.jpg", RGB, format="MPO", **two_frames())
    with Image.open(path) as photograph:
        assert (photograph.format, photograph.n_frames) == ("MPO", 2)
        same(decode(path), planes(np.asarray(photograph)))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "bytes of another kind"),
        (b"\x89PNG\r\n\x1a\n", "another kind|OSError|SyntaxError"),
        (png(RGB)[:-60], "truncated|broken"),
        (png(RGB, size=(60_000, 60_000)), "DecompressionBombError"),
        (tiff(RGB, 2, tags={256: [60_000], 257: [60_000]}), "DecompressionBombError"),
        (png(RGB).replace(b"IDAT", b"IDAX"), "readable"),
        (png(RGB)[:8] + chunk(b"gAMA", bytes(4)) + png(RGB)[8:], "IHDR"),
        (png(RGB, after=[(b"eXIf", b"garbage!")]), "readable"),
    ],
    ids=["empty", "text", "signature", "cut", "bomb", "tiff bomb", "no pixels", "order", "exif"],
)
def test_broken_files(write, content, reason):
    path = write("a.png", content)
    with pytest.raises(InputError, match=reason) as caught:
        decode(path)
    assert str(path) in str(caught.value)
    assert "0x" not in str(caught.value)
    if content and reason != "IHDR":
        assert caught.value.__cause__ is not None


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.png.*No such file") as caught:
        decode(tmp_path / "nothing.png")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    with pytest.raises(InputError, match="directory"):
        decode(tmp_path)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() == 0, reason="root may read everything")
def test_file_that_may_not_be_read(write):
    path = write("a.png", RGB)
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        decode(path)


def test_memory_error_becomes_input_error(write, monkeypatch):
    def exhausted(*_, **__):
        raise MemoryError

    path = write("a.png", RGB)
    monkeypatch.setattr(Image, "open", exhausted)
    with pytest.raises(InputError, match="MemoryError"):
        decode(path)


def mended(content):
    """PNG bytes whose checksums fit again, so that damage reaches beyond them."""
    result, place = content[:8], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        result, place = result + chunk(kind, data), place + 12 + length
    return result


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


@pytest.mark.filterwarnings("ignore")
def test_every_truncation_decodes_to_the_same_or_is_refused(write):
    for path in list(samples_of_every_kind(write)):
        content, whole = path.read_bytes(), outcome(path)
        for length in range(len(content)):
            result = outcome(write("cut", content[:length]))
            complete = whole is not None and result is not None and torch.equal(result, whole)
            assert result is None or complete, f"{path.name} cut to {length} bytes gives other pixels"
            assert result is None or length > len(content) // 2, f"{path.name} cut to {length} bytes"


@pytest.mark.filterwarnings("ignore")
def test_every_corruption_decodes_or_is_refused(write, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # for speed: most damaged sizes are huge
    damage = np.random.default_rng(1)
    for path in list(samples_of_every_kind(write)):
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(150):
            broken = content.copy()
            where = damage.integers(0, len(broken), damage.integers(1, 5))
            broken[where] = damage.integers(0, 256, len(where))
            outcome(write("broken", broken.tobytes()))
            if path.suffix == ".png":
                outcome(write("mended", mended(broken.tobytes())))


# --- how it behaves in a program ---------------------------------------------------------------------------


def test_threads_agree_with_serial(write):
    paths = list(samples_of_every_kind(write)) * 8
    serial = [outcome(path) for path in paths]
    with ThreadPoolExecutor(8) as pool:
        for expected, result in zip(serial, pool.map(outcome, paths), strict=True):
            assert (result is None) == (expected is None)
            if result is not None and expected is not None:
                assert torch.equal(result, expected)
    assert sum(result is not None for result in serial) >= 8 * 10


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
def test_no_file_stays_open(write):
    paths = [*samples_of_every_kind(write), write("cut.png", png(RGB)[:60]), write("text.png", b"text")]
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for path in paths:
            outcome(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_pillow_is_left_as_it_was(write):
    from PIL import ImageFile

    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    decode(write("a.png", RGB))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_the_result_is_the_callers_own(write):
    path = write("a.png", RGB)
    decode(path).zero_()
    same(decode(path), planes(RGB))


def test_importing_does_not_import_torch():
    code = "import sys, iqazoo.images; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
