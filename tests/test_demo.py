"""The demo: the pairs it makes, and `make demo` as a newcomer runs it."""

import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "images", "scores.csv", "__pycache__", "*.so", "*.egg-info")


def make_pairs(folder):
    subprocess.run([sys.executable, ROOT / "demo" / "make_pairs.py", folder], check=True, capture_output=True)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}


def test_the_same_pairs_every_time(tmp_path):
    pytest.importorskip("skimage")
    first, second = make_pairs(tmp_path / "first"), make_pairs(tmp_path / "second")
    assert first == second
    names = {kind: {Path(f).name for f in first if f.startswith(kind)} for kind in ("reference", "distorted")}
    assert names["reference"] == names["distorted"]
    assert len(names["reference"]) >= 12
    assert all(first[f"reference/{name}"] != first[f"distorted/{name}"] for name in names["reference"])


@pytest.mark.slow
def test_make_demo_without_a_network_for_weights(tmp_path):
    """torch and the rest are installed anew; only LPIPS, whose weights cannot be had, is missing in the table."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=LEFT_OUT)
    caches = {"IQAZOO_CACHE": str(tmp_path / "cache"), "TORCH_HOME": str(tmp_path / "torch")}
    # make hands its variables to the make it starts, and this test itself may run under make.
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "VENV")}
    done = subprocess.run(
        ["make", "demo", f"PYTHON={sys.executable}"],
        cwd=tree,
        env=inherited | caches | {"IQAZOO_OFFLINE": "1", "IQAZOO_BUILD_CUDA": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len([line for line in done.stderr.splitlines() if "lpips" in line]) == 1, done.stderr
    with open(tree / "demo" / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(list((tree / "demo" / "images" / "distorted").glob("*.png")))
    for row in rows:
        assert row["lpips"] == ""
        assert float(row["psnr"]) > 5
        assert 0 < float(row["ssim"]) < 1
    gained = re.search(r"training gained ([\d.]+) points", done.stdout)
    assert gained, done.stdout
    assert float(gained[1]) >= 10
