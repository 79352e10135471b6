"""Every broken or unclear file ends as an InputError: nothing else."""

import os
import struct

import numpy as np
import pytest
import torch
from image_maker import (
    RGB,
    check_same,
    chunk,
    outcome,
    planes,
    png,
    samples_of_every_kind,
    tiff,
    two_frames,
)
from PIL import Image

from iqazoo.errors import InputError
from iqazoo.images import decode

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
        check_same(decode(path), planes(np.asarray(photograph)))


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
    damage, decoded = np.random.default_rng(1), []
    for path in list(samples_of_every_kind(write)):
        content = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(150):
            broken = content.copy()
            where = damage.integers(0, len(broken), damage.integers(1, 5))
            broken[where] = damage.integers(0, 256, len(where))
            decoded.append(outcome(write("broken", broken.tobytes())) is not None)  # any other error ends the test
            if path.suffix == ".png":
                decoded.append(outcome(write("mended", mended(broken.tobytes()))) is not None)
    assert 0 < sum(decoded) < len(decoded)
