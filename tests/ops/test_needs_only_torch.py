"""The ops, their tests and their benchmarks run where only torch and numpy are, on a machine lent for its GPU, say."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = """\
import sys
for name in ("pooch", "tyro", "rich", "safetensors", "PIL", "torchvision", "cv2", "skimage"):
    sys.modules[name] = None
"""
USE_AN_OP = """
import torch
from iqazoo.ops import available, mse
assert available()["torch"] is None
assert mse(torch.ones(2, 5), torch.zeros(2, 5)).tolist() == [1, 1]
"""
COLLECT = """
import pytest
code = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "tests/ops"])
sys.exit(int(code))
"""
MAKE_BENCHMARKS = """
sys.path.insert(0, "benchmarks")
import gpu
assert gpu.all_cases()
"""


def check_runs(code):
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_op_needs_only_torch_and_numpy():
    check_runs(USE_AN_OP)


def test_their_tests_are_collected_without_the_rest():
    check_runs(COLLECT)


def test_their_benchmarks_are_made_without_the_rest():
    check_runs(MAKE_BENCHMARKS)
