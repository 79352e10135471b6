"""The plugins of this repository in one environment: each works beside the others, and leaves without a trace."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PLUGINS = Path(__file__).parents[1] / "plugins"
METRICS = {
    "iqazoo-dists": "dists",
    "iqazoo-unet": "unet unet-time",
    "iqazoo-vggloss": "vgg-feature vgg-style",
}
SCORE = """
import sys, iqazoo, torch
image = torch.rand(1, 3, 64, 64)
for name in sys.argv[1:]:
    metric = iqazoo.create(name, weights=None)
    assert metric(image, image).item() == metric.spec.score_range[0]
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Calls the interpreter of a new environment with all plugins; torch, iqazoo and other requirements are lent."""
    home = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    (packages,) = (home / "venv" / "lib").glob("python*/site-packages")
    lent = [f"import site; site.addsitedir({path!r})" for path in sys.path if path.endswith("site-packages")]
    (packages / "lent.pth").write_text("\n".join(lent))
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("IQAZOO_", "PYTEST_", "PYTHON"))}

    def call(*words, **variables):
        done = subprocess.run(
            [home / "venv" / "bin" / "python", *words],
            env={**clean, **variables},
            cwd=home,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    sources = shutil.copytree(
        PLUGINS, home / "plugins", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    )
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation")
    call(*pip, *(str(sources / name) for name in METRICS))
    call.packages = packages
    return call


def shown(python, **variables):
    """Of each plugin, the status and the metrics."""
    rows = json.loads(python("-m", "iqazoo", "plugins", "--format", "json", **variables))
    return {row["distribution"]: (row["status"], row["metrics"]) for row in rows if row["distribution"] != "iqazoo"}


def files(folder):
    """All files of the environment but those of the plugin dists, and what Python and pip keep."""
    kept = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts and p.name != "RECORD")
    return {p.relative_to(folder): p.read_bytes() for p in kept if "dists" not in str(p.relative_to(folder))}


def test_they_live_side_by_side_and_one_leaves_alone(python):
    assert shown(python) == {name: ("ok", metrics) for name, metrics in METRICS.items()}
    python("-c", SCORE, *" ".join(METRICS.values()).split())

    hidden = shown(python, IQAZOO_DISABLE_PLUGINS="iqazoo-unet")
    assert {name for name, (status, _) in hidden.items() if status == "ok"} == {"iqazoo-dists", "iqazoo-vggloss"}

    before = files(python.packages)
    python("-m", "pip", "uninstall", "--quiet", "--yes", "iqazoo-dists")
    assert files(python.packages) == before
    assert not [*python.packages.glob("iqazoo_dists*")]
    left = {name: ("ok", metrics) for name, metrics in METRICS.items() if name != "iqazoo-dists"}
    assert shown(python) == left
    python("-c", SCORE, "vgg-style", "unet-time", "lpips-vgg")
