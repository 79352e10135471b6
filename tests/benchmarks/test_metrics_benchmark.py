"""The benchmarks of metrics: which cases there are, and one real run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import plugin_maker
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NO_REFERENCE = (
    plugin_maker.GOOD.replace('"FR"', '"NR", min_size=300, differentiable=False')
    .replace("image, reference", "image")
    .replace("(image - reference)", "image")
)


def bench(*options, path=()):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "pytest", "benchmarks", "-p", "no:cacheprovider", "-q", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    good = NO_REFERENCE.format(name="blind", project="iqazoo-blind")
    return [
        plugin_maker.install(folder, "iqazoo-blind", good, "blind"),
        plugin_maker.install(folder, "iqazoo-raises", "raise OSError('no such library')", "raises"),
    ]


def test_cases_come_from_the_registry(plugins):
    code, out = bench("--collect-only", "benchmarks/test_metrics.py", path=plugins)
    assert code == 0, out
    for metric in ("psnr", "ssim", "lpips-vgg"):
        assert all(f"[{metric}-{what}-1080p]" in out for what in ("value", "value+gradient"))
    # It takes no image of 256 x 256, and has no gradient.
    assert {line.split("[")[1] for line in out.splitlines() if "[blind" in line} == {
        "blind-value-512]",
        "blind-value-1080p]",
    }


def test_an_unknown_metric_or_device_is_refused():
    code, out = bench("--metric", "psrn")
    assert code == 4
    assert "did you mean 'psnr'" in out
    code, out = bench("--metric", "psnr", "--device", "nowhere")
    assert code == 4
    assert "--device nowhere cannot be used" in out


def test_a_real_run(plugins, tmp_path):
    names = [f"--metric={name}" for name in ("psnr", "raises", "blind")]
    file = tmp_path / "results.json"
    code, out = bench(*names, "--budget", "0.2", f"--benchmark-json={file}", path=plugins)
    assert code == 1, out  # for the broken one
    found = json.loads(file.read_text())
    facts = {(b["extra_info"]["metric"], b["extra_info"]["what"]): b["extra_info"] for b in found["benchmarks"]}
    assert set(facts) == {("psnr", "value"), ("psnr", "value+gradient"), ("blind", "value")}
    psnr = facts["psnr", "value"]
    assert (psnr["device"], psnr["dtype"], psnr["shape"][:2]) == ("cpu", "float32", [1, 3])
    assert psnr["backend"] in ("cpu", "torch")
    assert facts["blind", "value"]["backend"] == "torch"
    assert facts["blind", "value"]["distribution"] == "iqazoo-blind 1.2"
    (broken,) = [left for left in found["left_out"] if left["outcome"] == "failed"]
    assert "raises" in broken["name"]
    assert "no such library" in broken["reason"]


def test_what_is_too_slow_is_left_out_with_the_reason(tmp_path):
    file = tmp_path / "results.json"
    code, out = bench("--metric", "ms_ssim", "--budget", "1e-9", "-rs", f"--benchmark-json={file}")
    assert code == 0, out
    assert "the first call took" in out
    assert "a call would take about" in out
    assert not file.exists() or not json.loads(file.read_text())["benchmarks"]
