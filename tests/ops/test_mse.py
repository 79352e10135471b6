"""Every backend of the mean squared error against a slow oracle; test_conformance.py holds it to its reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import backend_params

from iqazoo.errors import InputError
from iqazoo.ops import mse
from iqazoo.ops.mean_squared_error import reference_mse

# About what one rounding to the type costs, times a few: the sums themselves must add nothing to it.
TOLERANCE = {torch.float32: 5e-7, torch.float64: 1e-13}


BACKENDS = backend_params("torch", "cpu", "cuda")
KERNELS = BACKENDS[1:]
DTYPES = [torch.float32, torch.float64]


def oracle(image, reference):
    """Each image by itself, in float64, with an exact sum."""
    x, y = (t.detach().resolve_neg().cpu().double().flatten(1).numpy() for t in (image, reference))
    return torch.tensor([math.fsum(row) / row.size for row in np.square(x - y)], dtype=torch.float64)


def pair(shape, dtype=torch.float32, backend="cpu", seed=0):
    generator = torch.Generator().manual_seed(seed)
    device = "cuda" if backend == "cuda" else "cpu"
    both = torch.rand((2, *shape), generator=generator, dtype=torch.float64).to(dtype)
    return both[0].to(device), both[1].to(device)


def check_value(image, reference, backend, rtol=None):
    got = mse(image, reference, backend=backend)
    want = oracle(image, reference)
    assert got.shape == (len(image),)
    assert got.dtype == (torch.float64 if image.dtype == torch.float64 else torch.float32)
    rtol = rtol or TOLERANCE[got.dtype]
    torch.testing.assert_close(got.cpu().double(), want, rtol=rtol, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape",
    [(1, 1), (3, 7), (2, 511), (2, 512), (2, 513), (2, 8191), (2, 8193), (2, 3, 37, 53), (4, 1, 100, 100)],
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_value(backend, shape, dtype):
    check_value(*pair(shape, dtype, backend), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_big_image_is_as_exact_as_a_small_one(backend):
    image, _ = pair((1, 3, 1080, 1920), backend=backend)
    check_value(image, image + 0.001, backend)
    # A plain float sum stalls here: each square is lost beside the sum of those before it.
    ones = torch.ones(1, 2**25, device=image.device)
    assert mse(ones, torch.zeros_like(ones), backend=backend).item() == 1


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 40), min_size=2, max_size=4),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
    scale=st.sampled_from([1e-12, 1e-3, 1.0, 255.0, 1e12]),
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_fuzz(backend, shape, dtype, seed, scale):
    image, reference = pair(shape, dtype, backend, seed)
    check_value(image * scale, reference * scale, backend)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    image, reference = pair((2, 3, 64, 64), dtype)
    check_value(image, reference, "auto")


def test_mixed_dtypes_take_the_wider():
    image, reference = pair((2, 3, 8, 8), torch.float64)
    got = mse(image, reference.float())
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, oracle(image, reference.float()))


def gradients(image, reference, backend, loss):
    image = image.detach().clone().requires_grad_()
    reference = reference.detach().clone().requires_grad_()
    loss(mse(image, reference, backend=backend)).backward()
    assert image.grad is not None
    assert reference.grad is not None
    return image.grad, reference.grad


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(torch.sum, id="expanded"),  # its gradient has stride 0
        pytest.param(torch.mean, id="mean"),
        pytest.param(lambda e: (e[::2] * torch.arange(1.0, 3.0).to(e)).sum(), id="weighted"),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", KERNELS)
def test_gradients_are_those_of_the_reference(backend, dtype, loss):
    image, reference = pair((4, 3, 65, 47), dtype, backend)
    got = gradients(image, reference, backend, loss)
    want = gradients(image, reference, "torch", loss)
    torch.testing.assert_close(got, want, rtol=10 * TOLERANCE[dtype], atol=1e-9)


@pytest.mark.parametrize("backend", KERNELS)
def test_gradient_of_a_big_image(backend):
    image, reference = pair((1, 3, 1080, 1920), backend=backend)
    got = gradients(image, reference, backend, torch.sum)
    want = 2 * (image.double() - reference.double()) / image.numel()
    torch.testing.assert_close(got[0].double(), want, rtol=1e-6, atol=1e-14)
    assert torch.equal(got[0], -got[1])


@pytest.mark.parametrize("backend", KERNELS)
def test_second_derivatives(backend):
    image, reference = pair((3, 2, 5, 7), torch.float64, backend)
    both = (image.transpose(2, 3).requires_grad_(), reference.transpose(2, 3).requires_grad_())
    assert torch.autograd.gradgradcheck(lambda x, y: mse(x, y, backend=backend), both)


LAYOUTS = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "sliced": lambda x: torch.stack([x, x + 1], -1)[..., 0],
    "lazy minus": lambda x: torch.complex(torch.zeros_like(x), -x).conj().imag,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_memory_layout(backend, layout):
    image, reference = pair((2, 3, 16, 24), torch.float64, backend)
    odd = LAYOUTS[layout](image)
    assert torch.equal(odd, image)
    assert not odd.is_contiguous() or odd.is_neg()
    check_value(odd, reference, backend)
    check_value(reference, odd, backend)
    got, want = [], []
    for grads, x in ((got, odd), (want, image)):
        leaf = x.detach().requires_grad_()
        mse(leaf, reference, backend=backend).sum().backward()
        grads.append(leaf.grad)
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_expanded_image_gets_the_sum_of_its_gradients(backend):
    image, reference = pair((4, 3, 5, 5), torch.float64, backend)
    one = image[:1].clone().requires_grad_()
    check_value(one.expand(4, -1, -1, -1), reference, backend)
    mse(one.expand(4, -1, -1, -1), reference, backend=backend).sum().backward()
    assert one.grad is not None
    torch.testing.assert_close(one.grad, (2 * (one.detach() - reference) / 75).sum(0, keepdim=True))


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4), (0, 0), (2, 0)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_in_is_as_in_torch(backend, shape):
    image, reference = pair(shape, backend=backend)
    image.requires_grad_()
    got = mse(image, reference, backend=backend)
    assert torch.equal(got.isnan(), reference_mse(image, reference).isnan())
    assert got.shape == shape[:1]
    got.sum().backward()
    assert image.grad is not None
    assert image.grad.shape == shape


@pytest.mark.parametrize("position", [0, 700, 1535])  # within whole blocks, and in the rest
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_and_infinity_stay_in_their_image(backend, value, position):
    image, reference = pair((3, 1536), backend=backend)
    image[1, position] = value
    got = mse(image, reference, backend=backend)
    want = reference_mse(image, reference)
    assert torch.equal(got.isfinite().cpu(), torch.tensor([True, False, True]))
    torch.testing.assert_close(got, want, equal_nan=True)
    both = mse(image, image, backend=backend)  # infinity - infinity is not a number
    assert torch.equal(both.isnan().cpu(), torch.tensor([False, True, False]))


@pytest.mark.parametrize("backend", KERNELS)
def test_the_same_bits_every_time(backend):
    image, reference = pair((3, 3, 301, 203), backend=backend)
    first = mse(image, reference, backend=backend)
    alone = torch.cat([mse(x[None], y[None], backend=backend) for x, y in zip(image, reference, strict=True)])
    assert torch.equal(first, mse(image, reference, backend=backend))
    assert torch.equal(first, alone)


@pytest.mark.parametrize(
    ("image", "reference", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), "equal shape"),
        (torch.zeros(2, 3), torch.zeros(1, 3), "equal shape"),
        (torch.zeros(3), torch.zeros(3), r"at least \[B, N\]"),
        (torch.zeros(2, 3, dtype=torch.uint8), torch.zeros(2, 3), "floating point"),
        (torch.zeros(2, 3), torch.zeros(2, 3, device="meta"), "one device"),
    ],
)
def test_input_errors(image, reference, message):
    with pytest.raises(InputError, match=message):
        mse(image, reference)


@pytest.mark.parametrize("tracer", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_break(tracer):
    image, reference = pair((2, 3, 32, 32))
    image.requires_grad_()
    torch.compiler.reset()
    compiled = torch.compile(lambda x, y: mse(x, y), fullgraph=True, backend=tracer)
    got = compiled(image, reference)
    torch.testing.assert_close(got, mse(image, reference))
    (gradient,) = torch.autograd.grad(got.sum(), image)
    torch.testing.assert_close(gradient, 2 * (image - reference).detach() / 3072)


def test_the_transforms_of_torch_func():
    image, reference = pair((2, 5, 3, 8, 8))
    got = torch.func.vmap(mse)(image, reference)
    torch.testing.assert_close(got, torch.stack([mse(x, y) for x, y in zip(image, reference, strict=True)]))
    gradient = torch.func.grad(lambda x: mse(x, reference[0]).sum())(image[0])
    torch.testing.assert_close(gradient, 2 * (image[0] - reference[0]) / 192)
