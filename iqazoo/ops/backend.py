"""What can run an op here, what a call takes, and how a kernel is called.

An op's reference in pure torch always runs. The kernels are in two compiled modules that may be missing:
without a compiler at install, or without an NVIDIA GPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.autograd import forward_ad

from iqazoo import environment
from iqazoo.errors import InputError

Backend = Literal["auto", "torch", "cpu", "cuda"]

MODULES = {"cpu": "iqazoo._cpu", "cuda": "iqazoo._cuda"}
LEVELS = ("avx512", "avx2")  # modules for newer processors, iqazoo._cpu_avx512 and so on, the best first
BUILD_VARIABLES = {"cpu": "IQAZOO_BUILD_EXT", "cuda": "IQAZOO_BUILD_CUDA"}
DTYPES = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
FLOATS = (torch.float32, torch.float64)
STAND_INS = frozenset((FakeTensor, FunctionalTensor))  # what the compilers of torch trace with
VMAP: Any = torch._C._parse_dispatch_key("VmapMode")  # set while autograd differentiates batches at once
TAKEN = (Tensor, torch.nn.Parameter, *STAND_INS)
OLDEST_GPU = (8, 0)  # the first architecture that setup.py compiles for
_forked = False


def _note_the_fork() -> None:
    global _forked
    _forked = True


os.register_at_fork(after_in_child=_note_the_fork)


def available() -> dict[str, str | None]:
    """The backends by name, each with None if it works here, else the reason why it does not."""
    return {"torch": None} | {name: _unavailable(name) for name in MODULES}


def choose(backend: Backend, *tensors: Tensor, kernel: str | None = None) -> Literal["torch", "cpu", "cuda"]:
    """The backend that a call takes.

    Args:
        backend: "auto" takes the kernels of the tensors' device where they fit, else torch.
        tensors: the inputs.
        kernel: the name whose dtypes count, as in `launch`; without it kernels take float32 and float64.

    Raises:
        InputError: the tensors are on several devices; `backend` is unknown, or was asked for by name and cannot take
            these tensors.
    """
    name = backend
    if name == "auto":
        name = "cpu" if tensors[0].is_cpu else tensors[0].device.type  # a string, made anew, costs more than asking
    if name == "cpu" or name == "cuda":
        reason = _misfit(name, tensors, kernel)
        if reason is None:
            return name
        _check_one_device(tensors)
        if backend != "auto":
            raise InputError(f'backend="{backend}" cannot take this call: {reason}. backend="auto" always works')
        return "torch"
    if backend != "auto" and backend != "torch":
        raise InputError(f'backend must be "auto", "torch", "cpu" or "cuda"; got {backend!r}')
    _check_one_device(tensors)
    return "torch"


def module(backend: str) -> ModuleType:
    """The compiled module of a backend that `choose` chose."""
    loaded = _load(backend)
    if isinstance(loaded, str):
        raise InputError(f'backend="{backend}" is not available: {loaded}')
    return loaded


def dense(tensor: Tensor) -> Tensor:
    """The tensor as kernels read it: contiguous, without a lazy minus sign."""
    if tensor.is_contiguous() and not tensor.is_neg():  # asking costs less than making sure
        return tensor
    return tensor.resolve_neg().contiguous()


def threads() -> int:
    """How many threads a kernel on the CPU may use: as many as torch.

    OpenMP's threads do not survive a fork, and the child of a process that used them would wait for them for ever.
    """
    return 1 if _forked else torch.get_num_threads()


def launch(
    backend: str, op: str, *arguments: Tensor | float | tuple[int, ...], dtype: torch.dtype | None = None
) -> None:
    """Call the kernel `op` for a dtype, by default that of the first argument, a tensor on the device to use.

    Tensors are passed as addresses, so they must be `dense`; numbers and tuples go as they are. A kernel on the CPU
    also gets its number of threads; one on the GPU the device's number and torch's current stream, where it is
    queued, not waited for.
    """
    like = arguments[0]
    assert isinstance(like, Tensor)
    kernel = _kernel(backend, op, dtype or like.dtype)
    numbers = [a.data_ptr() if isinstance(a, Tensor) else a for a in arguments]
    if backend == "cpu":
        kernel(*numbers, threads())
        return
    with torch.cuda.device(like.device):
        kernel(*numbers, like.device.index, torch.cuda.current_stream().cuda_stream)


def transformed(*tensors: Tensor) -> bool:
    """Whether only torch's operations can take the tensors: under torch.func or torch.jit, for forward-mode
    derivatives, and in subclasses that have no memory to point at."""
    if _in_transform():
        return True
    for tensor in tensors:  # noqa: SIM110, a generator would cost as much as a kernel's work
        if type(tensor) not in TAKEN or tensor.layout is not torch.strided:
            return True
    return False


def traced(*tensors: Tensor) -> bool:
    """Whether torch records what is done to the tensors, to compile or export it, so that an op must be registered."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return True
    return not STAND_INS.isdisjoint(map(type, tensors))


def _constant(function: Callable[..., Any]) -> Callable[..., Any]:
    """What torch.compiler.assume_constant_result does, without the second that it takes to import dynamo.

    While compiling, dynamo calls the function and keeps its result.
    """
    function.__dict__["_dynamo_marked_constant"] = True
    return function


@_constant
def _in_transform() -> bool:
    return (
        torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or torch._C._get_tracing_state() is not None  # of torch.jit.trace
        or torch._C._dispatch_tls_is_dispatch_key_included(VMAP)
    )


@functools.cache
def _load(name: str) -> ModuleType | str:
    """The compiled module, or why it cannot be had; asked once per process."""
    try:
        loaded = importlib.import_module(MODULES[name])
        if name == "cpu":
            return _for_this_cpu(loaded)
        return loaded.device_count_error() or loaded
    except InputError as error:
        return str(error)
    except Exception as error:  # a truncated or foreign file raises whatever it likes
        if isinstance(error, ModuleNotFoundError) and error.name == MODULES[name]:
            variable = BUILD_VARIABLES[name]
            return f"{MODULES[name]} was not built; install iqazoo from source with {variable}=1 to see why"
        return f"{MODULES[name]} is broken: {type(error).__name__}: {error}; install iqazoo again"


def _for_this_cpu(baseline: ModuleType) -> ModuleType:
    """The module for the instructions that this processor has, if it is wanted and was built."""
    limit = environment.cpu_level()
    for level in LEVELS if limit == "auto" else LEVELS[LEVELS.index(limit) :] if limit in LEVELS else ():
        if getattr(baseline, f"runs_{level}")():
            with contextlib.suppress(ModuleNotFoundError):
                return importlib.import_module(f"{MODULES['cpu']}_{level}")
    return baseline


def forget() -> None:
    """Look anew for what can run here: for tests, which change it."""
    for cached in (_load, _looked_up, _kernel):
        cached.cache_clear()


def _unavailable(name: str) -> str | None:
    loaded = _load(name)
    return loaded if isinstance(loaded, str) else None


@_constant
def _lacking(name: str, dtype: torch.dtype, kernel: str | None) -> str | None:
    """Why there is no kernel of a backend for a dtype, or None."""
    return _looked_up(name, dtype, kernel)  # dynamo sees through a cache of the function that it is to call


@functools.cache
def _looked_up(name: str, dtype: torch.dtype, kernel: str | None) -> str | None:
    loaded = _load(name)
    if isinstance(loaded, str):
        return loaded
    takes = FLOATS if kernel is None else _dtypes(name, kernel)
    return None if dtype in takes else f"it takes all {' or all '.join(DTYPES[d] for d in takes)}, got {dtype}"


@functools.cache
def _kernel(backend: str, op: str, dtype: torch.dtype) -> Callable[..., None]:
    return getattr(module(backend), f"{op}_{DTYPES[dtype]}")


def _dtypes(name: str, kernel: str) -> tuple[torch.dtype, ...]:
    """What an available backend was compiled for; no table could fall behind it."""
    return tuple(dtype for dtype, suffix in DTYPES.items() if hasattr(_load(name), f"{kernel}_{suffix}"))


def _misfit(name: Literal["cpu", "cuda"], tensors: tuple[Tensor, ...], kernel: str | None) -> str | None:
    """Why the kernels of a backend cannot take these tensors, or None."""
    if transformed(*tensors):
        return "kernels take plain tensors, not those of torch.func, torch.jit, forward-mode or a subclass"
    device, dtype = tensors[0].device, tensors[0].dtype
    for tensor in tensors:
        if tensor.device != device or tensor.dtype is not dtype:
            return f"it takes one dtype for all, got {', '.join([str(t.dtype) for t in tensors])}"
    if not (tensors[0].is_cpu if name == "cpu" else tensors[0].is_cuda):
        return f"it takes tensors on {name}, got tensors on {device.type}"
    return _lacking(name, dtype, kernel) or (_too_old(device) if name == "cuda" else None)


def _check_one_device(tensors: tuple[Tensor, ...]) -> None:
    if any(tensor.device != tensors[0].device for tensor in tensors):
        found = ", ".join([str(t.device) for t in tensors])
        raise InputError(f"tensors must be on one device, got {found}; move them with .to(device)")


@_constant
def _too_old(device: torch.device) -> str | None:
    """Why the GPU cannot run the kernels, or None."""
    return _too_old_for(device)  # as in _lacking


@functools.cache
def _too_old_for(device: torch.device) -> str | None:
    capability = torch.cuda.get_device_capability(device)
    if capability >= OLDEST_GPU:
        return None
    return f"the kernels need compute capability {OLDEST_GPU[0]}.{OLDEST_GPU[1]}, the GPU has {capability}"
