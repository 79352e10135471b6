"""The GPU's kernels called on guarded memory: compiled for the CPU through csrc/shim, or on a device."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import math
import os
import shlex
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

CSRC = Path(__file__).parents[1] / "csrc"
MODULE = "iqazoo_cuda_shim"
ORDERS = {"ascending": (0, 0), "descending": (1, 0), "random": (2, 7)}
DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
    torch.float16: "float16",
}
# Hidden symbols: two builds in one process must not share their static arrays.
FLAGS = ("-std=c++17", "-fPIC", "-fvisibility=hidden", f"-DIQAZOO_MODULE={MODULE}", "-Wall", "-Wno-unknown-pragmas")
MARGIN = 1 << 16  # bytes on either side of each tensor, even
POISON = 0xFF  # makes NaN, or -1
# Around outputs, NaN too. A kernel that reads poison and writes it on beside an output does not go unnoticed.
OTHER_POISON = 0xFE


def compiler() -> list[str] | None:
    """The command of the C++ compiler, found as setup.py finds it, or None where nothing can be built."""
    chosen = shlex.split(os.environ.get("CXX", "")) or [
        next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), "no-compiler")
    ]
    header = Path(sysconfig.get_path("include"), "Python.h")
    return chosen if shutil.which(chosen[0]) and header.exists() else None


@dataclass(frozen=True)
class Mutant:
    """A change of a kernel's source that its checks must notice."""

    name: str
    old: str  # occurs once in the file
    new: str
    file: str | None = None  # in csrc, for a header; else the op's own source
    dtype: torch.dtype = torch.float32  # that of the checks

    def apply(self, path: Path) -> str:
        """The changed text of a file."""
        text = path.read_text()
        assert text.count(self.old) == 1, f"{self.old!r} must occur once in {path.name}: mend this mutant"
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class View:
    """A tensor that a kernel gets as its address and the strides of these dimensions; None for a stride of 0."""

    tensor: Tensor
    dimensions: tuple[int | None, ...]


@dataclass(frozen=True)
class Op:
    """How the kernels of one csrc/cuda/*.cu are called and what they must give."""

    source: str  # the file's name without .cu
    cases: dict[str, Callable[[torch.dtype], tuple]]  # each makes the inputs; quick ones first
    run: Callable[..., tuple[Tensor, ...]]  # (kernels, *inputs) -> outputs
    reference: Callable[..., tuple[Tensor, ...]]  # (*inputs) -> outputs, of any floating-point type
    mutants: tuple[Mutant, ...]
    # (relative, absolute), by the dtype of an output; holds the dtypes that the kernels take. Others must be equal.
    tolerance: dict[torch.dtype, tuple[float, float]]

    def check(self, kernels: Kernels, case: str, dtype: torch.dtype) -> tuple[Tensor, ...]:
        """The outputs for one case; an error where they are not the reference's."""
        inputs = self.cases[case](dtype)
        outputs = self.run(kernels, *inputs)
        for output, want in zip(outputs, self.reference(*inputs), strict=True):
            got = output.cpu()
            rtol, atol = self.tolerance.get(got.dtype, (0, 0))
            torch.testing.assert_close(got, want.to(got.dtype), rtol=rtol, atol=atol, equal_nan=True)
        return outputs


def all_ops() -> list[Op]:
    """What the files of tests/cuda_cases define."""
    files = sorted((Path(__file__).parent / "cuda_cases").glob("*.py"))
    return [importlib.import_module(f"cuda_cases.{file.stem}").OP for file in files]


def build_program(sources: Iterable[Path], target: Path) -> Path:
    """An executable of CUDA sources, for the CPU."""
    options = [*FLAGS, "-O1", f"-I{CSRC / 'shim'}", f"-I{CSRC}", "-x", "c++"]
    _run([*(compiler() or []), *options, *map(str, sources), "-o", str(target)])
    return target


class Builder:
    """Compiles all of csrc/cuda once, then only what a mutant changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builds = 0
        sources = [*sorted((CSRC / "cuda").glob("*.cu")), CSRC / "shim/run.cpp", CSRC / "bind/cuda.cpp"]
        with ThreadPoolExecutor(2) as pool:
            objects = pool.map(lambda source: self._compile(source, folder / f"{source.name}.o"), sources)
            self.objects = dict(zip((source.name for source in sources), objects, strict=True))

    def build(self, op: Op | None = None, mutant: Mutant | None = None) -> Build:
        """The module, with a mutant of one of the files that make up an op."""
        self.builds += 1
        folder = self.folder / f"build{self.builds}"
        folder.mkdir()
        objects = self.objects
        if op and mutant:
            source = CSRC / f"cuda/{op.source}.cu"
            mutated = folder / (mutant.file or f"cuda/{op.source}.cu")
            mutated.parent.mkdir(parents=True)
            mutated.write_text(mutant.apply(CSRC / mutated.relative_to(folder)))
            if not mutant.file:
                source = mutated
            compiled = self._compile(source, folder / f"{source.name}.o", folder)
            # First, as a linker keeps the first of a header's inline functions.
            objects = {source.name: compiled} | {k: v for k, v in objects.items() if k != source.name}
        path = folder / f"{MODULE}{sysconfig.get_config_var('EXT_SUFFIX')}"
        _run([*(compiler() or []), "-shared", *map(str, objects.values()), "-o", str(path)])
        return Build(path)

    def _compile(self, source: Path, target: Path, *first: Path) -> Path:
        import pybind11

        include = [*first, CSRC / "shim", CSRC]
        if source.parent.name == "bind":  # Python's headers are for the binding alone
            include += map(Path, (pybind11.get_include(), *map(sysconfig.get_path, ("include", "platinclude"))))
        level = "-O0" if source.parent.name == "bind" else "-O1"
        options = [*FLAGS, level, *(f"-I{folder}" for folder in include)]
        _run([*(compiler() or []), *options, "-x", "c++", "-c", str(source), "-o", str(target)])
        return target


class Build:
    """A loaded module."""

    def __init__(self, path: Path) -> None:
        # pybind11 keeps one module per full name; Python finds the entry point by the name's last part.
        spec = importlib.util.spec_from_file_location(f"{path.parent}.{MODULE}", path)
        assert spec is not None
        assert spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.library = ctypes.CDLL(str(path))

    def kernels(self, order: str) -> Kernels:
        """Its kernels, with threads and blocks in one of ORDERS from now on."""
        self.library.iqazoo_shim_order(*ORDERS[order])
        return Kernels(self.module)


class Kernels:
    """Calls kernels with the arguments that iqazoo.ops.backend.launch takes, and watches what they write."""

    def __init__(self, module: ModuleType, device: str = "cpu", margin: int = MARGIN) -> None:
        self.module = module
        self.device = torch.device(device)
        self.margin = margin
        self.outputs: list[tuple[Tensor, Tensor]] = []  # what `empty` made, and all of its memory

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A tensor that a kernel may write, full of poison."""
        tensor, memory = self._guarded(shape, dtype, OTHER_POISON)
        self.outputs.append((tensor, memory))
        return tensor

    def __call__(self, op: str, *arguments: Any, dtype: torch.dtype | None = None) -> None:
        """Run the kernel `op` on tensors, views and numbers, for a dtype, that of the first argument by default.

        Tensors not from `empty` must stay as they are. Address 0 stands for an array that is not wanted.
        """
        like = arguments[0]
        assert isinstance(like, Tensor)
        inputs: list[tuple[Tensor, Tensor, Tensor]] = []
        numbers = [self._argument(a, inputs) for a in arguments]
        stream = torch.cuda.current_stream().cuda_stream if self.device.type == "cuda" else 0
        getattr(self.module, f"{op}_{DTYPES[dtype or like.dtype]}")(*numbers, self.device.index or 0, stream)
        for given, placed, memory in inputs:
            assert same_bits(given, placed.cpu()), f"{op} changed an input"
            self._check_margins(placed, memory, op, POISON)
        for tensor, memory in self.outputs:
            self._check_margins(tensor, memory, op, OTHER_POISON)

    def _argument(self, argument: Any, inputs: list[tuple[Tensor, Tensor, Tensor]]) -> Any:
        if isinstance(argument, View):
            strides = (0 if d is None else argument.tensor.stride(d) for d in argument.dimensions)
            return self._address(argument.tensor, inputs), *strides
        return self._address(argument, inputs) if isinstance(argument, Tensor) else argument

    def _address(self, tensor: Tensor, inputs: list[tuple[Tensor, Tensor, Tensor]]) -> int:
        storages = [memory.untyped_storage().data_ptr() for _, memory in self.outputs]
        if tensor.untyped_storage().data_ptr() in storages:
            return tensor.data_ptr()
        placed, memory = self._guarded(tensor.shape, tensor.dtype, POISON, tensor.stride())
        placed.copy_(tensor)
        inputs.append((tensor, placed, memory))
        return placed.data_ptr()

    def _guarded(
        self, shape: Sequence[int], dtype: torch.dtype, margin: int, strides: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """A poisoned tensor, and its memory with the margins: bytes of `margin` and 0xFF in turn."""
        if strides is None:
            strides = torch.empty(tuple(shape), device="meta").stride()
        last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        size = (1 + last if math.prod(shape) else 0) * dtype.itemsize
        memory = torch.full((2 * self.margin + size,), POISON, dtype=torch.uint8, device=self.device)
        end = self.margin + size
        memory[: self.margin : 2] = margin
        memory[end::2] = margin
        return memory[self.margin : end].view(dtype).as_strided(tuple(shape), tuple(strides)), memory

    def _check_margins(self, tensor: Tensor, memory: Tensor, op: str, margin: int) -> None:
        want = torch.full((self.margin,), POISON, dtype=torch.uint8, device=self.device)
        want[::2] = margin
        end = len(memory) - self.margin
        clean = torch.equal(memory[: self.margin], want) and torch.equal(memory[end:], want)
        assert clean, f"{op} wrote outside a tensor of shape {list(tensor.shape)}"


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().flatten().view(torch.uint8)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal to the last bit, NaN included."""
    return a.shape == b.shape and torch.equal(_bytes(a), _bytes(b))


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, shlex.join(command) + "\n" + done.stdout + done.stderr
