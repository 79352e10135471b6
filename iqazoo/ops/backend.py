"""What can run an op here, what a call takes, and how a kernel is called.

An op's reference in pure torch always runs. The kernels are in two compiled modules that may be missing:
without a compiler at install, or without an NVIDIA GPU.
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Literal

import torch
from torch import Tensor

from iqazoo import environment
from iqazoo.errors import InputError

Backend = Literal["auto", "torch", "cpu", "cuda"]

MODULES = {"cpu": "iqazoo._cpu", "cuda": "iqazoo._cuda"}
AVX2_MODULE = "iqazoo._cpu_avx2"
BUILD_VARIABLES = {"cpu": "IQAZOO_BUILD_EXT", "cuda": "IQAZOO_BUILD_CUDA"}
DTYPES = {torch.float32: "float32", torch.float64: "float64"}
PLAIN = (Tensor, torch.nn.Parameter)
OLDEST_GPU = (8, 0)  # the first architecture that setup.py compiles for


def available() -> dict[str, str | None]:
    """The backends by name, each with None if it works here, else the reason why it does not."""
    return {"torch": None} | {name: _unavailable(name) for name in MODULES}


def choose(backend: Backend, *tensors: Tensor) -> Literal["torch", "cpu", "cuda"]:
    """The backend that a call takes.

    Args:
        backend: "auto" takes the kernels of the tensors' device where they fit, else torch.
        tensors: the inputs.

    Raises:
        InputError: `backend` is unknown, or was asked for by name and cannot take these tensors.
    """
    if backend == "torch":
        return "torch"
    if backend == "cpu" or backend == "cuda":
        reason = _misfit(backend, tensors)
        if reason:
            raise InputError(f'backend="{backend}" cannot take this call: {reason}. backend="auto" always works')
        return backend
    if backend != "auto":
        raise InputError(f'backend must be "auto", "torch", "cpu" or "cuda"; got {backend!r}')
    device = tensors[0].device.type
    if (device == "cpu" or device == "cuda") and _misfit(device, tensors) is None:
        return device
    return "torch"


def module(backend: str) -> ModuleType:
    """The compiled module of a backend that `choose` chose."""
    loaded = _load(backend)
    if isinstance(loaded, str):
        raise InputError(f'backend="{backend}" is not available: {loaded}')
    return loaded


def dense(tensor: Tensor) -> Tensor:
    """The tensor as kernels read it: contiguous, without a lazy minus sign."""
    return tensor.resolve_neg().contiguous()


def launch(backend: str, op: str, *arguments: Tensor | int) -> None:
    """Call the kernel `op` for the dtype and device of the first argument, a tensor.

    Tensors are passed as addresses, so they must be `dense`. A kernel on the CPU also gets torch's number of
    threads; one on the GPU the device's number and torch's current stream, where it is queued, not waited for.
    """
    like = arguments[0]
    assert isinstance(like, Tensor)
    kernel = getattr(module(backend), f"{op}_{DTYPES[like.dtype]}")
    numbers = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    if backend == "cpu":
        kernel(*numbers, torch.get_num_threads())
        return
    with torch.cuda.device(like.device):
        kernel(*numbers, like.device.index, torch.cuda.current_stream().cuda_stream)


def transformed(*tensors: Tensor) -> bool:
    """Whether the tensors may have no memory to point at: while tracing, under torch.func, in subclasses."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return True
    if torch._C._are_functorch_transforms_active():
        return True
    return any(type(t) not in PLAIN or t.layout is not torch.strided for t in tensors)


@functools.cache
def _load(name: str) -> ModuleType | str:
    """The compiled module, or why it cannot be had; asked once per process."""
    try:
        loaded = importlib.import_module(MODULES[name])
        if name == "cpu" and environment.cpu_level() == "auto" and loaded.runs_avx2():
            loaded = importlib.import_module(AVX2_MODULE)
        problem = loaded.device_count_error() if name == "cuda" else None
    except Exception as error:  # a truncated or foreign file raises whatever it likes
        if isinstance(error, ModuleNotFoundError) and error.name == MODULES[name]:
            variable = BUILD_VARIABLES[name]
            return f"{MODULES[name]} was not built; install iqazoo from source with {variable}=1 to see why"
        return f"{MODULES[name]} is broken: {type(error).__name__}: {error}; install iqazoo again"
    return problem or loaded


def _unavailable(name: str) -> str | None:
    loaded = _load(name)
    return loaded if isinstance(loaded, str) else None


def _misfit(name: Literal["cpu", "cuda"], tensors: tuple[Tensor, ...]) -> str | None:
    """Why the kernels of a backend cannot take these tensors, or None."""
    if transformed(*tensors):
        return "kernels take plain tensors, not those of torch.compile, export, torch.func or a subclass"
    device, dtype = tensors[0].device, tensors[0].dtype
    if device.type != name or any(tensor.device != device for tensor in tensors):
        return f"it takes tensors on one {name} device, got {', '.join(str(t.device) for t in tensors)}"
    if dtype not in DTYPES or any(tensor.dtype != dtype for tensor in tensors):
        return f"it takes all float32 or all float64, got {', '.join(str(t.dtype) for t in tensors)}"
    return _unavailable(name) or (_too_old(device) if name == "cuda" else None)


@functools.cache
def _too_old(device: torch.device) -> str | None:
    capability = torch.cuda.get_device_capability(device)
    if capability >= OLDEST_GPU:
        return None
    return f"the kernels need compute capability {OLDEST_GPU[0]}.{OLDEST_GPU[1]}, the GPU has {capability}"
