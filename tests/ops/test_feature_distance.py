"""The feature distance beyond what every op must do (test_conformance.py): layouts, zeros, precision, identities."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import backend_params

from iqazoo.errors import InputError
from iqazoo.ops import feature_distance
from iqazoo.ops.feature_distance import reference_feature_distance

BACKENDS = backend_params("torch", "cpu", "cuda")
KERNELS = backend_params("cpu", "cuda")
REDUCTIONS = ("image", "map", "channel")
# A vector's width, more and less, one tile, several, a rest; few and many channels.
SHAPES = [(1, 1, 1, 1), (2, 3, 1, 1), (3, 17, 3, 3), (2, 8, 4, 4), (2, 33, 8, 8), (1, 6, 31, 37), (1, 600, 9, 10)]


def maps(shape, dtype=torch.float64, backend="cpu", seed=0, last=False):
    """Two maps as after a ReLU, and weights; all are leaves."""
    device = "cuda" if backend == "cuda" else "cpu"
    generator = torch.Generator().manual_seed(seed)
    image, noise = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    pair = (image.relu() + 0.01, (image + 0.3 * noise).relu() + 0.01)
    weight = torch.rand(shape[1], generator=generator, dtype=torch.float64)
    memory_format = torch.channels_last if last else torch.contiguous_format
    pair = (f.to(device, dtype).contiguous(memory_format=memory_format) for f in pair)
    return [t.requires_grad_() for t in (*pair, weight.to(device, dtype))]


def gradients(value, inputs):
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(value.shape, generator=generator, dtype=torch.float64).to(value) + 0.5
    return torch.autograd.grad(value, inputs, weights, materialize_grads=True, allow_unused=True)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("backend", KERNELS)
def test_shapes_and_layouts(backend, shape, reduction, last):
    inputs = maps(shape, backend=backend, last=last)
    got = feature_distance(*inputs, reduction=reduction, backend=backend)
    want = reference_feature_distance(*inputs, reduction=reduction)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-15)
    for found, wanted in zip(gradients(got, inputs), gradients(want, inputs), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("backend", KERNELS)
def test_neither_layout_is_copied_and_gradients_keep_it(backend, last, monkeypatch):
    image, reference, weight = maps((2, 8, 5, 6), backend=backend, last=last)
    memory_format = torch.channels_last if last else torch.contiguous_format
    addresses = []
    launch = feature_distance.__globals__["launch"]
    monkeypatch.setitem(
        feature_distance.__globals__,
        "launch",
        lambda backend, op, *a: (addresses.append([x.data_ptr() for x in a[:2]]), launch(backend, op, *a)),
    )
    single = reference.detach()[:1].expand(2, -1, -1, -1)
    distance = feature_distance(image, single, weight, backend=backend)
    assert addresses == [[image.data_ptr(), reference.data_ptr()]]
    (gradient,) = torch.autograd.grad(distance.sum(), image)
    assert gradient.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_one_reference_for_a_batch(backend, reduction, last):
    image, reference, weight = maps((3, 5, 4, 7), backend=backend, last=last)
    one = reference.detach()[1:2].requires_grad_()
    found = []
    for many in (one.expand(3, -1, -1, -1), one.repeat(3, 1, 1, 1)):
        value = feature_distance(image, many, weight, reduction=reduction, backend=backend)
        found.append((value.detach(), *gradients(value, (image, one))))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layouts_may_differ(backend):
    image, reference, weight = (t.detach() for t in maps((2, 5, 4, 7), backend=backend))
    mixed = reference.contiguous(memory_format=torch.channels_last)
    want = feature_distance(image, reference, weight, backend=backend)
    torch.testing.assert_close(feature_distance(image, mixed, weight, backend=backend), want)
    torch.testing.assert_close(feature_distance(mixed, image, weight, backend=backend), want)


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_vectors_have_zero_gradient(backend, dtype, reduction, last):
    image, reference, weight = maps((2, 6, 5, 5), dtype, backend, last=last)
    with torch.no_grad():
        image[:, :, ::2] = 0
        reference[:, :, :, ::2] = 0
    value = feature_distance(image, reference, weight, reduction=reduction, backend=backend)
    to_image, to_reference, to_weight = gradients(value, (image, reference, weight))
    assert to_image[:, :, ::2].eq(0).all()
    assert to_reference[:, :, :, ::2].eq(0).all()
    assert all(g.isfinite().all() for g in (value, to_image, to_reference, to_weight))
    assert to_image[:, :, 1::2].ne(0).any()


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("backend", BACKENDS)
def test_identical_maps_are_at_distance_zero(backend, dtype, last):
    """Exactly, though a compiler may fuse multiplications with additions; and their gradient is zero."""
    image, _, weight = maps((2, 37, 9, 11), dtype, backend, last=last)
    same = image.detach().clone().requires_grad_()
    value = feature_distance(image, same, weight, backend=backend)
    assert value.eq(0).all()
    assert all(g.eq(0).all() for g in gradients(value, (image, same)))


@settings(max_examples=15, deadline=None)
@given(exponent=st.floats(-3, 0), seed=st.integers(0, 1000), last=st.booleans())
@pytest.mark.parametrize("backend", KERNELS)
def test_close_maps_keep_their_digits(backend, exponent, seed, last):
    """In float32, down to distances of 1e-7, where the square expanded into five sums is wrong by a tenth."""
    image, noise, weight = (t.detach() for t in maps((1, 64, 8, 8), torch.float32, backend, seed, last))
    near = image + 10**exponent * noise
    got = feature_distance(image, near, weight, backend=backend).double()
    want = reference_feature_distance(image.double(), near.double(), weight.double())
    torch.testing.assert_close(got, want, rtol=2e-5, atol=0)


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6, 1e12])
@pytest.mark.parametrize("backend", KERNELS)
def test_maps_of_very_different_lengths(backend, scale):
    image, reference, weight = (t.detach() for t in maps((1, 16, 6, 6), torch.float32, backend))
    for pair in ((image, scale * reference), (scale * image, reference)):
        got = feature_distance(*pair, weight, backend=backend).double()
        want = reference_feature_distance(*(t.double() for t in (*pair, weight)))
        torch.testing.assert_close(got, want, rtol=1e-5, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_reductions_belong_together(backend):
    image, reference, weight = maps((3, 7, 5, 9), backend=backend)
    value = feature_distance(image, reference, weight, backend=backend)
    at_positions = feature_distance(image, reference, weight, reduction="map", backend=backend)
    channels = feature_distance(image, reference, reduction="channel", backend=backend)
    torch.testing.assert_close(at_positions.mean((1, 2, 3)), value)
    torch.testing.assert_close(channels @ weight, value)
    whole = feature_distance(image, reference, weight, reduction="channel", backend=backend)
    assert torch.equal(whole, channels)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("backend", KERNELS)
def test_second_derivatives(backend, reduction):
    inputs = maps((2, 3, 2, 2), backend=backend)
    taken = inputs[: 2 if reduction == "channel" else 3]

    def value(*given):
        return feature_distance(*given, reduction=reduction, backend=backend)

    assert torch.autograd.gradgradcheck(value, taken, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", backend_params("torch", "cuda"))
def test_half_features_with_a_wide_head(backend, dtype):
    image, reference, weight = maps((2, 5, 6, 6), torch.float32, backend)
    halves = [f.detach().to(dtype).requires_grad_() for f in (image, reference)]
    got = feature_distance(*halves, weight, backend=backend)
    assert got.dtype == torch.float32
    assert [g.dtype for g in gradients(got, (*halves, weight))] == [dtype, dtype, torch.float32]
    want = reference_feature_distance(*(f.double() for f in halves), weight.double())
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-7)


def test_types_are_promoted():
    image, reference, weight = maps((1, 3, 4, 4), torch.float32)
    assert feature_distance(image.double(), reference, weight).dtype == torch.float64
    assert feature_distance(image, reference, weight.double()).dtype == torch.float64
    assert feature_distance(image.half(), reference.bfloat16(), weight).dtype == torch.float32


FEATURES = torch.zeros(1, 3, 2, 2)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((FEATURES, FEATURES[:, :2], torch.ones(3)), {}, "equal shape"),
        ((FEATURES, FEATURES.expand(2, -1, -1, -1), torch.ones(3)), {}, "expand a single reference"),
        ((FEATURES[0], FEATURES[0], torch.ones(3)), {}, r"\[B, C, H, W\]"),
        ((FEATURES, FEATURES), {}, "needs a weight"),
        ((FEATURES, FEATURES, torch.ones(2)), {}, r"one element per channel, \[3\]; got \[2\]"),
        ((FEATURES, FEATURES, torch.ones(3, 1)), {}, "one element per channel"),
        ((FEATURES, FEATURES, torch.ones(3, dtype=torch.long)), {}, "floating point"),
        ((FEATURES, FEATURES, torch.ones(3, device="meta")), {}, "one device"),
        ((FEATURES, FEATURES, torch.ones(3)), {"reduction": "mean"}, "'image', 'map', 'channel'; got 'mean'"),
        ((FEATURES, FEATURES, torch.ones(3)), {"eps": -1.0}, "at least 0; got -1"),
    ],
)
def test_input_errors(arguments, options, message):
    with pytest.raises(InputError, match=message):
        feature_distance(*arguments, **options)
