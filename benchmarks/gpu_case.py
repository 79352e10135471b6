"""What a benchmark on the GPU consists of. Each op's cases are the CASES of a file in benchmarks/gpu_cases."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Case:
    """A fused op beside the torch expression that it replaces.

    Args:
        op: the name in iqazoo.ops.
        what: "value", or "value and gradient".
        shape: for people.
        inputs: makes fresh random inputs on a device.
        fused: the op, of those inputs; queues work, waits for nothing.
        plain: the torch expression, or None where it would need too much memory.
        bytes: the fewest bytes that must move: each kernel's inputs read once, its outputs written once.
        operations: the fewest floating-point operations, where they could be the limit.
    """

    op: str
    what: str
    shape: str
    inputs: Callable[[str], tuple[Tensor, ...]]
    fused: Callable[..., Any]
    plain: Callable[..., Any] | None
    bytes: int
    operations: int = 0


def all_cases() -> list[Case]:
    """What the files of benchmarks/gpu_cases define."""
    files = sorted((Path(__file__).parent / "gpu_cases").glob("*.py"))
    return [case for file in files for case in importlib.import_module(f"gpu_cases.{file.stem}").CASES]
