"""Every backend of the all-pairs ranking loss against a slow oracle, in values, gradients and counts."""

import itertools
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import backend_params

from iqazoo.errors import InputError
from iqazoo.ops import available, ranking_counts, ranking_loss
from iqazoo.ops import ranking as ranking_module
from iqazoo.ops.ranking import KINDS, reference_ranking_loss

# Relative errors of the value, and of the gradient relative to its largest. Torch's float sums are less exact.
TOLERANCE = {
    ("torch", torch.float32): (1e-5, 1e-4),
    ("torch", torch.float64): (1e-11, 1e-11),
    ("cpu", torch.float32): (2e-7, 5e-7),
    ("cpu", torch.float64): (1e-12, 1e-12),
    ("cuda", torch.float32): (2e-6, 2e-6),  # a thread adds 256 pairs in float32
    ("cuda", torch.float64): (1e-12, 1e-12),
}
DTYPES = [torch.float32, torch.float64]


BACKENDS = backend_params("torch", "cpu", "cuda")
KERNELS = BACKENDS[1:]
needs_cpu = pytest.mark.skipif(available()["cpu"] is not None, reason="the CPU kernels are not built")


@pytest.fixture(autouse=True)
def number_of_threads():
    """As before, whatever a test sets."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def pair_oracle(z, h, kind, margin):
    """The loss of a pair and its slope in z, with the smaller of two complements computed first."""
    if kind == "ranknet":
        small = math.exp(-abs(z))
        logistic_of_minus_abs = small / (1 + small)
        loss = math.log1p(small) + ((1 - h) * z if z > 0 else -h * z)
        return loss, (1 - h) - logistic_of_minus_abs if z > 0 else logistic_of_minus_abs - h
    if kind == "margin":
        loss = h * max(0.0, margin - z) + (1 - h) * max(0.0, margin + z)
        return loss, (1 - h) * (margin + z > 0) - h * (margin - z > 0)
    p, q = (math.erfc(sign * z / math.sqrt(2)) / 2 for sign in (-1, 1))
    root_p, root_q = math.sqrt(p * h + 1e-8), math.sqrt(q * (1 - h) + 1e-8)
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return 1 - root_p - root_q, -density / 2 * (h / root_p - (1 - h) / root_q)


def oracle(scores, targets, *, kind="ranknet", groups=None, margin=0.1, lower_is_better=False, reduction="mean"):
    """Loss, gradient and counts, pair by pair in float64."""
    sign = -1 if lower_is_better else 1
    s, y = [sign * v for v in scores.double().tolist()], targets.double().tolist()
    g = [0] * len(s) if groups is None else groups.tolist()
    losses, slopes, counts = [], [[] for _ in s], [0] * 5
    for i, j in itertools.combinations(range(len(s)), 2):
        if g[i] != g[j]:
            continue
        h = (y[i] > y[j]) + 0.5 * (y[i] == y[j])
        loss, slope = pair_oracle(s[i] - s[j], h, kind, margin)
        losses.append(loss)
        slopes[i].append(sign * slope)
        slopes[j].append(-sign * slope)
        tied = (s[i] == s[j], y[i] == y[j])
        which = {(True, True): 4, (True, False): 2, (False, True): 3}
        counts[which.get(tied, 0 if (s[i] > s[j]) == (y[i] > y[j]) else 1)] += 1
    divisor = max(len(losses), 1) if reduction == "mean" else 1
    return (
        math.fsum(losses) / divisor,
        torch.tensor([math.fsum(v) / divisor for v in slopes], dtype=torch.float64),
        counts,
    )


def check(scores, targets, backend, **options):
    """Values, gradients and counts are those of the oracle."""
    device = "cuda" if backend == "cuda" else "cpu"
    leaf = scores.detach().to(device).requires_grad_()
    moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in options.items()}
    got = ranking_loss(leaf, targets.to(device), backend=backend, **moved)
    got.loss.backward()
    assert leaf.grad is not None
    # The oracle sees the margin as the kernel does.
    if "margin" in options:
        options["margin"] = torch.tensor(options["margin"], dtype=scores.dtype).item()
    elif scores.dtype == torch.float32:
        options["margin"] = torch.tensor(0.1).item()
    loss, gradient, counts = oracle(scores, targets, **options)
    value_error, slope_error = TOLERANCE[backend, scores.dtype]
    pairs = max(sum(counts), 1) if options.get("reduction") == "sum" else 1
    # A fidelity is a difference from 1; kernels take it in float64.
    floor = 4 * torch.finfo(scores.dtype if backend == "torch" else torch.float64).eps * pairs
    assert got.loss.item() == pytest.approx(loss, rel=value_error, abs=floor)
    if len(scores):
        # A slope is a difference of numbers up to 1, each rounded: near ties of scores, that is all there is of it.
        divisor = 1 if options.get("reduction") == "sum" else max(sum(counts), 1)
        floor += torch.finfo(scores.dtype).eps * len(scores) / divisor
        error = (leaf.grad.cpu().double() - gradient).abs().max().item()
        assert error <= slope_error * gradient.abs().max().item() + floor
    assert [count.item() for count in got[1:]] == counts
    assert all(count.dtype == torch.int64 and count.shape == () for count in got[1:])
    assert (got.loss.dtype, got.loss.shape) == (scores.dtype, ())


def sample(size, dtype=torch.float32, seed=0, scale=1.0, offset=0.0):
    """Scores, targets with ties and groups."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(size, generator=generator, dtype=torch.float64) * scale + offset
    targets = torch.randint(0, max(size // 3, 2), (size,), generator=generator)
    groups = torch.randint(-1, 2, (size,), generator=generator)
    return scores.to(dtype), targets.to(dtype), groups


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 63, 64, 65, 130, 300])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_all_pairs(backend, kind, size, dtype):
    scores, targets, _ = sample(size, dtype)
    check(scores, targets, backend, kind=kind)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("lower_is_better", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_directions_and_reductions(backend, kind, lower_is_better, reduction):
    scores, targets, groups = sample(150, torch.float64)
    groups[7] = 2**40  # a group of one
    options = {"kind": kind, "lower_is_better": lower_is_better, "reduction": reduction, "margin": 0.7}
    check(scores, targets, backend, groups=groups, **options)
    check(scores, targets, backend, groups=groups.to(torch.int32), **options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_groups_of_one_have_no_pairs(backend):
    scores, targets, _ = sample(9)
    check(scores, targets, backend, groups=torch.arange(9))


@pytest.mark.parametrize("offset", [-1000.0, 0.0, 1000.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 20.0, 300.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", KERNELS)
def test_scales_and_offsets(backend, kind, dtype, scale, offset):
    scores, targets, _ = sample(200, dtype, 1, scale, offset)
    check(scores, targets, backend, kind=kind)


@pytest.mark.parametrize("scale", [30.0, 300.0])
@pytest.mark.parametrize("backend", KERNELS)
def test_a_small_loss_keeps_its_digits(backend, scale):
    targets = torch.arange(100.0, device="cuda" if backend == "cuda" else "cpu")
    scores = targets * scale / 10
    check(scores, targets, backend)
    loss = ranking_loss(scores, targets, backend=backend).loss.item()
    assert loss == pytest.approx(99 / 4950 * math.log1p(math.exp(-scale / 10)), rel=0.06 if scale < 100 else 1e-6)


TIES = {
    "all scores": (torch.zeros(70), torch.arange(70.0)),
    "all targets": (torch.arange(70.0), torch.zeros(70)),
    "both": (torch.ones(70), torch.ones(70)),
    "pairs of both": (torch.arange(70.0) // 2, torch.arange(70.0) // 2),
    "signed zeros": (torch.tensor([0.0, -0.0, 1.0]), torch.tensor([-0.0, 0.0, 0.0])),
    "infinite targets": (torch.arange(4.0), torch.tensor([math.inf, -math.inf, math.inf, 0.0])),
}


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_ties(backend, kind, ties):
    check(*TIES[ties], backend, kind=kind)
    check(*TIES[ties], backend, kind=kind, lower_is_better=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pair_that_is_clearly_right_costs_little_not_nothing(backend):
    scores, targets = torch.tensor([14.0, -14.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    check(scores, targets, backend, kind="ranknet", lower_is_better=True)
    check(-scores, targets, backend, kind="ranknet")


@settings(max_examples=80, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(-4, 4), st.integers(0, 3), st.integers(0, 2)), max_size=24),
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    grouped=st.booleans(),
    lower_is_better=st.booleans(),
    scale=st.sampled_from([0.01, 1.0, 7.0, 100.0]),
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_fuzz(backend, pairs, kind, dtype, grouped, lower_is_better, scale):
    scores, targets, groups = torch.tensor(pairs).reshape(-1, 3).unbind(1)
    options = {"groups": groups.long()} if grouped else {}
    scores = scores.to(dtype) * scale
    check(scores, targets.to(dtype), backend, kind=kind, lower_is_better=lower_is_better, margin=0.05, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", KERNELS)
def test_large_batches_are_those_of_the_reference(backend, kind):
    scores, targets, groups = sample(1500)
    device = "cuda" if backend == "cuda" else "cpu"
    a, b = (scores.to(device, dtype, copy=True).requires_grad_() for dtype in DTYPES)
    got = ranking_loss(a, targets.to(device), groups=groups.to(device), kind=kind, backend=backend)
    want = reference_ranking_loss(b, targets.to(device).double(), groups=groups.to(device), kind=kind)
    got.loss.backward()
    want.loss.backward()
    assert a.grad is not None
    assert b.grad is not None
    assert got.loss.item() == pytest.approx(want.loss.item(), rel=2e-7)
    assert (a.grad - b.grad).abs().max() < 5e-7 * b.grad.abs().max()
    assert got[1:] == want[1:]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", KERNELS)
def test_gradcheck(backend, kind, grouped):
    scores, targets, groups = (t.to("cuda" if backend == "cuda" else "cpu") for t in sample(20, torch.float64))

    def loss(s):
        return ranking_loss(s, targets, kind=kind, groups=groups if grouped else None, backend=backend).loss

    assert torch.autograd.gradcheck(loss, scores.requires_grad_())
    assert torch.autograd.gradgradcheck(loss, scores)


@pytest.mark.parametrize("backend", BACKENDS)
def test_incoming_gradients_and_layouts(backend):
    scores, targets, groups = (t.to("cuda" if backend == "cuda" else "cpu") for t in sample(40, torch.float64))
    want = torch.autograd.grad(reference_ranking_loss(x := scores.clone().requires_grad_(), targets).loss, x)[0]
    odd = torch.stack([scores, scores], 1)[:, 0].requires_grad_()
    assert not odd.is_contiguous()
    loss = ranking_loss(odd, torch.stack([targets] * 3, 1)[:, 1], backend=backend).loss
    loss.expand(3).sum().backward()  # a gradient of stride 0
    torch.testing.assert_close(odd.grad, 3 * want)
    minus = torch.complex(torch.zeros_like(scores), -scores).conj().imag
    assert minus.is_neg()
    assert ranking_loss(minus, targets, backend=backend).loss == ranking_loss(scores, targets, backend=backend).loss
    twice = torch.stack([groups] * 2, 1)[:, 0]
    assert ranking_loss(scores, targets, groups=twice, backend=backend) == ranking_loss(
        scores, targets, groups=groups, backend=backend
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_targets_get_no_gradient(backend):
    scores, targets, _ = (t.to("cuda" if backend == "cuda" else "cpu") for t in sample(10))
    targets.requires_grad_()
    result = ranking_loss(scores, targets, backend=backend)
    assert not any(count.requires_grad for count in result[1:])
    if result.loss.requires_grad:
        result.loss.backward()
    assert targets.grad is None or not targets.grad.any()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["scores", "targets"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_not_a_number_spoils_its_group(backend, kind, where, value):
    scores, targets, _ = (t.to("cuda" if backend == "cuda" else "cpu") for t in sample(90))
    groups = torch.arange(90, device=scores.device) // 30
    (scores if where == "scores" else targets)[45] = value
    leaf = scores.clone().requires_grad_()
    got = ranking_loss(leaf, targets, kind=kind, groups=groups, backend=backend)
    got.loss.backward()
    assert leaf.grad is not None
    spoilt = (groups == 1) if where == "scores" or math.isnan(value) else torch.zeros_like(groups, dtype=torch.bool)
    assert torch.equal(leaf.grad.isnan(), spoilt)
    assert got.loss.isnan() == spoilt.any()
    assert sum(got[1:]) == 3 * 435 - 29 * math.isnan(value)  # a pair with a NaN is in no count
    want = reference_ranking_loss(scores, targets, groups=groups)
    assert got[1:] == want[1:]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_nan_without_a_pair_shows_too(backend):
    scores = torch.tensor([math.nan, 1.0], device="cuda" if backend == "cuda" else "cpu", requires_grad=True)
    groups = torch.tensor([0, 1], device=scores.device)
    result = ranking_loss(scores, scores.detach(), groups=groups, backend=backend)
    result.loss.backward()
    assert result.loss.isnan()
    assert scores.grad is not None
    assert scores.grad.isnan().tolist() == [True, False]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@needs_cpu
def test_the_same_bits_for_any_number_of_threads(kind, dtype):
    scores, targets, groups = sample(1300, dtype)
    results = []
    for threads in (1, 2, 3, 2, 1):
        torch.set_num_threads(threads)
        leaf = scores.clone().requires_grad_()
        loss = ranking_loss(leaf, targets, kind=kind, backend="cpu").loss
        grouped = ranking_loss(leaf, targets, kind=kind, groups=groups, backend="cpu").loss
        (loss + 2 * grouped).backward()
        results.append(torch.cat([loss.detach()[None], grouped.detach()[None], leaf.grad]))
    assert all(torch.equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("backend", KERNELS)
def test_the_same_bits_every_time(backend):
    scores, targets, groups = (t.to("cuda" if backend == "cuda" else "cpu") for t in sample(700))
    first, second = (ranking_loss(scores, targets, groups=groups, backend=backend) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    scores, targets, _ = sample(50, dtype)
    leaf, wide = scores.clone().requires_grad_(), scores.float().requires_grad_()
    got, want = ranking_loss(leaf, targets), ranking_loss(wide, targets.float())
    assert got == want
    got.loss.backward()
    want.loss.backward()
    assert leaf.grad is not None
    assert wide.grad is not None
    assert torch.equal(leaf.grad, wide.grad.to(dtype))


def test_mixed_dtypes_take_the_wider():
    scores, targets, _ = sample(20, torch.float64)
    assert ranking_loss(scores.float(), targets).loss.dtype == torch.float64


@pytest.mark.parametrize("lower_is_better", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_counts_by_themselves(backend, lower_is_better):
    scores, targets, groups = (t.to("cuda" if backend == "cuda" else "cpu") for t in sample(500))
    scores = scores.round(decimals=1)
    scores[3] = math.nan
    for options in ({}, {"groups": groups}):
        got = ranking_counts(scores, targets, lower_is_better=lower_is_better, backend=backend, **options)
        want = ranking_loss(scores, targets, lower_is_better=lower_is_better, backend="torch", **options)
        assert torch.equal(got, torch.stack(want[1:]))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(2, 3)), {}, r"shape \[N\]"),
        ((torch.zeros(()), torch.zeros(())), {}, r"shape \[N\]"),
        ((torch.zeros(3), torch.zeros(4)), {}, r"shape \[N\]"),
        ((torch.zeros(3).long(), torch.zeros(3)), {}, "floating point"),
        ((torch.zeros(3), torch.zeros(3).long()), {}, "floating point"),
        ((torch.zeros(3), torch.zeros(3, device="meta")), {}, "one device"),
        ((torch.zeros(3), torch.zeros(3)), {"groups": torch.zeros(4).long()}, "shape of scores"),
        ((torch.zeros(3), torch.zeros(3)), {"groups": torch.zeros(3)}, "integers"),
        ((torch.zeros(3), torch.zeros(3)), {"groups": torch.zeros(3, device="meta").long()}, "device"),
        ((torch.zeros(3), torch.zeros(3)), {"kind": "hinge"}, "ranknet, margin, fidelity"),
        ((torch.zeros(3), torch.zeros(3)), {"reduction": "none"}, '"mean" or "sum"'),
        ((torch.zeros(3), torch.zeros(3)), {"margin": -1.0}, "at least 0"),
        ((torch.zeros(3), torch.zeros(3)), {"margin": math.nan}, "at least 0"),
        ((torch.zeros(3), torch.zeros(3)), {"backend": "gpu"}, '"auto", "torch", "cpu" or "cuda"'),
    ],
)
def test_input_errors(arguments, options, message):
    with pytest.raises(InputError, match=message):
        ranking_loss(*arguments, **options)


@pytest.mark.parametrize("grouped", [False, True])
@needs_cpu
def test_opcheck(grouped):
    scores, targets, groups = sample(12)
    keys = groups if grouped else groups[:0]
    for leaf in (scores, scores.clone().requires_grad_()):
        torch.library.opcheck(torch.ops.iqazoo.ranking_loss, (leaf, targets, keys, "ranknet", 0.1, False, True))
    torch.library.opcheck(torch.ops.iqazoo.ranking_counts, (scores, targets, keys, True))


@pytest.mark.parametrize("tracer", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
@needs_cpu
def test_compiles_without_a_break(kind, tracer):
    scores, targets, groups = sample(40)
    scores.requires_grad_()
    torch.compiler.reset()

    def public(s):
        return ranking_loss(2 * s, targets, kind=kind, groups=groups).loss

    def registered(s):
        return ranking_module._fused(2 * s, targets, groups, kind, 0.1, False, True)[0]

    want = torch.autograd.grad(public(scores), scores)[0]
    for function in (public, registered):
        got = torch.compile(function, fullgraph=True, backend=tracer)(scores)
        torch.testing.assert_close(got, public(scores))
        torch.testing.assert_close(torch.autograd.grad(got, scores)[0], want, rtol=1e-5, atol=1e-6)


LARGE = """
import resource, torch
from iqazoo.ops import ranking_loss
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
ranking_loss(torch.randn(512).requires_grad_(), torch.randn(512), backend="cpu").loss.backward()
scores, targets = torch.randn(65536, requires_grad=True), torch.randint(0, 1000, (65536,)).float()
before = peak()
result = ranking_loss(scores, targets, backend="cpu")
result.loss.backward()
assert sum(result[1:]) == 65536 * 65535 // 2
print(peak() - before)
"""


@pytest.mark.slow
@needs_cpu
def test_memory_grows_with_items_not_with_pairs():
    done = subprocess.run([sys.executable, "-c", LARGE], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 50  # MB; a single matrix of differences takes 17 GB
