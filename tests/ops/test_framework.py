"""What the ops' framework promises beyond values: which road a call takes, and good manners in a process.

The mean squared error stands for all ops; tests/ops/test_conformance.py holds each of them to its reference.
"""

import os
import platform
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx

from iqazoo.ops import available, backend, mse
from iqazoo.ops import mean_squared_error as op
from iqazoo.ops.mean_squared_error import reference_mse

ROOT = Path(__file__).parents[2]
NO_CPU = available()["cpu"]
needs_cpu = pytest.mark.skipif(NO_CPU is not None, reason=f"cpu: {NO_CPU}")
HALVES = [torch.float16, torch.bfloat16]


def pair(dtype=torch.float32, shape=(2, 3, 8, 8)):
    generator = torch.Generator().manual_seed(0)
    return torch.rand((2, *shape), generator=generator, dtype=torch.float64).to(dtype)


def run_python(code, seconds=90, **variables):
    """What a fresh interpreter prints; with all its children it is killed where it hangs."""
    settings = os.environ | {"PYTHONPATH": str(ROOT), **variables}
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env=settings, start_new_session=True, **pipes) as process:
        try:
            log, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"no end in {seconds} s")
    assert process.returncode == 0, log
    return log


def registered_ops(graph):
    return {str(node.target) for node in graph.nodes if "iqazoo" in str(node.target)}


# Roads.


@needs_cpu
@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_make_fx_finds_the_registered_ops(mode):
    def gradient(x, y):
        return torch.autograd.grad(mse(x, y).sum(), x)[0]

    x, y = pair()
    x.requires_grad_()
    traced = make_fx(gradient, tracing_mode=mode)(x, y)
    assert registered_ops(traced.graph) == {"iqazoo.mse.default", "iqazoo.mse_backward.default"}
    assert torch.equal(traced(x, y), gradient(x, y))


class Module(torch.nn.Module):
    def forward(self, x, y):
        return mse(x, y)


@needs_cpu
@pytest.mark.parametrize("strict", [True, False])
def test_export_holds_the_registered_op(strict):
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height")}
    program = torch.export.export(Module(), tuple(pair()), strict=strict, dynamic_shapes=(sizes, sizes))
    assert registered_ops(program.graph) == {"iqazoo.mse.default"}
    x, y = pair(shape=(5, 3, 17, 8))
    assert torch.equal(program.module()(x, y), mse(x, y))


@needs_cpu
@pytest.mark.slow
def test_inductor_gives_the_same_values_and_gradients():
    torch._dynamo.reset()
    compiled = torch.compile(lambda x, y: mse(x, y) * 2, fullgraph=True)
    x, y = pair()
    x.requires_grad_()
    assert torch.equal(compiled(x, y), mse(x, y) * 2)
    (got,) = torch.autograd.grad(compiled(x, y).sum(), x)
    (want,) = torch.autograd.grad((mse(x, y) * 2).sum(), x)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


def test_without_kernels_the_reference_is_traced(monkeypatch):
    monkeypatch.setattr(backend, "MODULES", {"cpu": "iqazoo._no_cpu", "cuda": "iqazoo._no_cuda"})
    backend.forget()
    try:
        torch._dynamo.reset()
        got = torch.compile(mse, fullgraph=True, backend="aot_eager")(*pair())
        assert not registered_ops(make_fx(lambda x, y: mse(x, y))(*pair()).graph)
    finally:
        backend.forget()
        torch._dynamo.reset()
    torch.testing.assert_close(got, reference_mse(*pair()))


def test_transforms_and_forward_mode_are_left_to_torch():
    x, y = pair(torch.float64)
    direction = torch.ones_like(x)
    want = 2 * (x - y) / x[0].numel()
    torch.testing.assert_close(torch.func.grad(lambda x: mse(x, y).sum())(x), want)
    torch.testing.assert_close(torch.vmap(mse)(x[None], y[None])[0], mse(x, y))
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(mse(forward_ad.make_dual(x, direction), y)).tangent
    torch.testing.assert_close(tangent, want.flatten(1).sum(1))
    torch._dynamo.reset()
    within = torch.compile(lambda x, y: torch.vmap(mse)(x[None], y[None])[0], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(within(x, y), mse(x, y))


def test_jit_traces_the_reference():
    x, y = pair()
    torch.testing.assert_close(torch.jit.trace(lambda x, y: mse(x, y), (x, y))(y, x), mse(x, y))


@needs_cpu
def test_eager_mode_passes_by_the_dispatcher():
    """A call of the registered op costs several times what one of a plain autograd.Function does."""
    x, y = pair()
    node = mse(x.requires_grad_(), y, backend="cpu").grad_fn
    assert type(node).__name__ == "mseBackward"
    assert type(torch.ops.iqazoo.mse(x, y).grad_fn).__name__ != "mseBackward"
    with torch.no_grad():
        assert not mse(x, y, backend="cpu").requires_grad


# Types.


@needs_cpu
@pytest.mark.parametrize("dtype", HALVES)
def test_half_images_go_into_the_kernels(monkeypatch, dtype):
    monkeypatch.setattr(op, "reference_mse", None)
    x, y = pair(dtype)
    error = mse(x.requires_grad_(), y)
    assert error.dtype == torch.float32
    assert torch.autograd.grad(error.sum(), x)[0].dtype == dtype


EVERY_HALF = """
    import torch
    from iqazoo.ops import mse
    for dtype in (torch.float16, torch.bfloat16):
        every = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(dtype)[:, None]
        for x in (every, every.T.contiguous()):  # one by one, and in whole vectors
            x.requires_grad_()
            error = mse(x, torch.zeros_like(x), backend="cpu")
            if len(error) > 1:
                assert torch.equal(error.nan_to_num(-1), x[:, 0].float().square().nan_to_num(-1))
            scale = x.numel() / len(x) / 2
            (same,) = torch.autograd.grad(error, x, torch.full_like(error, scale))
            assert torch.equal(same.isnan(), x.isnan())
            assert torch.equal(same.nan_to_num(-1), x.nan_to_num(-1))
        # Rounding: all floats between two halves are too many; these are near the ties, at all magnitudes.
        half = every[:, 0].detach().float()
        half = half[half.isfinite()]
        tie = (half + torch.nextafter(half.to(dtype), torch.tensor(torch.inf, dtype=dtype)).float()) / 2
        wanted = torch.cat([tie, torch.nextafter(tie, tie + 1), torch.nextafter(tie, tie - 1)])
        one = torch.ones(len(wanted), 1, dtype=dtype, requires_grad=True)
        (got,) = torch.autograd.grad(mse(one, torch.zeros_like(one)), one, wanted / 2)
        want = (wanted / 2 * 2).to(dtype)
        assert torch.equal(got[:, 0].nan_to_num(-1), want.nan_to_num(-1))
        print(dtype, len(every), len(tie))
"""


@needs_cpu
@pytest.mark.parametrize("level", ["baseline", "auto"])
def test_every_half_is_converted_exactly(level):
    log = run_python(EVERY_HALF, IQAZOO_CPU_LEVEL=level)  # a difference is an AssertionError in there
    assert log.splitlines() == ["torch.float16 65536 63488", "torch.bfloat16 65536 65280"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_changes_nothing(dtype):
    x, y = pair(dtype)
    x.requires_grad_()
    want = mse(x, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = mse(x, y)
    assert torch.equal(got, want)
    assert torch.equal(*(torch.autograd.grad(v.sum(), x)[0] for v in (got, want)))


# Levels.

USE_A_LEVEL = """
    import torch
    from iqazoo.ops import backend, mse
    print(backend.module("cpu").__name__)
    x, y = torch.rand(2, 3, 3, 65, 47, generator=torch.Generator().manual_seed(0))
    print(mse(x, y, backend="cpu").tolist())
"""


@needs_cpu
def test_the_level_chooses_the_module_and_all_agree():
    newest, older, plain = (
        run_python(USE_A_LEVEL, IQAZOO_CPU_LEVEL=level).splitlines() for level in ("auto", "avx2", "baseline")
    )
    assert plain[0] == "iqazoo._cpu"
    flags = set(Path("/proc/cpuinfo").read_text().split() if platform.machine() == "x86_64" else [])
    has_avx2 = {"avx2", "fma", "f16c"} <= flags
    has_avx512 = has_avx2 and {"avx512f", "avx512vl", "avx512bw", "avx512dq"} <= flags
    assert older[0] == ("iqazoo._cpu_avx2" if has_avx2 else "iqazoo._cpu")
    assert newest[0] == ("iqazoo._cpu_avx512" if has_avx512 else older[0])
    x, y = torch.rand(2, 3, 3, 65, 47, generator=torch.Generator().manual_seed(0))
    for line in (newest[1], older[1], plain[1]):
        got = torch.tensor([float(number) for number in line.strip("[]").split(",")])
        torch.testing.assert_close(got, reference_mse(x, y), rtol=5e-7, atol=0)


@needs_cpu
@pytest.mark.slow
def test_every_op_conforms_on_the_baseline():
    """All of test_conformance.py, on the kernels that run where there is no AVX2."""
    log = run_python(
        f"""
        import sys, pytest
        chosen = ["-q", "-p", "no:cacheprovider", "-k", "cpu", "--rootdir", {str(ROOT)!r}]
        status = pytest.main([*chosen, {str(Path(__file__).with_name("test_conformance.py"))!r}])
        from iqazoo.ops import backend
        print("module:", backend.module("cpu").__name__)
        sys.exit(status)
        """,
        seconds=600,
        IQAZOO_CPU_LEVEL="baseline",
    )
    assert "module: iqazoo._cpu\n" in log


@needs_cpu
def test_without_modules_for_new_processors_the_plain_one_serves(monkeypatch):
    monkeypatch.setitem(sys.modules, "iqazoo._cpu_avx2", None)
    monkeypatch.setitem(sys.modules, "iqazoo._cpu_avx512", None)
    backend.forget()
    try:
        assert backend.module("cpu").__name__ == "iqazoo._cpu"
    finally:
        backend.forget()


@needs_cpu
def test_an_unknown_level_is_a_reason_that_names_the_known_ones():
    log = run_python(
        """
        import torch
        from iqazoo.errors import InputError
        from iqazoo.ops import available, mse
        print("reason:", available()["cpu"])
        print(mse(torch.ones(1, 2), torch.zeros(1, 2)).item())
        try:
            mse(torch.ones(1, 2), torch.zeros(1, 2), backend="cpu")
        except InputError as error:
            print("error:", error)
        """,
        IQAZOO_CPU_LEVEL="sse9",
    )
    assert "reason: IQAZOO_CPU_LEVEL must be auto, avx2 or baseline; got 'sse9'" in log
    assert "1.0" in log
    assert "error: " in log


# Processes.

USE_THREADS_FIRST = """
    import os, torch
    from iqazoo.ops import mse
    torch.set_num_threads(2)
    x, y = torch.rand(2, 8, 3, 256, 256)
    want = mse(x, y, backend="cpu")
"""


@needs_cpu
def test_a_forked_child_works_after_its_parent_used_threads():
    log = run_python(
        USE_THREADS_FIRST
        + """
    child = os.fork()
    if child == 0:
        os._exit(0 if torch.equal(mse(x, y, backend="cpu"), want) else 7)
    print("child:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """,
        seconds=60,
    )
    assert "child: 0" in log


@needs_cpu
def test_workers_of_a_data_loader_score():
    log = run_python(
        USE_THREADS_FIRST
        + """
    class Scores(torch.utils.data.Dataset):
        def __len__(self):
            return len(x)
        def __getitem__(self, i):
            torch.set_num_threads(2)  # the loader has set one
            return mse(x[i:i + 1], y[i:i + 1], backend="cpu")[0]

    loader = torch.utils.data.DataLoader(Scores(), num_workers=2, batch_size=4, multiprocessing_context="fork")
    print("equal:", torch.equal(torch.cat(list(loader)), want))
    """,
        seconds=60,
    )
    assert "equal: True" in log


@needs_cpu
def test_loading_and_calling_change_no_floating_point_mode():
    log = run_python(
        """
        import ctypes, torch
        libm = ctypes.CDLL("libm.so.6")
        def mode():  # the control words; on x86-64 with MXCSR at the end
            environment = ctypes.create_string_buffer(64)
            assert libm.fegetenv(environment) == 0
            words = environment.raw
            return (words[:2], int.from_bytes(words[28:32], "little") & ~0x3F) if x86 else words
        import platform
        x86 = platform.machine() == "x86_64"
        before = mode()
        from iqazoo.ops import available, mse
        available()
        tiny = torch.full((1, 64), 1e-310, dtype=torch.float64)
        root = torch.full((1, 64), 1e-157, dtype=torch.float64)
        assert mse(root, torch.zeros_like(root), backend="cpu").item() > 0  # itself denormal
        assert before == mode()
        assert 1e-310 * 1.0 != 0 and (tiny * 1.0).min() > 0
        print("kept")
        """
    )
    assert "kept" in log
