"""Every backend of the pairwise loss against a slow oracle, in values and in gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import backend_params
from torch.nn import functional as F

from iqazoo.errors import InputError
from iqazoo.ops import PairwiseResult, available, pairwise, pairwise_loss

TOLERANCE = {torch.float32: 5e-7, torch.float64: 1e-14}
KINDS = ["bce", "mse", "margin"]
DTYPES = [torch.float32, torch.float64]


BACKENDS = backend_params("torch", "cpu", "cuda")
KERNELS = BACKENDS[1:]


def softplus(x):
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x):
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def judge(z, h, kind, margin, ties):
    """One judgment by Python's floats: loss, d loss / d z, agreement."""
    agreement = 0.5 if z == 0 and ties == "half" else h if z > 0 else 1 - h
    if kind == "margin":
        loss = h * max(0.0, margin - z) + (1 - h) * max(0.0, margin + z)
        return loss, (1 - h) * (margin + z >= 0) - h * (margin - z >= 0), agreement
    p, q = sigmoid(z), sigmoid(-z)
    if kind == "mse":
        return (p - h) ** 2, 2 * (p - h) * p * q, agreement
    return h * softplus(-z) + (1 - h) * softplus(z), p - h, agreement


def oracle(score_a, score_b, preference, kind="bce", lower_is_better=True, margin=0.1, reduction="mean", ties="half"):
    """Loss, agreement and the gradient of sum(loss) in score_a, float64."""
    sign = 1 if lower_is_better else -1
    difference = (score_a.detach() - score_b.detach()).double().tolist()  # rounded as the scores are
    margin = torch.tensor(margin, dtype=score_a.dtype).item()
    rows = [
        judge(sign * z, h, kind, margin, ties) for z, h in zip(difference, preference.double().tolist(), strict=True)
    ]
    loss, slope, agreement = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3).T
    slope = sign * slope
    if reduction == "none":
        return loss, agreement, slope
    share = {"mean": 1 / len(rows), "sum": 1.0}[reduction]
    sums = torch.tensor([math.fsum(loss) * share, math.fsum(agreement) / len(rows)], dtype=torch.float64)
    return *sums, slope * share


def judgments(n, dtype=torch.float32, backend="cpu", seed=0, spread=3.0):
    """Scores with ties among them, and preferences of which some are 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    score_a, score_b = spread * torch.randn((2, n), generator=generator, dtype=torch.float64)
    preference = (1.4 * torch.rand(n, generator=generator, dtype=torch.float64) - 0.2).clamp(0, 1)
    score_b = torch.where(torch.rand(n, generator=generator) < 0.1, score_a, score_b)
    device = "cuda" if backend == "cuda" else "cpu"
    return tuple(t.to(device, dtype) for t in (score_a, score_b, preference))


def value_and_gradients(score_a, score_b, preference, **options):
    score_a, score_b = (s.detach().clone().requires_grad_() for s in (score_a, score_b))
    loss, agreement = pairwise_loss(score_a, score_b, preference, **options)
    loss.sum().backward()  # for reduction="none" a gradient of stride 0
    return loss.detach(), agreement, score_a.grad, score_b.grad


def check(score_a, score_b, preference, backend, **options):
    loss, agreement, grad_a, grad_b = value_and_gradients(
        score_a, score_b, preference, backend=backend, **{"lower_is_better": True} | options
    )
    want = oracle(score_a.cpu(), score_b.cpu(), preference.cpu(), **options)
    tolerance, mean = TOLERANCE[loss.dtype], options.get("reduction", "mean") == "mean"
    for got, expected, share in zip((loss, agreement, grad_a), want, (1, 1, len(score_a) if mean else 1), strict=True):
        assert got.dtype == score_a.dtype
        torch.testing.assert_close(got.cpu().double(), expected, rtol=tolerance, atol=tolerance / share)
    assert torch.equal(grad_b, -grad_a)
    assert not agreement.requires_grad


@pytest.mark.parametrize("n", [1, 2, 7, 8, 255, 257, 1025, 8192, 20001])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes(backend, dtype, kind, n):
    check(*judgments(n, dtype, backend), backend, kind=kind)


@pytest.mark.parametrize("lower_is_better", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ties", ["half", "first"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_options(backend, kind, ties, reduction, lower_is_better):
    options = {"kind": kind, "ties": ties, "reduction": reduction, "lower_is_better": lower_is_better, "margin": 0.7}
    check(*judgments(300, torch.float64, backend), backend, **options)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 700),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([1e-6, 0.3, 3.0, 30.0, 1e4]),
    kind=st.sampled_from(KINDS),
    ties=st.sampled_from(["half", "first"]),
    reduction=st.sampled_from(["mean", "none"]),
    lower_is_better=st.booleans(),
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_fuzz(backend, n, dtype, seed, spread, **options):
    check(*judgments(n, dtype, backend, seed, spread), backend, **options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_the_words_mean(backend):
    """Distances 1 and 2: A is the better one. Judges who all preferred B disagree, whatever the direction is called."""
    near, far, all_b = torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([1.0])
    if backend == "cuda":
        near, far, all_b = near.cuda(), far.cuda(), all_b.cuda()
    wrong = pairwise_loss(near, far, all_b, lower_is_better=True, backend=backend)
    right = pairwise_loss(near, far, 1 - all_b, lower_is_better=True, backend=backend)
    assert (wrong.agreement.item(), right.agreement.item()) == (0, 1)
    assert wrong.loss.item() == pytest.approx(math.log(1 + math.e), rel=1e-6)
    assert right.loss.item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)
    assert pairwise_loss(near, far, all_b, lower_is_better=False, backend=backend).agreement.item() == 1
    tie = {
        ties: pairwise_loss(near, near, all_b, lower_is_better=True, ties=ties, backend=backend).agreement.item()
        for ties in ("half", "first")
    }
    assert tie == {"half": 0.5, "first": 0.0}  # LPIPS's training: (d1 < d0) * j + (1 - (d1 < d0)) * (1 - j)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bce_is_torch_s(backend):
    score_a, score_b, preference = judgments(500, torch.float64, backend)
    got = pairwise_loss(score_a, score_b, preference, lower_is_better=True, backend=backend).loss
    torch.testing.assert_close(got, F.binary_cross_entropy_with_logits(score_a - score_b, preference))


@pytest.mark.parametrize("difference", [1e4, -1e4, 88.0, -88.0, 104.0, 3e38])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_extremes_are_finite(backend, dtype, kind, difference):
    score_a, score_b, _ = judgments(3, dtype, backend)
    score_a, score_b = torch.full_like(score_a, difference), torch.zeros_like(score_b)
    preference = torch.tensor([0.0, 0.5, 1.0]).to(score_a)
    check(score_a, score_b, preference, backend, kind=kind, reduction="none")
    got = value_and_gradients(score_a, score_b, preference, kind=kind, lower_is_better=True, backend=backend)
    assert difference == 3e38 or all(t.isfinite().all() for t in got)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", KERNELS)
def test_nan_and_infinity_are_as_in_the_reference(backend, kind, value, where, reduction):
    triple = judgments(90, torch.float32, backend)
    triple[where][37::10] = value
    triple[2][40:80:3], triple[2][41:80:3] = 0.0, 1.0
    options = {"kind": kind, "reduction": reduction, "lower_is_better": True}
    if where == 2:  # the infinite preference
        triple[2][50] = value
    got = value_and_gradients(*triple, backend=backend, **options)
    want = value_and_gradients(*triple, backend="torch", **options)
    torch.testing.assert_close(got[:2], want[:2], equal_nan=True, rtol=1e-6, atol=1e-6)
    if not math.isnan(value):
        torch.testing.assert_close(got[2:], want[2:], equal_nan=True, rtol=1e-6, atol=1e-6)
    else:
        assert got[0].isnan().any()
        assert got[1].isnan().any()


@pytest.mark.parametrize("grads", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", KERNELS)
def test_gradcheck(backend, kind, reduction, grads):
    score_a, score_b, preference = judgments(9, torch.float64, backend, seed=3)
    score_b = torch.where(score_a == score_b, score_b + 0.5, score_b)
    score_a.requires_grad_(grads[0])
    score_b.requires_grad_(grads[1])

    def loss(a, b):
        return pairwise_loss(
            a, b, preference, kind=kind, lower_is_better=False, reduction=reduction, backend=backend
        ).loss

    assert torch.autograd.gradcheck(loss, (score_a, score_b))
    if kind != "margin":
        assert torch.autograd.gradgradcheck(loss, (score_a, score_b))


@pytest.mark.parametrize("backend", KERNELS)
def test_a_gradient_that_is_not_one(backend):
    score_a, score_b, preference = judgments(50, torch.float64, backend)
    weight = torch.linspace(-1, 2, 50).to(score_a)
    found = []
    for name in (backend, "torch"):
        leaf = score_a.clone().requires_grad_()
        loss = pairwise_loss(leaf, score_b, preference, lower_is_better=True, reduction="none", backend=name).loss
        (loss * weight).sum().backward()
        found.append(leaf.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_memory_layout(backend):
    triple = judgments(64, torch.float64, backend)
    want = pairwise_loss(*triple, lower_is_better=True, backend=backend)
    strided = [torch.stack([t, t + 1], 1)[:, 0].requires_grad_(i < 2) for i, t in enumerate(triple)]
    got = pairwise_loss(*strided, lower_is_better=True, backend=backend)
    assert torch.equal(got.loss.detach(), want.loss)
    got.loss.backward()
    one = triple[0][:1].clone().requires_grad_()
    pairwise_loss(one.expand(64), *triple[1:], lower_is_better=True, backend=backend).loss.backward()
    check(triple[0][:1].expand(64), *triple[1:], backend)
    minus = torch.complex(torch.zeros_like(triple[0]), -triple[0]).conj().imag
    assert minus.is_neg()
    assert torch.equal(pairwise_loss(minus, *triple[1:], lower_is_better=True, backend=backend).loss, want.loss)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_in(backend, kind):
    options = {"kind": kind, "lower_is_better": True, "backend": backend}
    triple = judgments(0, backend=backend)
    loss, agreement, gradient, _ = value_and_gradients(*triple, **options)
    assert loss.isnan()
    assert agreement.isnan()
    assert gradient.shape == (0,)
    assert pairwise_loss(*triple, **options, reduction="sum").loss.item() == 0
    assert pairwise_loss(*triple, **options, reduction="none").loss.shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    score_a, score_b, preference = judgments(100, dtype)
    leaf = score_a.clone().requires_grad_()
    got = pairwise_loss(leaf, score_b, preference, lower_is_better=True)
    want = pairwise_loss(score_a.float(), score_b.float(), preference.float(), lower_is_better=True)
    assert torch.equal(got.loss.detach(), want.loss)
    got.loss.backward()
    assert leaf.grad.dtype == dtype


def test_mixed_dtypes_take_the_wider():
    score_a, score_b, preference = judgments(100, torch.float64)
    got = pairwise_loss(score_a.float(), score_b, preference.half(), lower_is_better=True)
    assert got.loss.dtype == got.agreement.dtype == torch.float64
    torch.testing.assert_close(got.loss, oracle(score_a.float().double(), score_b, preference.half())[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [64, 8193, 70001])
def test_threads_change_no_bit(n, dtype):
    if available()["cpu"] is not None:
        pytest.skip(available()["cpu"])
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            found.append(value_and_gradients(*judgments(n, dtype), lower_is_better=True, backend="cpu"))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for one in found[1:] for x, y in zip(one, found[0], strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_large_sum_is_exact(backend):
    """A plain float sum of 2^25 ones stalls at 2^24."""
    n = 2**25
    zero = torch.zeros(n, device="cuda" if backend == "cuda" else "cpu")
    loss, agreement = pairwise_loss(
        zero, zero, zero, kind="margin", margin=1.0, lower_is_better=True, reduction="sum", backend=backend
    )
    assert loss.item() == n
    assert agreement.item() == 0.5


@pytest.mark.parametrize("learns", [0, 1])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("backend", KERNELS)
def test_opcheck(backend, reduction, learns):
    score_a, score_b, preference = judgments(10, torch.float32, backend)
    options = [pairwise.KINDS["mse"], 1, pairwise.REDUCTIONS[reduction], pairwise.TIES["half"], learns]
    both = (score_a.requires_grad_(bool(learns)), score_b.requires_grad_(bool(learns)))
    torch.library.opcheck(torch.ops.iqazoo.pairwise_loss, (*both, preference, 0.1, options))


@pytest.mark.parametrize("tracer", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_break(tracer):
    score_a, score_b, preference = judgments(33)
    both = [s.clone().requires_grad_() for s in (score_a, score_b)]
    torch.compiler.reset()
    compiled = torch.compile(pairwise_loss, fullgraph=True, backend=tracer)
    got = compiled(*both, preference, kind="mse", lower_is_better=False)
    assert isinstance(got, PairwiseResult)
    want = value_and_gradients(score_a, score_b, preference, kind="mse", lower_is_better=False)
    torch.testing.assert_close((got.loss.detach(), got.agreement), want[:2])
    torch.testing.assert_close(torch.autograd.grad(got.loss, both), want[2:])


def test_the_transforms_of_torch_func():
    score_a, score_b, preference = judgments(20)

    def loss(a):
        return pairwise_loss(a, score_b, preference, lower_is_better=True).loss

    want = value_and_gradients(score_a, score_b, preference, lower_is_better=True)[2]
    torch.testing.assert_close(torch.func.grad(loss)(score_a), want)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score_a": torch.zeros(2, 3)}, r"one shape \[N\]; got \[2, 3\]"),
        ({"preference": torch.zeros(1)}, r"one shape"),
        ({"score_a": torch.zeros(()), "score_b": torch.zeros(()), "preference": torch.zeros(())}, r"one shape \[N\]"),
        ({"preference": torch.zeros(3, dtype=torch.int64)}, "floating point"),
        ({"score_b": torch.zeros(3, device="meta")}, "one device"),
        ({"preference": torch.zeros(3, requires_grad=True)}, "no gradient for preference"),
        ({"kind": "hinge"}, "kind must be one of 'bce', 'mse', 'margin'; got 'hinge'"),
        ({"reduction": "max"}, "reduction must be one of"),
        ({"ties": "last"}, "ties must be one of"),
        ({"backend": "triton"}, "backend must be"),
    ],
)
def test_input_errors(change, message):
    given_ = {"score_a": torch.zeros(3), "score_b": torch.zeros(3), "preference": torch.zeros(3)}
    with pytest.raises(InputError, match=message):
        pairwise_loss(**given_ | {"lower_is_better": True} | change)


def test_the_direction_must_be_said():
    with pytest.raises(TypeError, match="lower_is_better"):
        pairwise_loss(*judgments(3))  # pyright: ignore[reportCallIssue]
