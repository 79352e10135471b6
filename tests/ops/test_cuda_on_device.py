"""The same kernels and cases as in test_cuda_on_host.py, on a GPU."""

import importlib

import pytest
import torch
from cuda_shim import DTYPES, Kernels, all_ops, same_bits

from iqazoo.ops import available

REASON = available()["cuda"]
CASES = [
    pytest.param(op, case, dtype, id=f"cuda-{op.source}-{case}-{DTYPES[dtype]}")
    for op in all_ops()
    for case in op.cases
    for dtype in op.tolerance
]

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(REASON is not None, reason=f"cuda: {REASON}")]


@pytest.mark.parametrize(("op", "case", "dtype"), CASES)
def test_the_reference_and_the_same_bits_on_any_stream(op, case, dtype):
    module = importlib.import_module("iqazoo._cuda")
    first = op.check(Kernels(module, "cuda:0"), case, dtype)
    with torch.cuda.stream(torch.cuda.Stream()):
        second = op.check(Kernels(module, "cuda:0"), case, dtype)
    assert all(same_bits(a, b) for a, b in zip(first, second, strict=True))
