import math

import golden_data
import natural_scenes_oracle as oracle
import numpy as np
import pytest
import torch

import iqazoo
from iqazoo.errors import InputError
from iqazoo.metrics.natural_scenes import FLAT, ROUNDING
from iqazoo.metrics.piqe import PIQE, piqe
from iqazoo.testing import pictures

LUMA = np.array([0.299, 0.587, 0.114])
PAD = {"symmetric": "symmetric", "replicate": "edge"}  # as numpy calls them


def deviation(values):
    """The sample's: divided by one less than there are."""
    values = np.asarray(values).ravel()
    return math.sqrt(((values - values.mean()) ** 2).sum() / (len(values) - 1))


def is_distorted(block):
    for edge in (block[0], block[15], block[:, 0], block[:, 15]):
        for first in range(11):
            if deviation(edge[first : first + 6]) < 0.1:
                return True
    return False


def is_noise(block, outside=(7, 8)):
    centre = [block[i, j] for i in range(16) for j in (7, 8)]
    surround = [block[i, j] for i in range(16) for j in range(16) if j not in outside]
    whole, ratio = deviation(block), deviation(centre) / deviation(surround)
    return whole > 2 * abs(whole - ratio) / max(whole, ratio)


def filled(plane, border="symmetric"):
    return np.pad(plane, [(0, -size % 16) for size in plane.shape], mode=PAD[border])


def judged(wide, outside=(7, 8)):
    """The variance and both verdicts of each active block among the whole ones of `[H, W]` in [0, 255]."""
    values, deviations = oracle.contrast(wide, "nearest")
    values[(np.abs(values) <= ROUNDING) & (deviations <= FLAT)] = 0
    for top in range(0, wide.shape[0] // 16 * 16, 16):
        for left in range(0, wide.shape[1] // 16 * 16, 16):
            block = values[top : top + 16, left : left + 16]
            variance = deviation(block) ** 2
            if variance > 0.1:
                yield variance, is_distorted(block), is_noise(block, outside)


def slow(wide, outside=(7, 8)):
    total = active = 0
    for variance, distorted, noise in judged(wide, outside):
        active, variance = active + 1, min(variance, 1)
        total += (1 - variance if distorted else 0) + (variance if noise else 0)
    return 100 * (total + 1) / (active + 1)


def levels(image, rounded=False):
    """`[C, H, W]` in [0, 1] -> luma `[H, W]` in [0, 255]."""
    plane = 255 * np.tensordot(LUMA if len(image) == 3 else np.ones(1), image.double().numpy(), 1)
    return plane.round(3).round() if rounded else plane  # halves as they are, not as errors have them


def some_blocks(channels, height, width, seed=0):
    """Blocks of noise and of nothing, bands of stripes, and what is faint, side by side: every verdict is found."""
    rng = np.random.default_rng(seed)
    rows, columns = -(-height // 16), -(-width // 16)
    strength = rng.choice([0, 0.002, 0.02, 0.1, 0.3], (1, rows, columns)).repeat(16, 1).repeat(16, 2)
    smooth = rng.uniform(size=(channels, rows, columns)).repeat(16, 1).repeat(16, 2)
    noise = rng.standard_normal(smooth.shape) * np.where(np.arange(smooth.shape[1]) % 5 < 3, 1, 0.1)[:, None]
    return torch.from_numpy((0.2 + 0.6 * smooth + strength * noise).clip(0, 1)[:, :height, :width])


@pytest.mark.parametrize("border", ["symmetric", "replicate"])
@pytest.mark.parametrize("shape", [(1, 64, 96), (3, 70, 89), (1, 33, 130), (1, 16, 16), (3, 5, 40)])
def test_equals_the_paper(shape, border):
    image = some_blocks(*shape)
    found = piqe(image[None], border=border)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(slow(filled(levels(image), border)), rel=1e-9)


def test_every_verdict_is_found():
    """Else the test above would not see a mistake in one of them."""
    verdicts = [verdict for _, *verdict in judged(levels(some_blocks(1, 160, 160)))]
    assert len(verdicts) < 100
    for verdict in ([False, False], [False, True], [True, False], [True, True]):
        assert verdicts.count(verdict) >= 3


@pytest.mark.parametrize("channels", ["y", "y-8bit"])
@pytest.mark.parametrize("name", golden_data.NAMES)
def test_equals_the_paper_of_photographs(name, channels):
    image = golden_data.pair(name)[0].double()
    expected = slow(filled(levels(image[0], rounded=channels == "y-8bit")))
    assert piqe(image, channels=channels).item() == pytest.approx(expected, rel=1e-9)
    # A block so near to a threshold that float32 decides otherwise would show.
    assert piqe(image.float(), channels=channels).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", golden_data.NAMES)
def test_what_differs_from_pyiqa(name):
    """With the three things that docs/agreement.md names, the oracle has pyiqa's values."""
    plane = levels(golden_data.pair(name)[0][0])
    stretched = (255 * plane / plane.max()).round()
    wide = np.pad(stretched, [(0, size % 16) for size in plane.shape], mode="symmetric")  # by the rest, not up to 16
    assert slow(wide, outside=(7, 9)) == pytest.approx(golden_data.value("pyiqa-0.1.16:piqe", name), rel=1e-4)


def test_distorted_photographs_are_worse():
    clean = pictures.photographs(3, 192, 192)
    for family in ("gaussian_noise", "gaussian_blur", "jpeg"):
        scores = [piqe(clean).mean()]
        scores += [piqe(pictures.distorted(family, severity, 3, 192, 192)).mean() for severity in (0.4, 1.0)]
        assert scores[0] < scores[1] - 5, family
        assert scores[0] < scores[2] - 5, family


def test_a_cut_photograph_has_about_the_same_score():
    """What fills the last blocks must not look distorted."""
    image = golden_data.pair("coffee_same")[0]
    whole, cut = piqe(image), piqe(image[..., :-9, :-9])
    assert abs(whole - cut) < 3
    assert piqe(image[..., :-9, :-9], border="replicate") > whole + 5


@pytest.mark.parametrize("border", ["symmetric", "replicate"])
def test_images_of_no_contrast_have_100(border):
    flat = torch.full((1, 3, 50, 40), 0.3)
    faint = flat + 1e-4 * torch.rand(1, 3, 50, 40)
    assert piqe(torch.cat([flat, faint]), border=border).tolist() == [100, 100]
    assert piqe(torch.rand(1, 1, 1, 1), border=border).item() == 100


def test_a_variance_above_1_does_not_leave_the_range():
    """That of a checkerboard of one block in gray, all of it noise."""
    image = torch.full((1, 1, 48, 48), 0.5, dtype=torch.float64)
    image[..., 16:32, 16:32] = torch.arange(16).add(torch.arange(16)[:, None]) % 2
    ((variance, distorted, noise),) = judged(levels(image[0]))
    assert (variance > 1.1, distorted, noise) == (True, False, True)
    assert piqe(image).item() == 100


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("corner", [0, -1])
def test_images_of_a_batch_do_not_meet(value, corner):
    images = torch.stack([some_blocks(3, 50, 67, seed) for seed in range(3)])
    images[1, 2, corner, corner] = value
    found = piqe(images)
    assert found.isnan().tolist() == [False, True, False]
    for i in (0, 2):
        assert found[i] == piqe(images[i : i + 1])[0]


def test_options_are_checked_and_passed_on():
    image = golden_data.pair("astronaut_contrast")[0]
    options = {"channels": "y-8bit", "border": "replicate"}
    assert iqazoo.create("piqe", **options)(image) == piqe(image, **options)
    assert len({piqe(image, **{key: options[key]}).item() for key in options} | {piqe(image).item()}) == 3
    with pytest.raises(InputError, match="channels"):
        PIQE(channels="rgb")
    with pytest.raises(InputError, match="'symmetric', 'replicate'"):
        PIQE(border="reflect")  # type: ignore[arg-type]
