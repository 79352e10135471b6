"""Every kind of file decodes to exactly known values."""

import os
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from image_maker import (
    GRAY,
    GRAY16,
    ORIENTATION,
    RGB,
    RGB16,
    RGBA,
    RGBA16,
    check_same,
    exif,
    opaque,
    outcome,
    planes,
    png,
    recent_pillow,
    samples_of_every_kind,
    tiff,
)
from PIL import Image, ImageOps

from iqazoo.errors import InputError
from iqazoo.images import decode

# --- kinds of file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff", "a.bmp", "a.PNG"])
@pytest.mark.parametrize("samples", [GRAY, RGB], ids=["gray", "rgb"])
def test_lossless_files_give_exact_values(write, name, samples):
    result = decode(write(name, samples))
    assert result.dtype == torch.float32
    assert result.is_contiguous()
    check_same(result, planes(samples))


def test_webp_lossless(write):
    check_same(decode(write("a.webp", RGB, lossless=True)), planes(RGB))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
def test_jpeg_is_what_pillow_decodes(write, mode, channels):
    path = write("a.jpg", Image.fromarray(RGB).convert(mode))
    expected = np.asarray(Image.open(path).convert("L" if mode == "L" else "RGB"))
    check_same(decode(path), planes(expected))
    assert decode(str(path)).shape == (channels, 5, 7)


def test_the_content_decides_not_the_suffix(write):
    check_same(decode(write("a.jpg", png(RGB))), planes(RGB))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_one_bit(write, name):
    check_same(decode(write(name, Image.fromarray(GRAY > 127))), planes(np.uint8(255) * (GRAY > 127)))


@pytest.mark.parametrize("depth", [2, 4])
def test_few_bits_of_gray_fill_the_range(write, depth):
    levels = np.arange(2**depth, dtype=np.uint8)
    packed = np.packbits((levels[:, None] >> np.arange(depth)[::-1]) & 1)[None]
    path = write("a.png", png(packed, depth=depth, size=(len(levels), 1)))
    check_same(decode(path), planes((levels * (255 // levels[-1]))[None]))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_palette_is_colour(write, name):
    indexed = Image.fromarray(GRAY % 4, "L").convert("P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 200, 210, 221])
    check_same(decode(write(name, indexed)), planes(np.asarray(indexed.convert("RGB"))))


def test_cmyk_becomes_rgb(write):
    ink = np.zeros((2, 3, 4), np.uint8)
    ink[0, 0], ink[1, 2] = (0, 0, 0, 255), (255, 0, 0, 0)
    expected = np.full((2, 3, 3), 255, np.uint8)
    expected[0, 0], expected[1, 2] = 0, (0, 255, 255)
    check_same(decode(write("a.tif", tiff(ink, 5))), planes(expected))


@recent_pillow
def test_ycbcr_becomes_rgb(write):
    gray = np.stack([GRAY, np.full_like(GRAY, 128), np.full_like(GRAY, 128)], axis=-1)
    check_same(decode(write("a.tif", tiff(gray, 6, tags={530: [1, 1]}))), planes(np.stack([GRAY] * 3, axis=-1)))


@pytest.mark.parametrize(
    "content", [png(GRAY16), tiff(GRAY16, 1), tiff(GRAY16, 1, order=">")], ids=["png", "little", "big"]
)
def test_16_bit_gray_keeps_every_bit(write, content):
    check_same(decode(write("a", content)), planes(GRAY16))


@pytest.mark.parametrize("samples", [GRAY, GRAY16], ids=["8 bit", "16 bit"])
def test_tiff_whose_zero_is_white(write, samples):
    check_same(decode(write("a.tif", tiff(samples, 0))), planes(~samples))


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
    check_same(decode(write("a", content)), planes(RGB16))


def test_16_bit_gray_with_opaque_alpha_is_gray(opencv, write):
    check_same(decode(write("a.png", png(opaque(GRAY16)))), planes(GRAY16))


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
    check_same(decode(write("b.png", png(GRAY16))), planes(GRAY16))


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
    check_same(result, upright.flatten(1)[:, turned(orientation)])


# --- transparency ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp", "a.bmp"])
def test_opaque_alpha_is_dropped(write, name):
    path = write(name, opaque(RGB), **({"lossless": True} if name == "a.webp" else {}))
    check_same(decode(path), planes(RGB))
    check_same(decode(path, background="white"), planes(RGB))


def test_opaque_gray_alpha_is_dropped(write):
    check_same(decode(write("a.png", opaque(GRAY))), planes(GRAY))


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
    check_same(decode(write("a.png", samples), background="#3366c8"), expected)


def test_gray_stays_gray_on_a_gray_background_only(write):
    path = write("a.png", np.dstack([GRAY, np.zeros_like(GRAY)]))
    check_same(decode(path, background="gray"), torch.full((1, 5, 7), 128 / 255))
    check_same(decode(path, background="#ff0000"), torch.tensor([1.0, 0, 0]).view(3, 1, 1).expand(3, 5, 7))


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
    check_same(result, torch.where(hidden, torch.ones(()), planes(samples)))


def test_a_transparent_colour_that_is_absent_hides_nothing(write):
    samples = np.where(RGB == 9, 8, RGB).astype(np.uint8)
    check_same(decode(write("a.png", png(samples, before=[(b"tRNS", bytes([0, 9] * 3))]))), planes(samples))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_transparent_gray_of_few_bits(write, depth):
    levels = 2**depth
    packed = np.packbits((np.arange(levels)[:, None] >> np.arange(depth)[::-1]) & 1).astype(np.uint8)[None]
    for key in range(levels):
        content = png(packed, depth=depth, size=(levels, 1), before=[(b"tRNS", struct.pack(">H", key))])
        expected = torch.arange(levels) / (levels - 1)
        expected[key] = 128 / 255
        check_same(decode(write("a.png", content), background="gray"), expected.view(1, 1, -1))


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
    check_same(decode(write("a.tif", content), background="white"), planes(expected))


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
    check_same(decode(path), planes(RGB))


def test_importing_does_not_import_torch():
    code = "import sys, iqazoo.images; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
