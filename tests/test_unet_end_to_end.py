"""From a checkout to scores: iqazoo and the plugin unet, installed into a fresh environment, through their commands."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from iqazoo.testing import pictures

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PLUGIN = "plugins/iqazoo-unet"
TORCH = "torch==2.13.0"
BUILD_OUTPUT = shutil.ignore_patterns("*.so", "__pycache__", "build", "*.egg-info")
COUNTS = ("--train", "90", "--val", "36", "--jnd", "18")
BRIEF = ("--epochs", "1", "--decay-epochs", "1", "--batch-size", "18", "--lr", "0.002")
SMALL = ("--net.dim", "8", "--net.dim-mults", "1", "2")

CREATE = """
import iqazoo, torch
unet = iqazoo.create("unet", weights="run/best.safetensors")
assert unet.network.trunk.channels == (8, 8, 8, 16), unet.network.trunk.channels
image = torch.rand(1, 3, 64, 64)
assert unet(image, image).item() == 0
print(iqazoo.__file__)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """What a fresh clone holds, as far as installing looks at it."""
    tree = tmp_path_factory.mktemp("clone")
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("csrc", "iqazoo", PLUGIN):
        shutil.copytree(ROOT / name, tree / name, ignore=BUILD_OUTPUT)
    return tree


@pytest.fixture(scope="module")
def run(tmp_path_factory, source):
    """Calls a command of an environment in which `pip install TORCH . plugins/iqazoo-unet` was called."""
    home = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    # torch and other requirements are lent: pip finds them installed, and nothing is downloaded.
    (packages,) = (home / "venv" / "lib").glob("python*/site-packages")
    lent = [f"import site; site.addsitedir({path!r})" for path in sys.path if path.endswith("site-packages")]
    (packages / "lent.pth").write_text("\n".join(lent))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("IQAZOO_", "PYTEST_", "PYTHON"))}
    clean |= {"IQAZOO_BUILD_CUDA": "0", "IQAZOO_CACHE": str(home / "cache")}

    def call(command, *arguments, cwd=home):
        words = [home / "venv" / "bin" / command, *arguments]
        done = subprocess.run([*map(str, words)], cwd=cwd, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-warn-script-location")
    call("python", *pip, TORCH, ".", f"./{PLUGIN}", cwd=source)
    for name in ("photos", "images"):
        (home / name).mkdir()
        for path in pictures.PHOTOGRAPHS:
            Image.open(path).save(home / name / f"{path.stem}.png")
    call.home = home
    return call


def test_it_is_listed_checked_trained_created_and_scored(run):
    rows = {row["name"]: row for row in json.loads(run("iqazoo", "list", "--format", "json"))}
    assert {"unet", "unet-time", "lpips"} <= rows.keys()

    checks = json.loads(run("iqazoo", "check", "unet", "--format", "json"))
    assert {row["result"] for row in checks} == {"passed", "skipped"}
    assert [row["check"] for row in checks if row["result"] == "skipped"] == ["check_map"]

    run("iqazoo", "data", "bapps-like", "--images", "photos", "--out", "DEMO", *COUNTS)
    told = run("iqazoo", "train", "bapps", "unet", "--data", "DEMO", "--out", "run", *BRIEF, *SMALL)
    assert told.strip() == 'iqazoo.create("unet", weights="run/best.safetensors")'

    installed = Path(run("python", "-c", CREATE).strip())
    assert installed.is_relative_to(run.home)

    output = run.home / "scores.csv"
    run("iqazoo", "score", "unet=run/best.safetensors", "--image", "images", "--reference", "photos", "-o", output)
    with output.open() as file:
        assert [float(row["unet"]) for row in csv.DictReader(file)] == [0.0] * len(pictures.PHOTOGRAPHS)
