"""The colour photographs that come with scikit-image, in a folder."""

import runpy
from pathlib import Path

import pytest

MAKE_PHOTOS = Path(__file__).parents[1] / "demo" / "make_photos.py"


def make_photographs(folder):
    """Write them into the folder, or skip the test where scikit-image is not installed."""
    pytest.importorskip("skimage")
    runpy.run_path(str(MAKE_PHOTOS))["main"](folder)
    return folder
