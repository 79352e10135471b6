"""Reading judged images from the cache beside decoding them anew, and making a synthetic set."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from iqazoo.data import TwoAFC
from iqazoo.data.bapps_like import Counts, make_bapps_like

ROWS = 500
PARTS = ("ref", "p0", "p1")
MAKE_PHOTOS = Path(__file__).parents[1] / "demo" / "make_photos.py"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    pytest.importorskip("skimage")
    folder = tmp_path_factory.mktemp("photographs")
    subprocess.run([sys.executable, MAKE_PHOTOS, folder], check=True)
    return folder


def decoded(path):
    """As the recipe of LPIPS reads a file: decode, resize, scale."""
    picture = Image.open(path).convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1).to(torch.float32).div_(255)


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def test_a_set_of_the_default_size_takes_less_than_20_seconds(photographs, tmp_path, benchmark):
    command = [sys.executable, "-m", "iqazoo", "data", "bapps-like", "--images", photographs, "--out", tmp_path / "set"]
    taken = benchmark.pedantic(lambda: seconds(lambda: subprocess.run(command, check=True)), rounds=1)
    assert taken < 20


def test_later_epochs_decode_nothing(photographs, tmp_path, benchmark, monkeypatch):
    """500 triplets from the cache beside the same from their PNG files, in turns in one run."""
    monkeypatch.setenv("IQAZOO_CACHE", str(tmp_path / "cache"))
    make_bapps_like(photographs, tmp_path / "set", Counts(ROWS, 18, 18))
    data = TwoAFC(tmp_path / "set")
    data.prepare()
    references = [Path(data[i]["img_path"]) for i in range(ROWS)]

    def read():
        for i in range(ROWS):
            data[i]

    def decode():
        for reference in references:
            for part in PARTS:
                decoded(reference.parents[1] / part / reference.name)
            np.load(reference.parents[1] / "judge" / f"{reference.stem}.npy")

    times = [(seconds(read), seconds(decode)) for _ in range(7)]
    cached, anew = (min(each) for each in zip(*times, strict=True))
    benchmark.extra_info |= {"cached": cached, "decoded": anew}
    benchmark.pedantic(read, rounds=3)
    assert anew > 5 * cached
