"""The structural similarity against oracles; test_conformance.py holds it to its reference."""

import math

import golden_data
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import backend_params

from iqazoo.errors import InputError
from iqazoo.ops import ssim, ssim_pyramid
from iqazoo.ops.pyramid import least_side
from iqazoo.ops.windows import taps

BACKENDS = backend_params("torch", "cpu", "cuda")
KERNELS = BACKENDS[1:]
PADDINGS = ["valid", "same", "reflect"]


def pair(*shape, backend="cpu", dtype=torch.float64, noise=0.4, seed=0):
    x, y = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    device = "cuda" if backend == "cuda" else "cpu"
    return x.to(device, dtype), ((1 - noise) * x + noise * y).to(device, dtype)


def textbook(x, y, window=11, sigma=1.5, c1=0.01**2, c2=0.03**2):
    """Index and contrast-structure term as the paper writes them, window by window: `[B, C, H', W']`."""
    weights = x.new_tensor(taps(window, sigma))
    weights = (weights[:, None] * weights).flatten()
    a, b = (t.unfold(2, window, 1).unfold(3, window, 1).flatten(4) for t in (x, y))  # [B, C, H', W', window^2]
    mean_a, mean_b = (a @ weights)[..., None], (b @ weights)[..., None]
    var_a, var_b = (a - mean_a).square() @ weights, (b - mean_b).square() @ weights
    structure = (2 * ((a - mean_a) * (b - mean_b)) @ weights + c2) / (var_a + var_b + c2)
    mean_a, mean_b = mean_a[..., 0], mean_b[..., 0]
    return (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * structure, structure


def value_and_gradients(x, y, **options):
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    value = ssim(x, y, **options)
    return value.detach(), *torch.autograd.grad(value.sum(), (x, y))


def check_against_float64(x, y, backend, value_tolerance, gradient_tolerance, **options):
    """Absolute for values; for gradients relative in norm, and to ten times that for the worst pixel of an image."""
    value, *gradients = value_and_gradients(x, y, backend=backend, **options)
    want, *want_gradients = value_and_gradients(x.double(), y.double(), backend="torch", **options)
    torch.testing.assert_close(value.double(), want, rtol=0, atol=value_tolerance)
    torch.testing.assert_close(ssim(x, y, backend=backend, **options).double(), want, rtol=0, atol=value_tolerance)
    for got, expected in zip(gradients, want_gradients, strict=True):
        error = got.double() - expected
        assert error.norm() <= gradient_tolerance * expected.norm()
        assert error.abs().max() <= 10 * gradient_tolerance * expected.abs().max()
    assert (value <= 1).all()


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (7, None), (1, None), (33, 6.0)])
@pytest.mark.parametrize("backend", BACKENDS)
def test_is_the_paper_s_formula(backend, window, sigma):
    x, y = pair(1, 2, 34, 37, backend=backend)
    want = textbook(x, y, window, sigma)
    for padding, border in (("same", "constant"), ("reflect", "reflect")):
        padded = textbook(*(F.pad(t, [window // 2] * 4, mode=border) for t in (x, y)), window, sigma)
        options = {"window": window, "sigma": sigma, "padding": padding, "backend": backend}
        torch.testing.assert_close(ssim(x, y, **options), padded[0].mean(dim=(1, 2, 3)), rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(ssim(x, y, reduction="map", **options), padded[0], rtol=1e-10, atol=1e-12)
    options = {"window": window, "sigma": sigma, "parts": True, "backend": backend}
    for reduction, over in (("image", (1, 2, 3)), ("channel", (2, 3))):
        got = ssim(x, y, reduction=reduction, **options)
        torch.testing.assert_close(tuple(got), tuple(t.mean(dim=over) for t in want), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(tuple(ssim(x, y, reduction="map", **options)), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (33, 6.0)])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("backend", KERNELS)
def test_tiles_join_without_a_seam(backend, padding, window, sigma):
    """More rows and columns than a tile has, and parts of one."""
    x, y = pair(1, 1, 150, 530, backend=backend)
    options = {"window": window, "sigma": sigma, "padding": padding}
    got = value_and_gradients(x, y, backend=backend, **options)
    want = value_and_gradients(x, y, backend="torch", **options)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("name", golden_data.NAMES)
@pytest.mark.parametrize("backend", KERNELS)
def test_photographs_in_float32(backend, name):
    pytest.importorskip("PIL")
    x, y = (t.to("cuda" if backend == "cuda" else "cpu") for t in golden_data.pair(name))
    if torch.equal(x, y):  # the gradient is 0: there is nothing to be relative to
        assert ssim(x, y, backend=backend).item() == 1
        return
    check_against_float64(x, y, backend, 1e-6, 1e-5)


LEVELS = [(0.0, 0.0), (0.3, 0.3001), (0.3, 0.7), (1.0, 1.0), (1.0, 0.0)]


@pytest.mark.parametrize("grain", [0.0, 1e-5, 1e-3])
@pytest.mark.parametrize("levels", LEVELS, ids=str)
@pytest.mark.parametrize("backend", KERNELS)
def test_flat_images_do_not_cancel(backend, levels, grain):
    """Constant and nearly constant images in float32."""
    x, y = pair(1, 2, 90, 300, backend=backend, dtype=torch.float32, noise=1.0)
    x, y = grain * x + levels[0], grain * y + levels[1]
    if grain == 0 and levels[0] == levels[1]:
        assert ssim(x, y, backend=backend).item() == 1
        return
    gradient = 3e-3 if backend == "cuda" else 1e-3  # fused multiply-adds round products and squares differently
    check_against_float64(x, y, backend, 1e-6, gradient)


@pytest.mark.parametrize("backend", KERNELS)
def test_a_picture_half_black_and_half_white(backend):
    x = torch.zeros(1, 1, 200, 300, device="cuda" if backend == "cuda" else "cpu")
    x[..., 150:] = 1
    y = x.clone()
    y[..., 20:40, :] += 0.01
    check_against_float64(x, y, backend, 1e-6, 1e-3)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    noise=st.sampled_from([0.0, 1e-7, 1e-4, 0.1, 1.0]),
    scale=st.sampled_from([1e-3, 1.0, 255.0]),
    offset=st.sampled_from([0.0, 0.5, 100.0]),
    padding=st.sampled_from(PADDINGS),
)
@pytest.mark.parametrize("backend", BACKENDS)
def test_never_above_1_and_symmetric(backend, seed, noise, scale, offset, padding):
    x, y = pair(1, 2, 15, 40, backend=backend, dtype=torch.float32, noise=noise, seed=seed)
    x, y = scale * (x + offset), scale * (y + offset)
    found = ssim(x, y, padding=padding, data_range=scale, reduction="map", backend=backend)
    assert (found <= 1).all()
    assert (found >= -1).all()
    assert torch.equal(found, ssim(y, x, padding=padding, data_range=scale, reduction="map", backend=backend))
    assert (ssim(x, x, padding=padding, data_range=scale, reduction="map", backend=backend) == 1).all()


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_excluded_pixels_do_not_matter(backend, padding):
    x, y = pair(2, 2, 40, 60, backend=backend)
    mask = torch.ones(2, 1, 40, 60, dtype=torch.bool, device=x.device)
    mask[0, 0, 12, 30] = mask[1, 0, :, 35:] = False
    options = {"window": 5, "padding": padding, "backend": backend}
    whole = ssim(x, y, reduction="map", **options)
    seen = F.pad(mask.double(), [0 if padding == "valid" else 2] * 4, value=1.0)
    counted = (seen.unfold(2, 5, 1).unfold(3, 5, 1).flatten(4) == 1).all(4).expand_as(whole)
    expected = torch.stack([whole[b][counted[b]].mean() for b in range(2)])
    spoiled = torch.where(mask, x, math.nan)
    value, for_x, for_y = value_and_gradients(spoiled, y, mask=mask, **options)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(ssim(spoiled, y, mask=mask, **options), expected)
    assert for_x.isfinite().all()
    assert for_y.isfinite().all()
    assert (for_x[~mask.expand_as(x)] == 0).all()
    shown = ssim(spoiled, y, mask=mask, reduction="map", **options)
    assert torch.equal(shown.isnan(), ~counted)
    torch.testing.assert_close(shown[counted], whole[counted])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mean_over_no_window_is_nan(backend):
    x, y = pair(2, 1, 12, 12, backend=backend)
    mask = torch.ones(2, 1, 12, 12, dtype=torch.bool, device=x.device)
    mask[1, 0, 6, 6] = False
    value, for_x, _ = value_and_gradients(x, y, mask=mask, backend=backend)
    assert value.isnan().tolist() == [False, True]
    assert (for_x[0] != 0).any()
    assert not for_x[1].isinf().any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("backend", BACKENDS)
def test_nan_and_infinity_stay_in_their_windows(backend, value):
    x, y = pair(2, 1, 30, 40, backend=backend, dtype=torch.float32)
    x[1, 0, 15, 20] = value
    found = ssim(x, y, window=7, sigma=None, reduction="map", backend=backend)
    expected = torch.zeros_like(found, dtype=torch.bool)
    expected[1, 0, 9:16, 14:21] = True
    assert torch.equal(found.isnan(), expected)


@pytest.mark.parametrize("backend", KERNELS)
def test_alone_as_in_a_batch(backend):
    x, y = pair(3, 2, 70, 80, backend=backend, dtype=torch.float32)
    together = value_and_gradients(x, y, backend=backend)
    alone = [value_and_gradients(x[b : b + 1], y[b : b + 1], backend=backend) for b in range(3)]
    assert all(torch.equal(t, torch.cat(parts)) for t, parts in zip(together, zip(*alone, strict=True), strict=True))


@pytest.mark.parametrize("backend", KERNELS)
def test_backward_twice_gives_the_same_twice(backend):
    x, y = pair(1, 1, 20, 20, backend=backend)
    x.requires_grad_()
    value = ssim(x, y, backend=backend).sum()
    first = torch.autograd.grad(3 * value, x, retain_graph=True)[0]
    kept = first.clone()
    second = torch.autograd.grad(3 * value, x)[0]
    assert torch.equal(first, kept)
    assert torch.equal(first, second)


@pytest.mark.parametrize("options", [{}, {"parts": True}, {"reduction": "map"}, {"masked": True}], ids=str)
@pytest.mark.parametrize("backend", KERNELS)
def test_second_derivatives(backend, options):
    x, y = (t.requires_grad_() for t in pair(1, 1, 9, 9, backend=backend))
    mask = None
    if options.get("masked"):
        mask = torch.ones(1, 1, 9, 9, dtype=torch.bool, device=x.device)
        mask[..., :2, :2] = False
    options = {"window": 5, "mask": mask, "backend": backend} | {k: v for k, v in options.items() if k != "masked"}
    assert torch.autograd.gradgradcheck(lambda *both: ssim(*both, **options), (x, y), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: ssim(x, y.detach(), **options), x, fast_mode=True)


@pytest.mark.parametrize("options", [{}, {"reduction": "map"}], ids=str)
def test_the_transforms_of_torch(options):
    x, y = pair(3, 1, 9, 9)
    got = torch.func.vmap(lambda a, b: ssim(a[None], b[None], window=5, **options)[0])(x, y)
    torch.testing.assert_close(got, ssim(x, y, window=5, **options))
    x.requires_grad_()
    value = ssim(x, y, window=5, **options)
    both = torch.stack([torch.ones_like(value), 2 * torch.ones_like(value)])
    (batched,) = torch.autograd.grad(value, x, both, is_grads_batched=True)
    assert not batched.requires_grad
    (single,) = torch.autograd.grad(ssim(x, y, window=5, backend="torch", **options).sum(), x)
    torch.testing.assert_close(batched, torch.stack([single, 2 * single]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    x, y = pair(1, 2, 20, 30, dtype=dtype)
    got, for_x, _ = value_and_gradients(x, y)
    want, expected, _ = value_and_gradients(x.float(), y.float())
    assert torch.equal(got, want)
    assert torch.equal(for_x, expected.to(dtype))
    assert ssim(x, y.double()).dtype == torch.float64


@pytest.mark.parametrize("border", ["zeros", "replicate", "drop"])
@pytest.mark.parametrize("size", [(46, 47), (45, 48), (47, 45), (300, 301)])
@pytest.mark.parametrize("backend", KERNELS)
def test_the_pyramid_in_values_and_gradients(backend, size, border):
    results = []
    for chosen in (backend, "torch"):
        x, y = (t.requires_grad_() for t in pair(1, 2, *size, backend=backend))
        terms = ssim_pyramid(x, y, scales=3, border=border, backend=chosen)
        assert terms.shape == (3, 1, 2)
        weights = torch.arange(1.0, 7.0, device=x.device, dtype=x.dtype).view(3, 1, 2)
        results.append((terms.detach(), *torch.autograd.grad((weights * terms).sum(), (x, y))))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("border", ["zeros", "replicate"])
@pytest.mark.parametrize("backend", KERNELS)
def test_second_derivatives_of_the_pyramid(backend, border):
    both = [t.requires_grad_() for t in pair(1, 1, 11, 12, backend=backend)]
    options = {"scales": 2, "window": 5, "border": border, "backend": backend}
    assert torch.autograd.gradgradcheck(lambda *both: ssim_pyramid(*both, **options), both, fast_mode=True)


def test_the_pyramid_halves_as_the_libraries_do():
    x, y = pair(1, 1, 45, 46)
    zeros = [F.avg_pool2d(t, 2, padding=(1, 0)) for t in (x, y)]  # what pytorch-msssim does for odd heights
    torch.testing.assert_close(ssim_pyramid(x, y, scales=2)[1], ssim(*zeros, reduction="channel"))
    nearest = [F.avg_pool2d(F.pad(t, [1, 0, 1, 0], mode="replicate"), 2) for t in (x, y)]  # piq
    torch.testing.assert_close(ssim_pyramid(x, y, scales=2, border="replicate")[1], ssim(*nearest, reduction="channel"))
    dropped = [F.avg_pool2d(t, 2) for t in (x, y)]
    torch.testing.assert_close(ssim_pyramid(x, y, scales=2, border="drop")[1], ssim(*dropped, reduction="channel"))
    assert ssim_pyramid(x, y, scales=1) == ssim(x, y)


@pytest.mark.parametrize("border", ["zeros", "drop"])
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_least_side_of_a_pyramid(padding, border):
    least = least_side(3, 7, padding, border)
    x, y = pair(1, 1, least, least)
    options = {"scales": 3, "window": 7, "padding": padding, "border": border}
    assert ssim_pyramid(x, y, **options).isfinite().all()
    if least > 1:
        with pytest.raises(InputError, match=f"at least {least} x {least} pixels"):
            ssim_pyramid(x[..., 1:], y[..., 1:], **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 21}, "at least 21 x 21 pixels"),
        ({"window": 10}, "odd number"),
        ({"window": 35}, "from 1 to 33"),
        ({"window": 11.0}, "whole number"),
        ({"sigma": 0.0}, "sigma must be"),
        ({"data_range": 0.0}, "data_range must be"),
        ({"k1": -1.0}, "k1 and k2"),
        ({"padding": "zeros"}, "padding must be"),
        ({"reduction": "mean"}, "reduction must be"),
        ({"mask": torch.ones(1, 2, 20, 30, dtype=torch.bool)}, "mask must be bool"),
        ({"mask": torch.ones(1, 1, 20, 30)}, "mask must be bool"),
    ],
)
def test_input_errors(options, message):
    x, y = pair(1, 2, 20, 30)
    with pytest.raises(InputError, match=message):
        ssim(x, y, **options)


def test_inputs_that_do_not_fit():
    x, y = pair(1, 2, 20, 30)
    with pytest.raises(InputError, match="equal shape"):
        ssim(x, y[..., 1:])
    with pytest.raises(InputError, match="floating point"):
        ssim(x.byte(), y.byte())
    with pytest.raises(InputError, match="border must be"):
        ssim_pyramid(x, y, scales=1, border="mirror")
    with pytest.raises(InputError, match="scales must be"):
        ssim_pyramid(x, y, scales=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_in_is_as_in_torch(backend):
    x, y = pair(2, 3, 20, 30, backend=backend)
    assert ssim(x[:0], y[:0], backend=backend).shape == (0,)
    assert ssim(x[:, :0], y[:, :0], backend=backend).isnan().tolist() == [True, True]
    assert ssim(x[:, :0], y[:, :0], reduction="channel", backend=backend).shape == (2, 0)
