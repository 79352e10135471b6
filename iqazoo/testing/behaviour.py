"""Checks of a metric as an object: it can be saved, copied, moved and shared, and changes nothing but its result."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import gc
import os
import pickle
import random
import resource
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from iqazoo import process_state, state_dict
from iqazoo.testing.subject import Subject, require

CALLS = 50
UNUSUAL = 829_413_507  # a seed
GROWTH = 32  # MiB that a process may grow by in so many calls: pools of memory fill up


def check_side_effects(subject: Subject) -> None:
    """Building and scoring change no image, no random state or setting, write no file and open no connection."""
    inputs = subject.inputs()
    kept = [x.clone() for x in inputs]
    subject.score(*inputs)  # what a first call imports is not what a call does
    with _other_random_states(), _Watched() as watched:
        for grad in (False, True):
            with torch.set_grad_enabled(grad):
                before = process_state.snapshot()
                subject.new()(*inputs)
                changed = process_state.changes(before, process_state.snapshot())
            told = ", ".join(changed)
            require(not changed, f"building and scoring must leave the process as it was; changed: {told}")
    require(not watched.done, f"building and scoring must not {watched.done[0] if watched.done else ''}")
    same = all(torch.equal(a, b) for a, b in zip(inputs, kept, strict=True))
    require(same, "the images were changed in place; work on a copy")


def check_safetensors(subject: Subject) -> None:
    """Everything that the score depends on is in the state dict, and comes back from a .safetensors file."""
    inputs = subject.inputs()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        state_dict.save(path, subject.metric.network, metric=subject.spec.name, options={})
        loaded = subject.new(seed=1, weights=path)
    what = "a network filled from the saved state dict"
    subject.require_equal(subject.score(*inputs, metric=loaded), subject.score(*inputs), what, 1e-6)


def check_copies(subject: Subject) -> None:
    """Deep copies and pickles score alike."""
    inputs = subject.inputs()
    score = subject.score(*inputs)
    copied = subject.score(*inputs, metric=copy.deepcopy(subject.metric))
    subject.require_equal(copied, score, "a deep copy", 1e-6)
    pickled = subject.score(*inputs, metric=pickle.loads(pickle.dumps(subject.metric)))
    subject.require_equal(pickled, score, "a pickled copy", 1e-6)


def check_devices(subject: Subject) -> None:
    """Every tensor of the network follows it to another device or type, and scores are the same there."""
    for name, module in subject.metric.network.named_modules():
        for attribute, value in vars(module).items():
            plain = not attribute.startswith("_parameters") and not attribute.startswith("_buffers")
            if plain and attribute != "_modules" and _holds_tensor(value):
                where = f"{name}.{attribute}".lstrip(".")
                require(False, f"{where} holds a tensor that .to() does not move; take register_buffer")
    inputs, score = subject.inputs(), subject.score(*subject.inputs())
    if torch.cuda.is_available():
        # By default convolutions there keep 10 bits of each factor.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            on_gpu = subject.score(*(x.cuda() for x in inputs), metric=subject.new().cuda())
        subject.require_equal(on_gpu, score, "scores on the GPU", 1e-3)


def check_threads(subject: Subject) -> None:
    """Two threads that score at once get what each gets alone."""
    works = [subject.inputs(), subject.inputs(height=subject.height + 8)]
    alone = [subject.score(*inputs) for inputs in works]
    found: list[list[Tensor]] = [[], []]
    errors: list[BaseException] = []
    start = threading.Barrier(2)

    def work(which: int) -> None:
        start.wait()
        try:
            found[which].extend(subject.score(*works[which]) for _ in range(5))
        except Exception as error:  # to be told by the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=work, args=(which,)) for which in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    require(not errors, f"scoring in two threads at once raises {errors[0]!r}" if errors else "")
    for scores, expected in zip(found, alone, strict=True):
        for score in scores:
            subject.require_equal(score, expected, "scores while another thread scores", 1e-5)


def check_memory(subject: Subject) -> None:
    """50 calls, with gradients where there are some, keep nothing."""
    image, *reference = subject.inputs()
    image.requires_grad_(subject.spec.differentiable)

    def call() -> None:
        loss = subject.worse(subject.metric(image, *reference)).mean()
        if subject.spec.differentiable:
            loss.backward()
            image.grad = None

    for _ in range(5):
        call()
    tensors, size = _live_tensors(), _resident()
    for _ in range(CALLS):
        call()
    grown, more = _resident() - size, _live_tensors() - tensors
    require(more < CALLS // 2, f"{CALLS} calls must keep no tensor, {more} more are alive afterwards")
    require(grown < GROWTH, f"{CALLS} calls must not take more memory, the process grew by {grown:.0f} MiB")


@contextlib.contextmanager
def _other_random_states() -> Iterator[None]:
    """Random states in which nobody who sets one leaves them."""
    random_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(UNUSUAL)
        np.random.seed(UNUSUAL)
        torch.manual_seed(UNUSUAL)
        try:
            yield
        finally:
            random.setstate(random_state)
            np.random.set_state(numpy_state)


class _Watched:
    """Notes files opened for writing, and connections, while it is entered. Python's audit hooks stay for good."""

    _installed: _Watched | None = None

    def __enter__(self) -> _Watched:
        self.done: list[str] = []
        if _Watched._installed is None:
            sys.addaudithook(_hook)
        _Watched._installed = self
        return self

    def __exit__(self, *_: object) -> None:
        _Watched._installed = _NOBODY


_NOBODY = _Watched()


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    watched = _Watched._installed
    if watched is None or watched is _NOBODY:
        return
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        watched.done.append(f"write the file {arguments[0]}")
    elif event in ("socket.connect", "socket.getaddrinfo"):
        watched.done.append(f"open a connection to {arguments[1] if event == 'socket.connect' else arguments[0]}")


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, nn.Module):
        return False
    if isinstance(value, Mapping):
        return any(_holds_tensor(v) for v in value.values())
    if isinstance(value, list | tuple | set):
        return any(_holds_tensor(v) for v in value)
    return isinstance(value, Tensor)


def _live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def _give_free_memory_back() -> None:
    """What the allocator keeps for later would hide new allocations that fit in it. Only glibc can be asked."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident() -> float:
    """The memory of the process in MiB: what it has now, or the most that it ever had where only that is told."""
    _give_free_memory_back()
    with contextlib.suppress(FileNotFoundError):  # Linux has it
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
