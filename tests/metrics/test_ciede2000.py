import golden_data
import numpy as np
import pytest
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from iqazoo.metrics.ciede2000 import ciede2000, ciede2000_map, difference

# Pairs 1, 4, 7, 10, 14, 17, 19, 23, 25, 28, 31 and 34 of Sharma et al.'s table 1.
PUBLISHED = [
    ((50.0, 2.6772, -79.7751), (50.0, 0.0, -82.7485), 2.0425),
    ((50.0, -1.3802, -84.2814), (50.0, 0.0, -82.7485), 1.0000),
    ((50.0, 0.0, 0.0), (50.0, -1.0, 2.0), 2.3669),
    ((50.0, 2.4900, -0.0010), (50.0, -2.4900, 0.0010), 7.1792),
    ((50.0, -0.0010, 2.4900), (50.0, 0.0010, -2.4900), 4.8045),
    ((50.0, 2.5, 0.0), (73.0, 25.0, -18.0), 27.1492),
    ((50.0, 2.5, 0.0), (56.0, -27.0, -3.0), 31.9030),
    ((50.0, 2.5, 0.0), (50.0, 3.2592, 0.3350), 1.0000),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((61.2901, 3.7196, -5.3901), (61.4292, 2.2480, -4.9620), 1.8731),
    ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


def lab(colour):
    return torch.tensor(colour, dtype=torch.float64).view(1, 3, 1, 1)


@pytest.mark.parametrize(("first", "second", "expected"), PUBLISHED)
def test_equals_the_published_pairs(first, second, expected):
    assert difference(lab(first), lab(second)).item() == pytest.approx(expected, abs=5e-5)


def test_equals_scikit_image_for_random_colours():
    rng = np.random.default_rng(0)
    first, second = rng.uniform((0, -80, -80), (100, 80, 80), (2, 4000, 3))
    found = difference(*(torch.from_numpy(x.T[None, :, :, None].copy()) for x in (first, second)))
    np.testing.assert_allclose(found.flatten().numpy(), deltaE_ciede2000(first, second), rtol=1e-7)


@pytest.mark.parametrize("name", [name for name in golden_data.NAMES if "gray" not in name])
def test_equals_scikit_image_for_photographs(name):
    image, reference = (t.double() for t in golden_data.pair(name))
    labs = (rgb2lab(t[0].permute(1, 2, 0).numpy()) for t in (reference, image))
    expected = torch.from_numpy(deltaE_ciede2000(*labs))
    torch.testing.assert_close(ciede2000_map(image, reference)[0, 0], expected, rtol=1e-4, atol=1e-4)
    assert ciede2000(image, reference).item() == pytest.approx(expected.mean().item(), rel=1e-6, abs=1e-9)
    assert ciede2000(image.float(), reference.float()).item() == pytest.approx(expected.mean().item(), rel=1e-5)


def test_a_gradient_in_float32_is_that_in_float64():
    """Grays, equal and opposite colours: where a formula of angles has none."""
    rng = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 24, 24, generator=rng)
    reference = 1 - image
    image[..., :4], reference[..., 4:8] = 0.5, 0.25
    reference[..., 8:12] = image[..., 8:12]
    grads = []
    for dtype in (torch.float32, torch.float64):
        leaf = image.to(dtype).requires_grad_()
        grads.append(torch.autograd.grad(ciede2000(leaf, reference.to(dtype)).sum(), leaf)[0].double())
    assert grads[1].isfinite().all()
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-3 * grads[1].abs().max().item())
