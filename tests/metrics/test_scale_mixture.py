import pytest
import torch

from iqazoo.metrics.scale_mixture import multiplier


def covariance(least, dtype):
    """One eigenvalue is `least` times the others, `[1, 9, 9]`."""
    rotation, _ = torch.linalg.qr(torch.randn(9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    values = torch.full((9,), 100.0, dtype=torch.float64)
    values[0] *= least
    return (rotation * values @ rotation.T).to(dtype)[None]


@pytest.mark.parametrize("least", [0.0, -1e-6, -1e-5, -1e-4])
def test_rounding_below_zero_has_an_inverse(least):
    """Sums over large images leave a least eigenvalue that is negative by more than a share of float32's precision."""
    vectors = torch.randn(1, 9, 50, generator=torch.Generator().manual_seed(1), requires_grad=True)
    found = multiplier(vectors, covariance(least, torch.float32))
    (gradient,) = torch.autograd.grad(found.sum(), vectors)
    assert found.isfinite().all()
    assert gradient.isfinite().all()


def test_a_good_covariance_is_inverted_as_it_is():
    vectors = torch.randn(1, 9, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    given = covariance(0.1, torch.float64)
    expected = ((torch.linalg.inv(given) @ vectors) * vectors).sum(1) / 9
    torch.testing.assert_close(multiplier(vectors, given), expected, rtol=1e-6, atol=0)
