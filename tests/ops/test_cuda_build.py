"""What nvcc makes of the GPU's kernels, read without a GPU: spills, atomics, what the module is linked with."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "csrc/cuda").glob("*.cu"))
ARCHITECTURES = ("sm_80", "sm_90")
NVCC = shutil.which("nvcc") or "nvcc"
# As setup.py compiles them.
OPTIONS = ("-O3", "-std=c++17", "-DNDEBUG", f"-I{ROOT / 'csrc'}")
FLOAT_ATOMIC = re.compile(r"\b(?:atom|red)\.\S*\.(?:noftz\.)?b?f(?:16|32|64)")

needs_nvcc = pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
pytestmark = pytest.mark.slow


def nvcc(*arguments):
    done = subprocess.run([NVCC, *OPTIONS, *map(str, arguments)], capture_output=True, text=True)
    log = done.stdout + done.stderr
    assert done.returncode == 0, log
    return log


@needs_nvcc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_kernel_spills_or_keeps_a_stack(source, architecture, tmp_path):
    log = nvcc(f"-arch={architecture}", "-Xptxas", "-v", "-cubin", source, "-o", tmp_path / "kernels.cubin")
    entries = re.findall(r"Compiling entry function '(\w+)'", log)
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert bool(entries) == ("__global__" in source.read_text())
    assert len(frames) >= len(entries)
    assert set(frames) <= {("0", "0", "0")}, log


@needs_nvcc
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_atomics_on_floating_point(source, tmp_path):
    nvcc("-arch=sm_90", "-ptx", source, "-o", tmp_path / "kernels.ptx")
    assert not FLOAT_ATOMIC.search((tmp_path / "kernels.ptx").read_text())


@needs_nvcc
def test_a_float_atomic_would_be_seen(tmp_path):
    source = tmp_path / "sum.cu"
    source.write_text("__global__ void sum(float* a, double* b) { atomicAdd(a, 1.f); atomicAdd(b, 1.); }")
    nvcc("-arch=sm_90", "-ptx", source, "-o", tmp_path / "sum.ptx")
    assert len(FLOAT_ATOMIC.findall((tmp_path / "sum.ptx").read_text())) == 2


@needs_nvcc
def test_nvcc_reads_what_the_shim_reads(tmp_path):
    """The shim's own check uses every macro and collective; it must be CUDA too."""
    nvcc("-arch=sm_80", "-diag-suppress", "550", "-c", ROOT / "tests/shim_check.cu", "-o", tmp_path / "check.o")


@pytest.mark.skipif(not shutil.which("ldd"), reason="no ldd")
def test_the_module_holds_the_cuda_runtime():
    """So it imports, and says what is missing, on a machine without CUDA's libraries."""
    spec = find_spec("iqazoo._cuda")
    if spec is None or spec.origin is None:
        pytest.skip("iqazoo._cuda was not built")
    libraries = subprocess.run(["ldd", spec.origin], capture_output=True, text=True, check=True).stdout
    assert "libc.so" in libraries
    assert "cudart" not in libraries
    assert "libcuda.so" not in libraries
    ask = "import iqazoo._cuda as c; c.device_count_error()"
    subprocess.run([sys.executable, "-c", ask], check=True, cwd=ROOT)
