"""Image and reference get one field of noise, which nothing but its seed decides on."""

import math
from itertools import pairwise

import pytest
import torch
from iqazoo_unet import UNET_TIME
from iqazoo_unet.network import UNet
from iqazoo_unet.noise import STEPS, TILE, Noise, signal

import iqazoo


def create(**options):
    torch.manual_seed(3)
    return iqazoo.create(UNET_TIME.name, weights=None, **options)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 3, 40, 48, generator=generator)


def test_less_and_less_of_the_image_is_left():
    shares = [signal(t) for t in range(STEPS)]
    assert 0.9999 < shares[0] < 1
    assert all(a > b for a, b in pairwise(shares))
    assert 0 <= shares[-1] < 1e-6
    assert signal(499) == pytest.approx(
        math.cos(0.508 / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    )


def test_the_noise_has_variance_one_minus_the_signals():
    x = torch.full((1, 3, TILE, TILE), 0.5)
    noised = Noise(0)(x, 400)
    share = signal(400)
    assert noised.mean().item() == pytest.approx(0.5 * math.sqrt(share), abs=0.02)
    assert noised.var().item() == pytest.approx(1 - share, rel=0.03)


def test_the_noise_of_a_place_is_the_same_in_every_size_and_batch():
    noise = Noise(5)
    small, large = noise(torch.zeros(1, 3, 20, 30), 100), noise(torch.zeros(4, 3, 300, 150), 100)
    assert torch.equal(large, large[:1].expand_as(large))
    assert torch.equal(large[:1, :, :20, :30], small)
    assert torch.equal(large[..., TILE : 2 * TILE, :], large[..., :TILE, :])
    assert not torch.equal(noise(torch.zeros(1, 3, 20, 30), 100), Noise(6)(torch.zeros(1, 3, 20, 30), 100))


def test_scores_depend_on_no_other_random_number(pair):
    metric = create()
    torch.manual_seed(10)
    first = metric(*pair)
    torch.manual_seed(11)
    assert torch.equal(metric(*pair), first)
    torch.testing.assert_close(metric(*pair.flip(1)).flip(0), first)
    torch.testing.assert_close(torch.cat([metric(a[None], b[None]) for a, b in zip(*pair, strict=True)]), first)


def test_the_seed_is_an_option(pair):
    assert not torch.allclose(create()(*pair), create(seed=1)(*pair), rtol=1e-4)


def test_the_field_is_neither_saved_nor_left_behind():
    network = UNet(with_time_emb=True)
    assert not any("noise" in name for name in network.state_dict())
    assert network.double().noise.field.dtype == torch.float64


def test_a_step_may_be_given_to_a_call(pair):
    with torch.no_grad():
        early, late = (create(t=t).network for t in (10, 600))
        given = early(*pair, t=600)
        torch.testing.assert_close(given, late(*pair))
        assert not torch.allclose(given, early(*pair), rtol=1e-2)
        torch.testing.assert_close(early.distance(early.features(pair[0], 600), early.features(pair[1], 600)), given)


def test_much_noise_hides_what_little_noise_shows(pair):
    image = (pair[1] + 0.02 * torch.randn(pair[1].shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    assert (create(t=900)(image, pair[1]) < create(t=0)(image, pair[1])).all()


@pytest.mark.parametrize("t", [-1, STEPS, 1.5, True])
def test_what_is_no_step_is_refused(t):
    with pytest.raises(iqazoo.InputError, match="t must be a whole number from 0"):
        create(t=t)


def test_without_an_embedding_there_is_no_step():
    with pytest.raises(iqazoo.InputError, match="take with_time_emb=True"):
        UNet(t=5)
    with pytest.raises(iqazoo.InputError, match="take with_time_emb=True"):
        UNet().features(torch.rand(1, 3, 16, 16), t=5)
