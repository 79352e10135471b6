import numpy as np
import pytest
import torch
import torch.nn.functional as F

import iqazoo
from iqazoo.metrics.iw_ssim import _enlarged, _information, iw_ssim


def slow_information(x, y, parent):
    """Equation 20 at every neighbourhood, one by one. x, y: [H, W]; parent: [H, W] or None."""
    rows, columns = x.shape[0] - 2, x.shape[1] - 2
    blocks = []
    for i, j in np.ndindex(rows, columns):
        above = [] if parent is None else [parent[i + 1, j + 1]]
        blocks.append(np.array([*y[i : i + 3, j : j + 3].ravel(), *above]))
    covariance = np.mean([np.outer(b, b) for b in blocks], axis=0)
    inverse, eigenvalues = np.linalg.inv(covariance), np.linalg.eigvalsh(covariance)
    bits = np.empty((rows, columns))
    for k, (i, j) in enumerate(np.ndindex(rows, columns)):
        a, b = x[i : i + 3, j : j + 3], y[i : i + 3, j : j + 3]
        cov = (a * b).mean() - a.mean() * b.mean()
        gain = cov / b.var()
        distortion = a.var() - gain * cov
        scale = blocks[k] @ inverse @ blocks[k] / len(blocks[k])
        inner = (distortion + (1 + gain**2) * 0.4) * scale * eigenvalues + 0.4 * distortion
        bits[i, j] = np.log2(1 + inner / 0.4**2).sum()
    return bits


@pytest.mark.parametrize("with_parent", [True, False])
def test_information_equals_the_formula(with_parent):
    x, y, parent = 20 * np.random.default_rng(0).standard_normal((3, 24, 19))
    x = 0.7 * y + 0.3 * x
    expected = slow_information(x, y, parent if with_parent else None)
    tensors = [torch.from_numpy(t)[None, None] for t in (x, y)]
    half = torch.from_numpy(parent)[None, None, ::2, ::2] if with_parent else None
    if half is not None:
        expected = slow_information(x, y, _enlarged(half)[0, 0].numpy())
    found = _information(*tensors, half)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_a_parent_is_enlarged_as_by_the_authors():
    """To 4 n - 3 pixels, with a straight border drawn out, and every second one of those."""
    band = torch.rand(1, 1, 9, 12, dtype=torch.float64)
    wide = F.interpolate(band, (33, 45), mode="bilinear", align_corners=False)
    drawn = F.pad(wide, [1] * 4)
    drawn[..., 0, :], drawn[..., -1, :] = (
        2 * drawn[..., 1, :] - drawn[..., 2, :],
        2 * drawn[..., -2, :] - drawn[..., -3, :],
    )
    drawn[..., 0], drawn[..., -1] = 2 * drawn[..., 1] - drawn[..., 2], 2 * drawn[..., -2] - drawn[..., -3]
    torch.testing.assert_close(_enlarged(band), drawn[..., ::2, ::2])


def test_a_busy_place_counts_more_than_a_flat_one():
    generator = torch.Generator().manual_seed(0)
    reference = torch.full((1, 1, 200, 220), 0.5)
    reference[..., 110:] = torch.rand(1, 1, 200, 110, generator=generator)
    noise = 0.1 * torch.randn(1, 1, 200, 220, generator=generator)
    left, right = reference.clone(), reference.clone()
    left[..., :100] += noise[..., :100]
    right[..., 120:] *= 0.5
    ssim = iqazoo.create("ssim")
    assert ssim(left, reference) < ssim(right, reference)
    assert iw_ssim(left, reference) > 0.5
    assert iw_ssim(right, reference) < 1


def test_identical_images_have_a_finite_gradient():
    reference = torch.rand(1, 3, 161, 170)
    reference[..., :80, :] = 0.25
    image = reference.clone().requires_grad_()
    score = iw_ssim(image, reference)
    assert score.item() == pytest.approx(1)
    assert torch.autograd.grad(score.sum(), image)[0].isfinite().all()
