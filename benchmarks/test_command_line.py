"""Whole processes, as a user starts them. The bounds are asserted here and nowhere else."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from skimage import data

PAIRS = 32


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Pairs of 512 x 512 PNG files: a photograph, turned and rolled, and the same with noise."""
    folder = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for side in ("reference", "image"):
        (folder / side).mkdir()
    for i in range(PAIRS):
        photograph = np.roll(np.rot90(data.astronaut(), i), 16 * i, axis=1)
        noisy = (photograph + rng.normal(0, 10, photograph.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(photograph).save(folder / "reference" / f"{i:02}.png")
        Image.fromarray(noisy).save(folder / "image" / f"{i:02}.png")
    return folder


def process(*arguments):
    subprocess.run([sys.executable, *map(str, arguments)], check=True, capture_output=True)


@pytest.mark.parametrize("metric", ["ssim", "psnr"])
def test_score_a_folder(benchmark, folders, metric):
    sides = ("--image", folders / "image", "--reference", folders / "reference")
    command = ("-m", "iqazoo", "score", metric, *sides, "-o", folders / "scores.csv")
    benchmark.pedantic(process, command, rounds=3, warmup_rounds=1)
    # pyiqa 0.1.16 took 27 s for ssim on two cores of this kind.
    assert benchmark.stats["median"] < 27 / 6


def test_list(benchmark):
    benchmark.pedantic(process, ("-m", "iqazoo", "list"), rounds=5, warmup_rounds=1)
    assert benchmark.stats["median"] < 0.3


def test_import(benchmark):
    """What `import iqazoo` adds to starting Python."""
    benchmark.pedantic(process, ("-c", "import iqazoo"), rounds=5, warmup_rounds=1)
    assert benchmark.stats["median"] < 0.1
