"""Images at the edge of what can be scored: a defined value or an InputError, never a number out of nothing."""

import math

import pytest
import torch

import iqazoo
from iqazoo import registry
from iqazoo.errors import InputError

SPECS = [entry.spec() for entry in registry.entries() if entry.is_core and not entry.spec().trainable]
NAMES = [spec.name for spec in SPECS if not spec.weights]
COMPARING = [spec.name for spec in SPECS if spec.takes_reference]
ROOTS = ("fsimc", "vsi")  # of chrominance's similarity, which have no slope where it passes 0, be it anywhere


def picture(channels, height, width, seed=0):
    """Smooth, with some detail, away from black and white."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 5, 7, generator=generator)
    fine = torch.rand(1, channels, height, width, generator=generator)
    large = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    return 0.1 + 0.7 * large + 0.1 * fine


def create(name):
    """Where only the authors' files would fill it (brisque), random parameters do: edges are the same for them."""
    return iqazoo.create(name, weights=None)


def score(name, *images):
    metric = create(name)
    return metric(*(images if metric.spec.takes_reference else images[:1])).item()


def channels(name):
    return max(registry.spec(name).channels)


def badness(name, value):
    return value if registry.spec(name).lower_is_better else -value


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("name", NAMES)
def test_a_constant_image_has_a_score_and_none_is_better_than_itself(name, level):
    flat = torch.full((1, channels(name), 192, 200), level)
    same = score(name, flat, flat)
    assert not math.isnan(same)
    for other in (1 - flat, (flat - 0.3).abs(), picture(*flat.shape[1:])):
        found = score(name, other, flat)
        assert not math.isnan(found)
        if name in COMPARING:
            assert badness(name, same) <= badness(name, found) + 1e-6
            assert not math.isnan(score(name, flat, other))


@pytest.mark.parametrize("name", COMPARING)
def test_one_pixel_makes_a_difference_and_a_small_one(name):
    reference = picture(channels(name), 192, 200)
    image = reference.clone()
    image[..., 96, 100] = 1 - image[..., 96, 100]
    other = picture(channels(name), 192, 200, seed=1)
    same, near, far = (score(name, x, reference) for x in (reference, image, other))
    assert badness(name, same) < badness(name, near) < badness(name, far)


@pytest.mark.parametrize("shape", [(7, 7), (1, 4096), (4096, 1), (1, 1), (40, 200)])
@pytest.mark.parametrize("name", NAMES)
def test_small_and_narrow_images_have_a_score_or_are_refused(name, shape):
    images = [picture(channels(name), *shape, seed=seed) for seed in (0, 1)]
    least = getattr(create(name).network, "min_size", registry.spec(name).min_size)
    if min(shape) < least:
        with pytest.raises(InputError, match="needs at least"):
            score(name, *images)
        return
    found = score(name, *images)
    assert math.isfinite(found)
    if name in COMPARING:
        assert badness(name, score(name, images[1], images[1])) < badness(name, found)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_number_does_not_become_one(name, value):
    reference = picture(channels(name), 192, 200)
    image = reference.clone()
    image[..., 96, 100] = value
    assert not math.isfinite(score(name, image, reference))
    if name in COMPARING:
        assert not math.isfinite(score(name, reference, image))


@pytest.mark.parametrize("name", [name for name in NAMES if len(registry.spec(name).channels) == 2])
def test_a_gray_image_is_taken(name):
    gray = [picture(1, 192, 200, seed=seed) for seed in (0, 1)]
    assert math.isfinite(score(name, *gray))


@pytest.mark.parametrize("name", COMPARING)
def test_saturated_images_have_a_finite_gradient(name):
    reference = picture(channels(name), 192, 200)
    image = ((reference - 0.5) * 20 + 0.5).clamp(0, 1).requires_grad_()
    found = create(name).loss(image, reference)
    (gradient,) = torch.autograd.grad(found, image)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("height", "width", "level"), [(192, 200, 0.5), (331, 337, 0.3)])
@pytest.mark.parametrize("name", [name for name in COMPARING if name not in ROOTS])
def test_a_flat_image_has_a_gradient_of_bounded_size(name, height, width, level, dtype):
    """Rounding over rounding would be millions."""
    reference = picture(channels(name), height, width).to(dtype)
    image = torch.full_like(reference, level).requires_grad_()
    (gradient,) = torch.autograd.grad(create(name).to(dtype)(image, reference).sum(), image)
    assert gradient.norm() < 500


@pytest.mark.parametrize("name", [name for name in NAMES if registry.spec(name).differentiable])
def test_the_gradient_can_be_differentiated(name):
    metric = create(name).double()
    image, reference = (picture(channels(name), 192, 200, seed).double() for seed in (0, 1))
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def gradient(x, create_graph=False):
        score = metric(x, reference) if metric.spec.takes_reference else metric(x)
        return torch.autograd.grad(score.sum(), x, create_graph=create_graph)[0]

    x = image.clone().requires_grad_()
    (found,) = torch.autograd.grad((gradient(x, create_graph=True) * direction).sum(), x)
    misses = []
    for step in (1e-8, 1e-9):  # fsim's gradient is that of one piece of many, whose borders may lie closer than one
        near = [gradient((image + sign * step * direction).requires_grad_()) for sign in (1, -1)]
        want = (near[0] - near[1]) / (2 * step)
        misses.append(((found - want).norm() / want.norm().clamp(min=1e-30)).item())
    assert min(misses) <= 1e-2
