"""The windowed moments against slow oracles; test_conformance.py holds them to their reference."""

import numpy as np
import pytest
import torch
from ops.cases import backend_params

from iqazoo.errors import InputError
from iqazoo.ops import windowed_moments
from iqazoo.ops.windows import taps

BACKENDS = backend_params("torch", "cpu", "cuda")
KERNELS = BACKENDS[1:]
PADS = {"valid": None, "same": "constant", "reflect": "reflect"}


def pair(*shape, backend="cpu", dtype=torch.float64):
    both = torch.rand(2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return both.to("cuda" if backend == "cuda" else "cpu", dtype).unbind()


def slow_moments(x, y, window, sigma, stride):
    """One window after the other. x, y: [H, W] float64."""
    weights = np.outer(taps(window, sigma), taps(window, sigma))
    rows = range(0, x.shape[0] - window + 1, stride)
    columns = range(0, x.shape[1] - window + 1, stride)
    found = np.empty((5, len(rows), len(columns)))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            a, b = (t[row : row + window, column : column + window] for t in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            moments = ((a - mean_a) ** 2, (b - mean_b) ** 2, (a - mean_a) * (b - mean_b))
            found[:, i, j] = (mean_a, mean_b, *((weights * m).sum() for m in moments))
    return found


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (7, None), (1, None), (8, None), (2, 0.7), (4, 0.01)])
@pytest.mark.parametrize("padding", PADS)
@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("backend", BACKENDS)
def test_equals_the_definition_at_every_window(backend, window, sigma, padding, stride):
    if window % 2 == 0 and padding != "valid":
        pytest.skip("an even window has no centre")
    x, y = pair(2, 1, 17, 15, backend=backend)
    found = windowed_moments(x, y, window=window, sigma=sigma, stride=stride, padding=padding, backend=backend)
    for b in range(2):
        wide = [t[b, 0].cpu().numpy() for t in (x, y)]
        if PADS[padding]:
            wide = [np.pad(t, window // 2, mode=PADS[padding]) for t in wide]
        expected = slow_moments(*wide, window, sigma, stride)
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got[b, 0].cpu().numpy(), want, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("window", "central"), [(1, [1]), (4, [0, 0.5, 0.5, 0]), (5, [0, 0, 1, 0, 0])])
@pytest.mark.parametrize("sigma", [0.01, 1e-320])
def test_the_narrowest_gaussian_is_the_central_pixels(window, central, sigma):
    assert list(taps(window, sigma)) == central


@pytest.mark.parametrize("level", [0.0, 0.7, 255.0, -1e4])
@pytest.mark.parametrize("backend", KERNELS)
def test_flat_regions_do_not_cancel(backend, level):
    """A plain difference of squares in float32 would leave 1e-7 of the level's square."""
    x, y = pair(1, 2, 200, 300, backend=backend, dtype=torch.float32)
    x, y = x * 1e-3 * max(level, 1) + level, torch.full_like(y, level)
    found = windowed_moments(x, y, window=11, sigma=1.5, backend=backend)
    want = windowed_moments(x.double(), y.double(), window=11, sigma=1.5, backend="torch")
    torch.testing.assert_close(found.var_x.double(), want.var_x, rtol=1e-5, atol=0)
    assert torch.equal(found.var_y, torch.zeros_like(found.var_y))
    assert torch.equal(found.cov, torch.zeros_like(found.cov))
    assert (found.mean_y == level).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_variances_are_not_negative(backend):
    x, y = pair(1, 1, 40, 40, backend=backend, dtype=torch.float32)
    x[..., :20], y[..., 20:] = 0.3, 1e-3 * y[..., 20:] + 0.9  # far from what is between
    found = windowed_moments(x, y, window=7, sigma=None, backend=backend)
    assert (found.var_x >= 0).all()
    assert (found.var_y >= 0).all()


@pytest.mark.parametrize("backend", KERNELS)
def test_tiles_join_without_a_seam(backend):
    """More rows and columns than a tile has, in values and gradients."""
    x, y = pair(1, 1, 300, 530, backend=backend)
    x.requires_grad_()
    y.requires_grad_()
    results = []
    for chosen in (backend, "torch"):
        found = windowed_moments(x, y, window=9, sigma=2.0, stride=2, padding="same", backend=chosen)
        results.append(
            (*found, *torch.autograd.grad(sum((k + 1) * m.square().sum() for k, m in enumerate(found)), (x, y)))
        )
    torch.testing.assert_close(*results, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("backend", KERNELS)
def test_second_derivatives(backend):
    x, y = (t.requires_grad_() for t in pair(1, 1, 9, 9, backend=backend))
    options = {"window": 5, "sigma": 1.2, "stride": 2, "backend": backend}
    assert torch.autograd.gradgradcheck(lambda *both: windowed_moments(*both, **options), (x, y), fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x: windowed_moments(x, y.detach(), **options).cov, x, fast_mode=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 12}, "needs at least 12 x 12 pixels"),
        ({"window": 4, "padding": "same"}, "odd number of pixels"),
        ({"window": 35}, "from 1 to 33"),
        ({"window": 5, "stride": 0}, "stride must be"),
        ({"window": 5, "sigma": -1.0}, "sigma must be"),
        ({"window": 5, "padding": "zeros"}, "padding must be"),
    ],
)
def test_input_errors(options, message):
    x, y = pair(1, 1, 11, 20)
    with pytest.raises(InputError, match=message):
        windowed_moments(x, y, **{"sigma": None, **options})
    with pytest.raises(InputError, match="equal shape"):
        windowed_moments(x, y[0], window=3, sigma=None)
    with pytest.raises(InputError, match="floating point"):
        windowed_moments(x.byte(), y, window=3, sigma=None)
