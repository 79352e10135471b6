"""The CPU's kernels under AddressSanitizer and UndefinedBehaviorSanitizer: every op of tests/ops/cases.py, small."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CXX = shutil.which("g++") or ""  # clang links its sanitizers statically, which a module of Python cannot use
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
COMPILE = f"-O1 -g -std=c++17 -fPIC -fvisibility=hidden -fopenmp -DIQAZOO_MODULE=_cpu {SANITIZE}".split()
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
LEVELS = {"plain": [], "avx2": AVX2, "avx512f": [*AVX2, "-mavx512f", "-mavx512vl", "-mavx512bw", "-mavx512dq"]}

# Each input is an allocation of its own, and ends where its allocation does: past it lies a guarded zone.
DRIVER = """
import sys
sys.path[:0] = sys.argv[1:]
import torch
from iqazoo.ops import backend
backend.MODULES["cpu"] = "_cpu"
assert backend.module("cpu").__file__.startswith(sys.argv[1])
from ops.test_conformance import CASES, LAYOUTS, fused, gradients, make_inputs
for threads in (1, 2):
    torch.set_num_threads(threads)
    for case, layout in [(case, LAYOUTS[name]) for case in CASES for name in ("dense", "unaligned")]:
        for dtype, options, size in [(d, o, s) for d in case.dtypes for o in case.options for s in (*case.sizes, 1500)]:
            inputs = [layout(x.detach()).requires_grad_(x.requires_grad) for x in make_inputs(case, dtype, size, "cpu")]
            gradients(case, fused(case, options, "cpu")(*inputs), inputs)
print("clean")
"""


def library(name):
    """A library of the compiler, or None."""
    path = subprocess.run([CXX, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    return path if os.path.isabs(path) else None


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CXX or not library("libasan.so"), reason="no g++ with libasan")]


def build(sources, folder, flags):
    """The module of kernels, sanitized."""
    import pybind11

    includes = [str(sources), pybind11.get_include(), sysconfig.get_path("include")]
    command = [CXX, *COMPILE, *flags, *(f"-I{path}" for path in includes), "-shared", "-o", folder / "_cpu.so"]
    files = [*sorted((sources / "cpu").glob("*.cpp")), sources / "bind" / "cpu.cpp"]
    done = subprocess.run([*map(str, command), *map(str, files)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def drive(folder):
    """Exit status and log of a run of every op."""
    settings = os.environ | {
        "PYTHONPATH": str(ROOT),
        "IQAZOO_CPU_LEVEL": "baseline",
        "LD_PRELOAD": str(library("libasan.so")),
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }
    command = [sys.executable, "-W", "ignore", "-c", DRIVER, str(folder), str(ROOT / "tests")]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=600)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("level", LEVELS)
def test_clean(tmp_path, level):
    if LEVELS[level] and platform.machine() != "x86_64":
        pytest.skip("x86-64 only")
    if LEVELS[level] and level not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip(f"this processor has no {level}")
    build(ROOT / "csrc", tmp_path, LEVELS[level])
    status, log = drive(tmp_path)
    assert status == 0, log
    assert "clean" in log
    assert "runtime error" not in log


PLANTED = {
    "reads past the end": (
        "reference + start, std::min(kChunk, size - first));\n  });\n  for",
        "reference + start, std::min(kChunk, size - first) + 1);\n  });\n  for",
        "heap-buffer-overflow",
    ),
    "overflows": (
        "std::vector<double> partial",
        "volatile int limit = 2147483647;\n  limit = limit + threads;\n  std::vector<double> partial",
        "runtime error: signed integer overflow",
    ),
}


@pytest.mark.parametrize("defect", PLANTED)
def test_a_planted_defect_is_found(tmp_path, defect):
    """Or the test above could not fail."""
    right, wrong, report = PLANTED[defect]
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    kernel = tmp_path / "csrc" / "cpu" / "mse.cpp"
    assert kernel.read_text().count(right) == 1
    kernel.write_text(kernel.read_text().replace(right, wrong))
    build(tmp_path / "csrc", tmp_path, [])
    status, log = drive(tmp_path)
    assert status != 0
    assert report in log
