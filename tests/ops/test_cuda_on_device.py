"""The same kernels and cases as in test_cuda_on_host.py, on a GPU."""

import importlib

import pytest
import torch
from cuda_shim import DTYPES, Kernels, all_ops, same_bits

from iqazoo.ops import available

REASON = available()["cuda"]
CASES = [pytest.param(op, case, id=f"cuda-{op.source}-{case}") for op in all_ops() for case in op.cases]

pytestmark = pytest.mark.skipif(REASON is not None, reason=f"cuda: {REASON}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("op", "case"), CASES)
def test_the_reference_and_the_same_bits_on_any_stream(op, case, dtype):
    module = importlib.import_module("iqazoo._cuda")
    first = op.check(Kernels(module, "cuda:0"), case, dtype)
    with torch.cuda.stream(torch.cuda.Stream()):
        second = op.check(Kernels(module, "cuda:0"), case, dtype)
    assert all(same_bits(a, b) for a, b in zip(first, second, strict=True))
