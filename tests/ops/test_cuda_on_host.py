"""Every CUDA kernel, executed on the CPU by csrc/shim: indexing, barriers and reductions need no GPU to be tested.

A kernel file is added by a file in tests/cuda_cases that defines OP.
"""

import subprocess
from pathlib import Path

import pytest
from cuda_shim import CSRC, DTYPES, ORDERS, all_ops, build_program, compiler, same_bits

TESTS = Path(__file__).parents[1]
OPS = all_ops()
CASES = [
    pytest.param(op, case, dtype, id=f"{op.source}-{case}-{DTYPES[dtype]}")
    for op in OPS
    for case in op.cases
    for dtype in op.tolerance
]
MUTANTS = [pytest.param(op, mutant, id=f"{op.source}-{mutant.name}") for op in OPS for mutant in op.mutants]

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C++ compiler with Python's headers")


def test_every_kernel_is_run_here():
    sources = {path.stem for path in (CSRC / "cuda").glob("*.cu") if "__global__" in path.read_text()}
    assert {op.source for op in OPS} == sources
    assert all(len(op.mutants) >= 6 for op in OPS)


@needs_compiler
def test_the_shim_runs_what_cuda_runs_and_tells_of_mistakes(tmp_path):
    program = build_program([TESTS / "shim_check.cu", CSRC / "shim/run.cpp"], tmp_path / "check")
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@needs_compiler
@pytest.mark.parametrize(("op", "case", "dtype"), CASES)
def test_the_reference_in_every_order_of_threads(build, op, case, dtype):
    check_orders(build, op, case, dtype)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(("op", "mutant"), MUTANTS)
def test_mutants_are_caught(builder, op, mutant):
    build = builder.build(op, mutant)
    with pytest.raises((AssertionError, RuntimeError)):
        run_all(build, op, mutant.dtype)


def run_all(build, op, dtype):
    """Every case, until one fails."""
    for case in op.cases:
        check_orders(build, op, case, dtype)


def check_orders(build, op, case, dtype):
    """Right in every order of threads, and the same to the last bit: a sum whose order varies is a race."""
    outputs = [op.check(build.kernels(order), case, dtype) for order in ORDERS]
    for others in outputs[1:]:
        assert all(same_bits(a, b) for a, b in zip(outputs[0], others, strict=True))
