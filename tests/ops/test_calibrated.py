"""The loss through LPIPS's small network against torch.nn, in values and in all gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import backend_params
from torch import nn

from iqazoo.errors import InputError
from iqazoo.ops import available, calibrated, calibrated_pairwise_loss, pairwise_loss

# Of the largest element: the network's float32 sums cancel, float64 shows that the formulas are the same.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-13}
DTYPES = [torch.float32, torch.float64]
COMPAT = [None, "bceloss"]


BACKENDS = backend_params("torch", "cpu", "cuda")
KERNELS = BACKENDS[1:]


def head(seed=0, scale=1.0):
    torch.manual_seed(seed)
    layers = (nn.Linear(5, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    network = nn.Sequential(*layers).double()
    with torch.no_grad():
        for p in network.parameters():
            p *= scale
    return network


def judgments(n, seed=0, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    d0, d1 = spread * torch.rand((2, n), generator=generator, dtype=torch.float64)
    preference = (1.4 * torch.rand(n, generator=generator, dtype=torch.float64) - 0.2).clamp(0, 1)
    return d0, torch.where(torch.rand(n, generator=generator) < 0.1, d0, d1), preference


def torch_nn(network, d0, d1, preference, compat=None, reduction="mean"):
    """LPIPS's own order: d0, d1 and the fraction that preferred 1."""
    x = torch.stack([d0, d1, d0 - d1, d0 / (d1 + 0.1), d1 / (d0 + 0.1)], 1)
    logit = network(x)[:, 0]
    if compat:
        return nn.BCELoss(reduction=reduction)(torch.sigmoid(logit), preference)
    return nn.BCEWithLogitsLoss(reduction=reduction)(logit, preference)


def leaves(tensors, dtype, backend):
    device = "cuda" if backend == "cuda" else "cpu"
    return [t.detach().to(device, dtype).clone().requires_grad_() for t in tensors]


def check(network, d0, d1, preference, backend, dtype, lower_is_better=True, **options):
    reduction = options.setdefault("reduction", "mean")
    scale = torch.linspace(0.5, 2, len(d0), dtype=torch.float64) if reduction == "none" else torch.tensor(3.0).double()
    if options.get("compat"):  # it saturates where the type says so
        network, d0, d1, preference = network.to(dtype), d0.to(dtype), d1.to(dtype), preference.to(dtype)
    d0, d1 = d0.clone().requires_grad_(), d1.clone().requires_grad_()
    want = torch_nn(network, d0, d1, preference, **options)
    grads = torch.autograd.grad((want * scale).sum(), (d0, d1, *network.parameters()))

    first, second, *weights = inputs = leaves((d0, d1, *network.parameters()), dtype, backend)
    judged = preference.to(first)
    scores = (first, second) if lower_is_better else (second, first)
    got = calibrated_pairwise_loss(
        *scores, judged, weights, lower_is_better=lower_is_better, backend=backend, check=True, **options
    )
    (got.loss * scale.to(got.loss)).sum().backward()
    for x, y in zip((got.loss, *(t.grad for t in inputs)), (want, *grads), strict=True):
        assert x.dtype == dtype
        size = float(y.detach().abs().max()) if y.numel() else 0
        torch.testing.assert_close(x.detach().cpu().double(), y.detach().double(), rtol=0, atol=TOLERANCE[dtype] * size)
    assert not got.agreement.requires_grad
    plain = pairwise_loss(
        *scores, judged, lower_is_better=lower_is_better, reduction="mean" if reduction == "sum" else reduction
    )
    torch.testing.assert_close(got.agreement, plain.agreement)


@pytest.mark.parametrize("n", [1, 7, 64, 65, 1000, 20001])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_sizes(backend, dtype, n):
    check(head(), *judgments(n), backend, dtype)


@pytest.mark.parametrize("lower_is_better", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("compat", COMPAT)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_options(backend, dtype, compat, reduction, lower_is_better):
    check(head(1), *judgments(150), backend, dtype, compat=compat, reduction=reduction, lower_is_better=lower_is_better)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 300),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([1e-3, 0.3, 1.0, 10.0]),
    reduction=st.sampled_from(["mean", "none"]),
    lower_is_better=st.booleans(),
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_fuzz(backend, n, dtype, seed, spread, **options):
    check(head(seed % 97), *judgments(n, seed, spread), backend, dtype, **options)


def constant_head(logit, dtype):
    """A network whose logit is `logit + d0`, so that the scores' gradient is visible."""
    weights = [torch.zeros(shape, dtype=dtype) for shape in calibrated.SHAPES]
    weights[0][0, 0] = weights[2][0, 0] = weights[4][0, 0] = 1
    weights[5][0] = logit
    return weights


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_compat_saturates_and_the_default_does_not(backend, dtype):
    zero = torch.zeros(1, dtype=dtype, device="cuda" if backend == "cuda" else "cpu")
    found = {}
    for compat in COMPAT:
        weights = leaves(constant_head(80.0, dtype), dtype, backend)
        score = zero.clone().requires_grad_()
        loss, _ = calibrated_pairwise_loss(
            score, zero, zero, weights, lower_is_better=True, compat=compat, backend=backend
        )
        loss.backward()
        found[compat] = (loss.item(), weights[5].grad.item(), score.grad.item())
    assert found["bceloss"] == (100, 0, 0)
    # d0 is at LeakyReLU's kink, where torch takes the slope 0.2, twice.
    assert found[None] == pytest.approx((80, 1, 0.04))


@pytest.mark.parametrize("logit", [1e4, -1e4, 89.0, -89.0])
@pytest.mark.parametrize("compat", COMPAT)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", KERNELS)
def test_extremes_are_finite_and_as_in_torch(backend, dtype, compat, logit):
    score = torch.tensor([0.5, 1.0, 2.0])
    preference = torch.tensor([0.0, 0.5, 1.0])
    found = []
    for name in (backend, "torch"):
        score_a, score_b, h, *weights = leaves(
            (score, score.flip(0), preference, *constant_head(logit, dtype)), dtype, backend
        )
        h = h.detach()
        loss, _ = calibrated_pairwise_loss(
            score_a, score_b, h, weights, lower_is_better=True, compat=compat, reduction="none", backend=name
        )
        loss.sum().backward()
        found.append([loss.detach(), score_a.grad, score_b.grad, *(w.grad for w in weights)])
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)
    assert all(t.isfinite().all() for t in found[0])


@pytest.mark.parametrize("compat", COMPAT)
@pytest.mark.parametrize("where", range(4))
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("backend", KERNELS)
def test_nan_and_infinity_are_as_in_the_reference(backend, value, where, compat):
    triple = judgments(20)
    network = head()
    if where < 3:
        triple[where][5] = value
    else:
        with torch.no_grad():
            network[2].weight[3, 4] = value
    found = []
    for name in (backend, "torch"):
        score_a, score_b, h, *weights = leaves((*triple, *network.parameters()), torch.float64, backend)
        result = calibrated_pairwise_loss(
            score_a, score_b, h.detach(), weights, lower_is_better=True, compat=compat, reduction="none", backend=name
        )
        found.append(tuple(t.detach() for t in result))
    torch.testing.assert_close(*found, equal_nan=True)
    assert found[0][0].isnan().any() or not math.isnan(value)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("compat", COMPAT)
@pytest.mark.parametrize("backend", KERNELS)
def test_gradcheck(backend, compat, reduction):
    first, second, preference = judgments(6, seed=2)
    inputs = leaves((first, second, *head(2).parameters()), torch.float64, backend)

    def loss(a, b, *weights):
        h = preference.to(a)
        return calibrated_pairwise_loss(
            a, b, h, weights, lower_is_better=True, compat=compat, reduction=reduction, backend=backend
        ).loss

    assert torch.autograd.gradcheck(loss, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, inputs, fast_mode=True)


@pytest.mark.parametrize("backend", KERNELS)
def test_only_what_needs_a_gradient_gets_one(backend):
    first, second, preference, *weights = (
        t.detach() for t in leaves((*judgments(9), *head().parameters()), torch.float32, backend)
    )
    second.requires_grad_()
    weights[3].requires_grad_()
    options = {"lower_is_better": True, "backend": backend}
    calibrated_pairwise_loss(first, second, preference, weights, **options).loss.backward()
    assert [t.grad is not None for t in (first, second, *weights)] == [i in (1, 5) for i in range(8)]
    with torch.no_grad():
        assert not calibrated_pairwise_loss(first, second, preference, weights, **options).loss.requires_grad


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_memory_layout(backend):
    first, second, preference, *weights = (
        t.detach() for t in leaves((*judgments(40), *head().parameters()), torch.float64, backend)
    )
    options = {"lower_is_better": True, "backend": backend}
    want = calibrated_pairwise_loss(first, second, preference, weights, **options)
    odd = [torch.stack([t, t + 1], 1)[:, 0] for t in (first, second, preference)]
    columns = [w.T.contiguous().T if w.ndim == 2 else w for w in weights]
    got = calibrated_pairwise_loss(*odd, columns, **options)
    torch.testing.assert_close(got, want, rtol=1e-14, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_in(backend):
    first, second, *weights = leaves((*judgments(0)[:2], *head().parameters()), torch.float32, backend)
    h = first.detach()
    loss, agreement = calibrated_pairwise_loss(first, second, h, weights, lower_is_better=True, backend=backend)
    assert loss.isnan()
    assert agreement.isnan()
    loss.backward()
    assert first.grad.shape == (0,)
    options = {"lower_is_better": True, "backend": backend, "check": True}
    assert calibrated_pairwise_loss(first, second, h, weights, reduction="sum", **options).loss.item() == 0
    none = calibrated_pairwise_loss(first, second, h, weights, reduction="none", **options).loss
    assert none.shape == (0,)
    none.sum().backward()
    assert weights[0].grad.abs().max() == 0


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("n", [64, 1000, 30001])
def test_threads_change_no_bit(n, reduction):
    if available()["cpu"] is not None:
        pytest.skip(available()["cpu"])
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            first, second, preference, *weights = leaves((*judgments(n), *head().parameters()), torch.float32, "cpu")
            result = calibrated_pairwise_loss(
                first, second, preference.detach(), weights, lower_is_better=True, reduction=reduction, backend="cpu"
            )
            result.loss.sum().backward()
            found.append([*result, first.grad, second.grad, *(w.grad for w in weights)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for one in found[1:] for x, y in zip(one, found[0], strict=True))


def test_half_types_and_mixed_ones():
    first, second, preference, *weights = leaves((*judgments(9), *head().parameters()), torch.float32, "cpu")
    h = preference.detach()
    got = calibrated_pairwise_loss(first.half(), second.half(), h, weights, lower_is_better=True).loss
    assert got.dtype == torch.float32
    got.backward()
    assert (
        calibrated_pairwise_loss(first, second, h.double(), weights, lower_is_better=True).loss.dtype == torch.float64
    )


def one_tensor(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize("backend", ["torch", *KERNELS])
def test_weights_may_be_one_tensor(backend):
    device = "cuda" if backend == "cuda" else "cpu"
    first, second, preference, *weights = leaves((*judgments(10), *head().parameters()), torch.float64, device)
    flat = one_tensor(head()).to(first).requires_grad_()
    found = []
    for inputs in (weights, flat):
        loss = calibrated_pairwise_loss(first, second, preference.detach(), inputs, lower_is_better=True).loss
        found.append((loss, *torch.autograd.grad(loss, inputs)))
    (want, *apart), (got, together) = found
    assert torch.equal(got, want)
    assert torch.equal(together, torch.cat([g.flatten() for g in apart]))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("backend", KERNELS)
def test_opcheck(backend, reduction):
    first, second, preference, weights = leaves((*judgments(10), one_tensor(head())), torch.float64, backend)
    options = [0, calibrated.REDUCTIONS[reduction], 1]
    torch.library.opcheck(torch.ops.iqazoo.calibrated_pairwise, (first, second, preference.detach(), weights, options))
    plain = [t.detach() for t in (first, second, preference, weights)]
    torch.library.opcheck(torch.ops.iqazoo.calibrated_pairwise_gradients, (plain[2], *plain, 1))


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("tracer", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_break(tracer, reduction):
    first, second, preference, *weights = leaves((*judgments(33), *head().parameters()), torch.float32, "cpu")
    torch.compiler.reset()
    compiled = torch.compile(calibrated_pairwise_loss, fullgraph=True, backend=tracer)
    found = []
    for function in (compiled, calibrated_pairwise_loss):
        loss, agreement = function(
            first, second, preference.detach(), weights, lower_is_better=True, reduction=reduction
        )
        grads = torch.autograd.grad(loss.sum(), (first, second, *weights))
        found.append((loss.detach(), agreement, *grads))
    torch.testing.assert_close(*found)


NINE = [torch.zeros(3)] * 3, [torch.zeros(shape) for shape in calibrated.SHAPES]


@pytest.mark.parametrize(
    ("triple", "weights", "options", "message"),
    [
        ([torch.zeros(3), torch.zeros(3), torch.zeros(1)], NINE[1], {}, r"one shape \[N\]"),
        (NINE[0], NINE[1][:5], {}, "weights must be w1, b1"),
        (NINE[0], [NINE[1][0].T, *NINE[1][1:]], {}, "weights must be w1, b1"),
        (NINE[0], [w.long() for w in NINE[1]], {}, "floating point"),
        (NINE[0], [w.to("meta") for w in NINE[1]], {}, "device, cpu; got"),
        (NINE[0], NINE[1], {"compat": "lpips"}, "compat must be None"),
        (NINE[0], NINE[1], {"reduction": "max"}, "reduction must be one of"),
        ([torch.zeros(3), -torch.ones(3), torch.zeros(3)], NINE[1], {"check": True}, "0 or more, got -1"),
        ([torch.full((3,), math.nan), *NINE[0][1:]], NINE[1], {"check": True}, "0 or more, got nan"),
    ],
)
def test_input_errors(triple, weights, options, message):
    with pytest.raises(InputError, match=message):
        calibrated_pairwise_loss(*triple, weights, lower_is_better=True, **options)
