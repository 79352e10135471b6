"""Runs every kernel on small shapes, for compute-sanitizer to watch. Tensors have no margins that would hide a step."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from cuda_shim import Kernels, all_ops

from iqazoo import _cuda

for op in all_ops():
    print(op.source, flush=True)  # a run that is cut off tells how far it came
    for case in op.cases:
        for dtype in op.tolerance:
            op.check(Kernels(_cuda, "cuda:0", margin=0), case, dtype)
torch.cuda.synchronize()
print("all kernels ran")
