import numpy as np
import pytest
import torch

from iqazoo.errors import InputError
from iqazoo.metrics.tv import TV, tv


def slow(x, norm):
    """Pixel by pixel. x: [C, H, W]."""
    total = 0.0
    for c, i, j in np.ndindex(*x.shape):
        dx = x[c, i, j + 1] - x[c, i, j] if j + 1 < x.shape[2] else 0.0
        dy = x[c, i + 1, j] - x[c, i, j] if i + 1 < x.shape[1] else 0.0
        total += {"isotropic": np.hypot(dx, dy), "l1": abs(dx) + abs(dy)}.get(norm, dx**2 + dy**2)
    return np.sqrt(total) if norm == "l2" else total


@pytest.mark.parametrize("norm", ["isotropic", "l1", "l2", "l2-squared"])
@pytest.mark.parametrize("shape", [(3, 6, 7), (1, 1, 5), (1, 4, 1), (1, 1, 1)])
def test_equals_the_sum_over_pixels(norm, shape):
    images = np.random.default_rng(0).random((2, *shape))
    found = tv(torch.from_numpy(images), norm=norm)
    np.testing.assert_allclose(found.numpy(), [slow(x, norm) for x in images], rtol=1e-12)


@pytest.mark.parametrize("norm", ["isotropic", "l1", "l2", "l2-squared"])
def test_gradcheck(norm):
    image = torch.rand(2, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: tv(x, norm=norm), (image,))
    flat = torch.full((1, 1, 4, 5), 0.5, requires_grad=True)
    assert torch.autograd.grad(tv(flat, norm=norm).sum(), flat)[0].eq(0).all()


def test_options_are_checked():
    with pytest.raises(InputError, match="'isotropic', 'l1'"):
        TV(norm="l3")  # type: ignore[arg-type]
