"""The CPU's kernels compile for 64-bit ARM, where a cross compiler is at hand."""

import shutil
import subprocess

import pytest
from cuda_shim import CSRC

COMPILER = shutil.which("aarch64-linux-gnu-g++")
SOURCES = sorted((CSRC / "cpu").glob("*.cpp"))


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="no aarch64-linux-gnu-g++")
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_the_kernels_compile(source):
    options = ["-std=c++17", "-O1", "-fopenmp", "-Wall", "-Werror", "-fsyntax-only", f"-I{CSRC}"]
    done = subprocess.run([str(COMPILER), *options, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
