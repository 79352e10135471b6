"""What gets built and installed: with and without compilers, in isolation, from an sdist, for editing."""

import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SUFFIX = sysconfig.get_config_var("EXT_SUFFIX")
BUILD_OUTPUT = shutil.ignore_patterns("*.so", "__pycache__")
COMPILER = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
LEVELS = ["_cpu", "_cpu_avx2", "_cpu_avx512"] if platform.machine() in ("x86_64", "AMD64") else ["_cpu"]
CPU_MODULES = {f"iqazoo/{level}{SUFFIX}" for level in LEVELS}
needs_compiler = pytest.mark.skipif(not COMPILER, reason="no C++ compiler")

# Adds two images' squared differences with the kernels, through plain arrays: nothing but Python is needed.
USE_THE_KERNEL = """
from array import array
from importlib import import_module
from importlib.util import find_spec
from iqazoo import _cpu
address = lambda numbers: numbers.buffer_info()[0]
runs = {"_cpu": True, "_cpu_avx2": _cpu.runs_avx2(), "_cpu_avx512": _cpu.runs_avx512()}
for level in (name for name in runs if runs[name]):
    image, reference, error = array("f", [1, 2, 3]), array("f", [1, 2, 9]), array("f", [0])
    kernel = import_module(f"iqazoo.{level}").mse_forward_float32
    kernel(address(image), address(reference), address(error), 1, 3, 2)
    assert error[0] == 12, error
print("torch" if find_spec("torch") else "no torch")
"""

WORK_WITHOUT_KERNELS = """
import torch
from iqazoo.ops import available, mse
assert "not built" in available()["cpu"], available()
assert mse(torch.ones(2, 5), torch.zeros(2, 5)).tolist() == [1, 1]
"""


@pytest.fixture
def source(tmp_path):
    """What a fresh clone holds, as far as packaging looks at it."""
    tree = tmp_path / "source"
    tree.mkdir()
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "Makefile"):
        shutil.copy(ROOT / name, tree)
    for name in ("csrc", "iqazoo", "tests", "benchmarks"):
        shutil.copytree(ROOT / name, tree / name, ignore=BUILD_OUTPUT)
    return tree


def environment(**variables):
    """Without what a developer may have set for the build; None unsets one more."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("IQAZOO_") and k not in ("CXX", "PYTHONPATH")}
    clean |= {"IQAZOO_BUILD_CUDA": "0"} | {k: str(v) for k, v in variables.items() if v is not None}
    return {k: v for k, v in clean.items() if k not in variables or variables[k] is not None}


def run(*command, cwd, fails=False, **variables):
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment(**variables), capture_output=True, text=True
    )
    log = done.stdout + done.stderr
    assert bool(done.returncode) == fails, log
    return log


def build_wheel(source, **variables):
    """A wheel built by this interpreter's own setuptools, pybind11 and ninja."""
    pip = (sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", "dist", source)
    folder = source.parent
    log = run(*pip, cwd=folder, **variables)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel, log


def files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def package(source):
    """All that is to be installed, but the kernels: code, and the files that it reads."""
    return {str(path.relative_to(source)) for path in (source / "iqazoo").rglob("*") if path.is_file()}


def modules(wheel):
    return {name for name in files(wheel) if name.endswith(".so")}


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def check_works_without_kernels(wheel):
    target = wheel.parent / "installed"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", target, wheel, cwd=wheel.parent)
    # Without `site` (-S) an editable install of iqazoo cannot lend its kernels.
    path = os.pathsep.join([str(target), *sys.path])
    run(sys.executable, "-S", "-c", WORK_WITHOUT_KERNELS, cwd=wheel.parent, PYTHONPATH=path)


@needs_compiler
def test_a_wheel_in_isolation_has_kernels_and_never_sees_torch(source, tmp_path):
    run(sys.executable, "-m", "venv", "fresh", cwd=tmp_path)
    python = tmp_path / "fresh" / "bin" / "python"
    log = run(python, "-m", "pip", "wheel", "-v", "--no-deps", "-w", "dist", source, cwd=tmp_path, IQAZOO_BUILD_EXT=1)
    fetched = [
        line for line in log.splitlines() if line.split()[:1] in (["Collecting"], ["Downloading"], ["Installing"])
    ]
    assert any("pybind11" in line for line in fetched)
    assert not any("torch" in line for line in fetched)

    (wheel,) = (tmp_path / "dist").glob("*.whl")
    inside = files(wheel)
    assert modules(wheel) == CPU_MODULES
    assert inside >= package(source) >= {"iqazoo/py.typed", "iqazoo/templates/plugin/both/pyproject.toml.template"}
    assert {name.split("/")[0] for name in inside} == {"iqazoo", "iqazoo-0.1.0.dist-info"}
    with zipfile.ZipFile(wheel) as archive:
        entry_points = archive.read("iqazoo-0.1.0.dist-info/entry_points.txt").decode()
    assert "[iqazoo.metrics]" in entry_points
    assert "iqazoo = iqazoo.cli:main" in entry_points

    run(python, "-m", "pip", "install", "--no-deps", wheel, cwd=tmp_path)
    assert "no torch" in run(python, "-c", USE_THE_KERNEL, cwd=tmp_path)


def test_make_installs_what_the_build_needs():
    """Once, beforehand: in isolation pybind11 would be in another folder each time, and all would be compiled anew."""
    needed = re.search(r"^requires = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.M)[1]
    installed = re.search(r"^BUILD := (.*)$", (ROOT / "Makefile").read_text(), re.M)[1]
    assert installed == needed.replace(",", "").replace('"', "'")


def test_without_a_compiler_the_wheel_is_pure(source, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    wheel, log = build_wheel(source, PATH=empty, CUDA_HOME=None)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert "no C++ compiler: install g++" in log
    check_works_without_kernels(wheel)


def test_a_demanded_kernel_without_a_compiler_is_an_error(source):
    log = run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", source),
        cwd=source.parent,
        fails=True,
        IQAZOO_BUILD_EXT=1,
        CXX="no-such-compiler",
    )
    assert "IQAZOO_BUILD_EXT=1, but these kernels cannot be built: no C++ compiler" in log


def test_a_failing_compiler_costs_only_the_kernels(source):
    wheel, log = build_wheel(source, CXX="false")
    for level in LEVELS:
        why = f'building extension "iqazoo.{level}" failed: iqazoo goes without it; IQAZOO_BUILD_EXT=1 shows why'
        assert why in log
    assert not modules(wheel)
    check_works_without_kernels(wheel)


def test_a_failing_compiler_fails_the_install_that_demands_kernels(source, tmp_path):
    compiler = script(tmp_path / "bin" / "broken-c++", "#!/bin/sh\necho the words of the compiler\nexit 1\n")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", source)
    log = run(*pip, cwd=tmp_path, fails=True, IQAZOO_BUILD_EXT=1, CXX=compiler)
    assert "the words of the compiler" in log


def test_pure_python_on_request(source):
    for level in LEVELS:
        (source / "iqazoo" / f"{level}{SUFFIX}").write_bytes(b"left by an editable install")
    wheel, _ = build_wheel(source, IQAZOO_BUILD_EXT=0, IQAZOO_BUILD_CUDA=1)
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not modules(wheel)


@pytest.mark.parametrize("variable", ["IQAZOO_BUILD_EXT", "IQAZOO_BUILD_CUDA"])
def test_an_unknown_setting_names_the_known_ones(source, variable):
    command = (sys.executable, "setup.py", "--version")
    log = run(*command, cwd=source, fails=True, **{variable: "yes"})
    assert f"{variable} must be auto, 0 or 1; got 'yes'" in log


@pytest.mark.parametrize("chosen", ["70", "sm_90", "90a", "", "80;90"])
def test_architectures_that_are_none(source, chosen):
    log = run(sys.executable, "setup.py", "--version", cwd=source, fails=True, IQAZOO_CUDA_ARCHITECTURES=chosen)
    assert f"IQAZOO_CUDA_ARCHITECTURES must be auto or numbers from 80 on, as in 80,90; got {chosen!r}" in log


@needs_compiler
def test_an_sdist_builds(source, tmp_path):
    build = "from setuptools import build_meta; build_meta.build_sdist('../dist')"
    run(sys.executable, "-c", build, cwd=source)
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(tmp_path / "unpacked", filter="data")
    kernels = {str(path.relative_to(source)) for path in (source / "csrc").rglob("*") if path.is_file()}
    assert inside >= kernels | package(source) | {"setup.py", "pyproject.toml", "LICENSE", "README.md"}
    assert not any(name.startswith(("tests/", "benchmarks/")) or name.endswith(".so") for name in inside)
    wheel, _ = build_wheel(tmp_path / "unpacked" / "iqazoo-0.1.0", IQAZOO_BUILD_EXT=1)
    assert modules(wheel) == CPU_MODULES


@needs_compiler
def test_an_editable_install_holds_its_kernels_and_no_stale_ones(source, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", "fresh", cwd=tmp_path)
    python = tmp_path / "fresh" / "bin" / "python"
    (packages,) = (tmp_path / "fresh" / "lib").glob("python*/site-packages")
    (packages / "build_tools.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    install = (python, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "-e", source)
    kernels = [source / "iqazoo" / f"{level}{SUFFIX}" for level in LEVELS]
    run(*install, cwd=tmp_path, IQAZOO_BUILD_EXT=1)
    assert all(kernel.exists() for kernel in kernels)
    run(python, "-c", USE_THE_KERNEL, cwd=tmp_path)
    run(*install, cwd=tmp_path, CXX="false")
    assert not any(kernel.exists() for kernel in kernels)
    for kernel in kernels:
        kernel.write_bytes(b"left by an earlier install")
    run(*install, cwd=tmp_path, IQAZOO_BUILD_EXT=0)
    assert not any(kernel.exists() for kernel in kernels)


@needs_compiler
def test_a_failing_build_in_place_leaves_no_earlier_kernels(source):
    build = (sys.executable, "setup.py", "build_ext", "--inplace")
    run(*build, cwd=source, IQAZOO_BUILD_EXT=1)
    assert len(list((source / "iqazoo").glob("_cpu*.so"))) == len(LEVELS)
    run(*build, cwd=source, CXX="false")
    assert not list((source / "iqazoo").glob("_cpu*.so"))


@needs_compiler
def test_a_failing_nvcc_costs_only_the_gpus_kernels(source, tmp_path):
    script(tmp_path / "cuda" / "bin" / "nvcc", f"#!/bin/sh\necho $* >> {tmp_path}/asked\nexit 1\n")
    settings = {"IQAZOO_BUILD_CUDA": "auto", "IQAZOO_CUDA_ARCHITECTURES": "86,90", "CUDA_HOME": tmp_path / "cuda"}
    wheel, log = build_wheel(source, **settings)
    assert 'building extension "iqazoo._cuda" failed: iqazoo goes without it; IQAZOO_BUILD_CUDA=1 shows why' in log
    assert modules(wheel) == CPU_MODULES
    asked = (tmp_path / "asked").read_text()
    assert "-gencode=arch=compute_86,code=sm_86 -gencode=arch=compute_90,code=sm_90 -I" in asked
    assert "sm_80" not in asked


@needs_compiler
def test_demanded_kernels_for_the_gpu_without_nvcc_are_an_error(source, tmp_path):
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    pip = (sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", source)
    log = run(*pip, cwd=tmp_path, fails=True, IQAZOO_BUILD_CUDA=1, PATH=tmp_path, CUDA_HOME=None, CXX=compiler)
    assert "IQAZOO_BUILD_CUDA=1, but these kernels cannot be built: no nvcc" in log


@needs_compiler
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
def test_the_gpus_kernels_import_without_a_driver(source):
    wheel, _ = build_wheel(source, IQAZOO_BUILD_EXT=1, IQAZOO_BUILD_CUDA=1, IQAZOO_CUDA_ARCHITECTURES="80")
    assert modules(wheel) == CPU_MODULES | {f"iqazoo/_cuda{SUFFIX}"}
    target = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    ask = "from iqazoo import _cuda; print('reason:', _cuda.device_count_error())"
    # No GPU is to be seen, on a machine that has one too.
    log = run(sys.executable, "-c", ask, cwd=target, PYTHONPATH=target, CUDA_VISIBLE_DEVICES="")
    assert "reason: " in log
    assert "None" not in log
