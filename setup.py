"""Builds the kernels of csrc/ with ninja; everything else of the project is in pyproject.toml.

Two environment variables say what to build, each `auto` (the default), `0` or `1`, and one for which GPUs:

    IQAZOO_BUILD_EXT    all kernels. auto: where a C++ compiler and Python.h are found; a failing build says
                        so in one line, and the install goes on without kernels. 0: pure Python, whatever the
                        other says. 1: a failing build fails the install and shows the compiler's words.
    IQAZOO_BUILD_CUDA   the kernels for NVIDIA GPUs, likewise. auto: where nvcc is found too.
    IQAZOO_CUDA_ARCHITECTURES
                        auto (the default): 80, 90 and, through PTX, what is to come. Or some of your own, as in `80`
                        or `86,90`: each takes nvcc about half a minute of two processors.

The kernels know nothing of torch, so the build needs none. The compiler is $CXX, else c++, g++ or clang++;
nvcc is that of $CUDA_HOME, else the one on PATH.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from glob import glob
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.editable_wheel import editable_wheel
from setuptools.errors import CompileError

BUILD_EXT = "IQAZOO_BUILD_EXT"
BUILD_CUDA = "IQAZOO_BUILD_CUDA"
ARCHITECTURES = "IQAZOO_CUDA_ARCHITECTURES"
OPTIMIZE = "-O3 -std=c++17 -DNDEBUG"
# No kernel reads errno or floating-point traps; loops with comparisons vectorise only where the compiler knows it.
NO_TRAPS = "-fno-math-errno -fno-trapping-math"
# Machine code for sm_80 and sm_90, and PTX for the GPUs to come. iqazoo/ops/backend.py names the oldest.
GPUS = (
    "-gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90,code=sm_90 -gencode=arch=compute_90,code=compute_90"
)
# What a module's sources are compiled with besides. The CPU's kernels are whole modules, one for each level, not one
# that mixes instruction sets: a linker merges inline functions, and may keep one that an old CPU cannot run. Loops that
# the compiler vectorises stay with 256 bits, which slow down no processor; kernels ask for 512 by name.
AVX2 = "-fopenmp -mavx2 -mfma -mf16c -mprfchw"
FLAGS = {
    "iqazoo._cpu": "-fopenmp",
    "iqazoo._cpu_avx2": AVX2,
    "iqazoo._cpu_avx512": f"{AVX2} -mavx512f -mavx512vl -mavx512bw -mavx512dq -mprefer-vector-width=256",
    "iqazoo._cuda": "",
}
LEVELS = ("_cpu", "_cpu_avx2", "_cpu_avx512")  # on x86-64; elsewhere the first alone
RULES = """\
rule cxx
  command = $cxx $cxxflags $flags -MMD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule nvcc
  command = $nvcc $nvccflags $flags -MD -MF $out.d -c $in -o $out
  depfile = $out.d
  deps = gcc
rule link_cpu
  command = $cxx -shared -fopenmp $in -o $out
rule link_cuda
  command = $nvcc -shared --cudart static $in -o $out
"""


def find_cxx() -> str | None:
    """The command of the C++ compiler; $CXX may hold options too."""
    chosen = shlex.split(os.environ.get("CXX", ""))
    if chosen:
        return shlex.join(chosen) if shutil.which(chosen[0]) else None
    return next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), None)


def find_nvcc() -> str | None:
    """The command of nvcc."""
    home = os.environ.get("CUDA_HOME")
    nvcc = (home and shutil.which("nvcc", path=str(Path(home) / "bin"))) or shutil.which("nvcc")
    return shlex.quote(nvcc) if nvcc else None


def missing_for_cpu() -> str | None:
    """Why no kernel can be built here, or None."""
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not sys.platform.startswith("linux"):
        return "they are built on Linux only"
    if find_cxx() is None:
        return "no C++ compiler: install g++, or set CXX to a compiler that exists"
    return None if header.exists() else f"no {header}: install Python's development headers"


def missing_for_cuda() -> str | None:
    """Why no kernel for the GPU can be built here, or None."""
    return missing_for_cpu() or (None if find_nvcc() else "no nvcc: put it on PATH, or set CUDA_HOME")


def setting(variable: str) -> str:
    """The value of an environment variable of the build."""
    value = os.environ.get(variable, "auto")
    if value not in ("auto", "0", "1"):
        raise SystemExit(f"{variable} must be auto, 0 or 1; got {value!r}")
    return value


def gpus() -> str:
    """The options of nvcc that name the GPUs."""
    chosen = os.environ.get(ARCHITECTURES, "auto")
    if chosen == "auto":
        return GPUS
    if not re.fullmatch(r"(8|9|1\d)\d(,(8|9|1\d)\d)*", chosen):
        raise SystemExit(f"{ARCHITECTURES} must be auto or numbers from 80 on, as in 80,90; got {chosen!r}")
    return " ".join(f"-gencode=arch=compute_{n},code=sm_{n}" for n in chosen.split(","))


def wanted(variable: str, missing: str | None) -> bool:
    """Whether to build what `variable` governs; an error where it is demanded but cannot be had."""
    if missing and setting(variable) == "1":
        raise SystemExit(f"{variable}=1, but these kernels cannot be built: {missing}")
    if missing and setting(variable) == "auto":
        sys.stderr.write(f"{variable}=auto leaves these kernels out: {missing}\n")
    return not missing and setting(variable) != "0"


def kernels(module: str, folder: str, suffix: str, variable: str) -> Extension:
    """A module of kernels and its binding. setuptools lets an optional one fail, with a warning."""
    sources = [*sorted(glob(f"csrc/{folder}/*.{suffix}")), f"csrc/bind/{folder}.cpp"]
    return Extension(f"iqazoo.{module}", sources, optional=setting(variable) != "1")


def extensions() -> list[Extension]:
    """The modules to build here."""
    settings = [setting(variable) for variable in (BUILD_EXT, BUILD_CUDA)]
    gpus()  # tells of a mistake in any case
    if settings[0] == "0":
        return []
    found = []
    if wanted(BUILD_EXT, missing_for_cpu()):
        levels = LEVELS if platform.machine() in ("x86_64", "AMD64") else LEVELS[:1]
        found.extend(kernels(level, "cpu", "cpp", BUILD_EXT) for level in levels)
    if wanted(BUILD_CUDA, missing_for_cuda()):
        found.append(kernels("_cuda", "cuda", "cu", BUILD_CUDA))
    return found


def ninja_path(path: str | Path) -> str:
    """A path as ninja's grammar wants it."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def ninja_header() -> str:
    """Compilers, flags and rules."""
    import pybind11

    python = {sysconfig.get_path("include"), sysconfig.get_path("platinclude")}
    folders = [str(Path("csrc").resolve()), pybind11.get_include(), *sorted(python)]
    include = " ".join(shlex.quote(f"-I{folder}") for folder in folders)
    variables = {
        "cxx": find_cxx() or "",
        "nvcc": find_nvcc() or "",
        "cxxflags": f"{OPTIMIZE} {NO_TRAPS} -fPIC -fvisibility=hidden {include}",
        "nvccflags": f"{OPTIMIZE} -Xcompiler -fPIC,-fvisibility=hidden {gpus()} {include}",
    }
    lines = [f"{name} = {value.replace('$', '$$')}\n" for name, value in variables.items()]
    return "".join(lines) + RULES


def ninja_module(extension: Extension) -> str:
    """How the objects of one module are made and linked."""
    lines = []
    objects = " ".join(f"{extension.name}/{source}.o" for source in extension.sources)
    flags = f"-DIQAZOO_MODULE={extension.name.rpartition('.')[2]} {FLAGS[extension.name]}"
    for source in extension.sources:
        rule = "nvcc" if source.endswith(".cu") else "cxx"
        lines.append(f"build {extension.name}/{source}.o: {rule} {ninja_path(Path(source).resolve())}\n")
        lines.append(f"  flags = {flags}\n")
    rule = "link_cuda" if extension.name == "iqazoo._cuda" else "link_cpu"
    lines.append(f"build {extension.name}.so: {rule} {objects}\n")
    return "".join(lines)


def run_ninja(folder: Path, target: str) -> None:
    """Make `target` in the folder of build.ninja; a failure holds the compiler's words."""
    ninja = [sys.executable, "-m", "ninja"] if find_spec("ninja") else [shutil.which("ninja") or ""]
    if not ninja[0]:
        raise CompileError("no ninja: pip install ninja")
    done = subprocess.run([*ninja, "-C", str(folder), target], capture_output=True, text=True)
    if done.returncode:
        raise CompileError(done.stdout + done.stderr)


class EditableWheel(editable_wheel):
    """Without modules to build, setuptools would leave those of an earlier editable install in use."""

    def run(self) -> None:
        """Install in place."""
        for module in Path("iqazoo").glob("_c*.so"):
            module.unlink()
        super().run()


class BuildWithNinja(build_ext):
    """setuptools decides what to build and where it goes; ninja compiles it."""

    def run(self) -> None:
        """Build all modules."""
        for name in FLAGS:  # or one of an earlier build would slip into this one
            Path(self.get_ext_fullpath(name)).unlink(missing_ok=True)
            Path(self.build_lib, self.get_ext_filename(name)).unlink(missing_ok=True)  # copied when building in place
        super().run()

    def build_extension(self, ext: Extension) -> None:
        """Build one module."""
        # For an editable install setuptools gives a folder that it removes, and the next would compile all anew.
        folder, built = Path("build/editable" if self.editable_mode else self.build_temp), f"{ext.name}.so"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "build.ninja").write_text(ninja_header() + "".join(map(ninja_module, self.extensions)))
        try:
            run_ninja(folder, built)
        except CompileError as error:
            if not ext.optional:
                raise
            variable = BUILD_CUDA if ext.name == "iqazoo._cuda" else BUILD_EXT
            raise CompileError(f"iqazoo goes without it; {variable}=1 shows why") from error
        module = Path(self.get_ext_fullpath(ext.name))
        module.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / built, module)


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildWithNinja, "editable_wheel": EditableWheel})
