"""What fsim, vsi, sr_sim, mdsi, haarpsi and vifp must hold beside the golden values of test_agreement."""

import math

import golden_data
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import iqazoo
from iqazoo.errors import InputError
from iqazoo.metrics import vsi as vsi_module
from iqazoo.metrics.haarpsi import haarpsi
from iqazoo.metrics.mdsi import mdsi
from iqazoo.metrics.phase_congruency import frequencies, phase_congruency
from iqazoo.metrics.resizing import resize
from iqazoo.metrics.vifp import VIFP, vifp

NAMES = ["fsim", "sr_sim", "vsi", "mdsi", "haarpsi", "vifp"]


def pair(name="astronaut_jpeg", side=None):
    return [t.double()[..., :side, :side] for t in golden_data.pair(name)]


@pytest.mark.parametrize("name", NAMES)
def test_gray_scores_as_the_same_picture_in_rgb(name):
    gray = pair("coins_gray_noise")
    wide = [t.expand(-1, 3, -1, -1) for t in gray]
    metric = iqazoo.create(name)
    if name == "haarpsi":  # chrominance, which is equal in grays, counts for RGB alone
        assert metric(*wide) > metric(*gray)
    else:
        torch.testing.assert_close(metric(*gray), metric(*wide), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("vifp", "mdsi")])
def test_both_images_play_one_part(name):
    image, reference = pair()
    metric = iqazoo.create(name)
    torch.testing.assert_close(metric(image, reference), metric(reference, image))


@pytest.mark.parametrize("name", ["fsim", "fsimc", "sr_sim", "vsi", "mdsi"])
def test_a_large_image_is_shrunk_first(name):
    """Of a picture enlarged by repeating its pixels, the blocks average to the picture."""
    small = [F.interpolate(t, (256, 288)) for t in pair()]
    large = [t.repeat_interleave(2, 2).repeat_interleave(2, 3) for t in small]
    metric = iqazoo.create(name)
    tolerance = 2e-2 if name == "vsi" else 1e-9  # which looks for saliency before
    torch.testing.assert_close(metric(*large), metric(*small), rtol=tolerance, atol=0)


def test_phase_congruency_does_not_see_contrast():
    luma = 255 * pair()[1].mean(1, keepdim=True)
    found = phase_congruency(luma)
    assert (found >= 0).all()
    assert (found <= 1).all()
    assert found.max() > 0.3
    torch.testing.assert_close(phase_congruency(0.5 * luma + 40), found, rtol=1e-3, atol=1e-4)
    assert phase_congruency(torch.full((1, 1, 32, 40), 77.7)).abs().max() < 1e-3


def test_an_edge_is_where_phases_agree():
    luma = torch.zeros(1, 1, 64, 400, dtype=torch.float64)
    luma[..., 100:300] = 200
    found = phase_congruency(luma)[0, 0, 32]
    assert set(found.topk(4).indices.tolist()) == {99, 100, 299, 300}
    assert found[150] < 0.8 * found[100]


def test_frequencies_begin_with_zero_and_reach_one_half():
    np.testing.assert_allclose(frequencies(8), np.fft.fftfreq(8))
    assert frequencies(9)[0] == 0
    assert frequencies(9).max() == 0.5


def test_resizing_keeps_straight_lines_and_mirrors_the_border():
    ramp = torch.arange(40.0, dtype=torch.float64).expand(1, 1, 12, 40)
    half = resize(ramp, (6, 20), (0.5, 0.5))
    torch.testing.assert_close(half[0, 0, 0, 4:-4], ramp[0, 0, 0, ::2][4:-4] + 0.5)
    flat = torch.full((1, 1, 9, 7), 0.3, dtype=torch.float64)
    torch.testing.assert_close(resize(flat, (31, 20)), flat[:, :, :1, :1].expand(1, 1, 31, 20))
    image = torch.rand(1, 1, 64, 80, dtype=torch.float64)
    expected = F.interpolate(image, (16, 20), mode="bicubic", antialias=True)
    found = resize(image, (16, 20), (0.25, 0.25))
    torch.testing.assert_close(found[..., 3:-3, 3:-3], expected[..., 3:-3, 3:-3], rtol=1e-6, atol=1e-6)
    mirrored = torch.cat([image.flip(3), image, image.flip(3)], 3)
    torch.testing.assert_close(resize(mirrored, (16, 60), (0.25, 0.25))[..., 20:40], found)


def test_saliency_is_stretched_and_sees_warm_colours():
    image = torch.full((1, 3, 64, 96), 0.5, dtype=torch.float64)
    assert vsi_module.saliency(image).abs().max() < 1e-6
    image[:, 0, 28:36, 44:52] = 1  # red in the middle
    found = vsi_module.saliency(image)
    assert found.shape == (1, 1, 64, 96)
    assert (found.min().item(), found.max().item()) == (0, pytest.approx(1))
    row, column = divmod(found.flatten().argmax().item(), 96)
    assert 26 <= row <= 38
    assert 42 <= column <= 54


def complex_mdsi(similarity):
    """Equation 10 in complex numbers."""
    roots = similarity.astype(complex) ** 0.25
    return np.abs(roots - roots.mean()).mean() ** 0.25


def test_mdsi_takes_the_complex_root(monkeypatch):
    similarity = np.random.default_rng(0).uniform(-0.5, 1, (1, 1, 20, 30))
    monkeypatch.setattr("iqazoo.metrics.mdsi._similarity", lambda *images: torch.from_numpy(similarity))
    image = torch.rand(1, 3, 20, 30, dtype=torch.float64)
    assert mdsi(image, image).item() == pytest.approx(complex_mdsi(similarity), rel=1e-10)


def test_haarpsi_equals_its_equations():
    x, y = (255 * t[0, 0].numpy() for t in pair("coins_gray_noise", 40))

    def coefficients(plane, side, across):
        kernel = np.outer(np.repeat([1, -1], side // 2), np.ones(side)) / side
        kernel = kernel if across else kernel.T
        wide = np.pad(plane, (side // 2 - 1, side // 2))
        windows = np.lib.stride_tricks.sliding_window_view(wide, (side, side))
        return np.abs((windows * kernel).sum((2, 3)))

    top, bottom = 0.0, 0.0
    for across in (True, False):
        (a1, b1), (a2, b2), (a3, b3) = ([coefficients(t, side, across) for t in (x, y)] for side in (2, 4, 8))
        similar = sum((2 * a * b + 30) / (a**2 + b**2 + 30) for a, b in ((a1, b1), (a2, b2))) / 2
        weight = np.maximum(a3, b3)
        top, bottom = top + (weight / (1 + np.exp(-4.2 * similar))).sum(), bottom + weight.sum()
    expected = (np.log(top / bottom / (1 - top / bottom)) / 4.2) ** 2
    found = haarpsi(*pair("coins_gray_noise", 40), downsample=False).item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_vifp_knows_enhanced_contrast_and_lost_detail():
    image, reference = pair("coffee_blur")
    assert vifp(reference, reference).item() == pytest.approx(1)
    assert vifp(image, reference).item() < 0.6
    enhanced = reference.mean() + 1.3 * (reference - reference.mean())
    assert vifp(enhanced, reference).item() > 1.05


def test_vifp_of_a_flat_reference():
    flat, noisy = torch.full((1, 1, 48, 48), 0.5), torch.rand(1, 1, 48, 48)
    assert vifp(flat, flat).item() == pytest.approx(1)
    assert 0 < vifp(noisy, flat).item() < 0.5
    assert vifp(flat, noisy).item() == pytest.approx(0, abs=1e-6)


def test_vifp_takes_what_is_flat_but_for_rounding_as_flat():
    noise = torch.rand(1, 1, 64, 80, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    reference = torch.full_like(noise, 0.9)
    reference[..., :32, :40] = noise[..., :32, :40]
    expected = vifp(noise, reference)
    nearly = (reference + 1e-7 * noise).requires_grad_()
    found = vifp(noise, nearly)
    (gradient,) = torch.autograd.grad(found.sum(), nearly)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert gradient.norm() < 10
    flat = 0.9 + 1e-7 * noise
    assert vifp(flat, flat).item() == pytest.approx(1)


@pytest.mark.parametrize("options", [{"noise": 0}, {"noise": math.nan}, {"channels": "lab"}])
def test_options_of_vifp_are_checked(options):
    with pytest.raises(InputError, match="got"):
        VIFP(**options)
