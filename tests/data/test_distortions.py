"""Families of distortion: what they change, and that more is more."""

import io
import itertools

import numpy as np
import pytest
from photographs import make_photographs
from PIL import Image

from iqazoo.data.distortions import FAMILIES, from_picture, to_picture

SEVERITIES = [level / 8 for level in range(1, 9)]
LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    """`[80, 80, 3]` patches of photographs, with edges and colours."""
    folder = make_photographs(tmp_path_factory.mktemp("photographs"))
    found = []
    for name, y, x in (("astronaut", 60, 180), ("chelsea", 90, 130), ("coffee", 150, 200), ("rocket", 60, 300)):
        pixels = from_picture(Image.open(folder / f"{name}.png"))
        found.append(pixels[y : y + 80, x : x + 80])
    return found


def apply(name, patch, severity, seed=0):
    return FAMILIES[name].distort(patch, severity, np.random.default_rng(seed))


def test_there_are_at_least_twelve():
    assert len(FAMILIES) >= 12
    assert len({family.subset for family in FAMILIES.values()}) >= 5


@pytest.mark.parametrize("name", FAMILIES)
def test_shape_and_type_stay_and_the_input_too(name, patches):
    for patch in patches:
        before = patch.copy()
        result = apply(name, patch[:71], 1.0)
        assert result.shape == (71, 80, 3)
        assert result.dtype == np.float32
        assert np.isfinite(result).all()
        assert np.array_equal(patch, before)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_larger_severity_is_further_away(name, patches):
    """In the mean over places and draws, each of the eight levels is further from the picture than the one before."""
    distances = [
        np.mean(
            [
                np.square(apply(name, patch, severity, seed).clip(0, 1) - patch).mean()
                for patch in patches
                for seed in range(6)
            ]
        )
        for severity in SEVERITIES
    ]
    assert distances[0] > 1e-6
    assert all(b > a for a, b in itertools.pairwise(distances)), distances


@pytest.mark.parametrize("name", FAMILIES)
def test_the_same_draw_gives_the_same(name, patches):
    assert np.array_equal(apply(name, patches[0], 0.5, 3), apply(name, patches[0], 0.5, 3))


def test_some_families_by_their_definition(patches):
    patch = patches[0]
    gray = apply("desaturation", patch, 1.0)
    np.testing.assert_allclose(gray, (patch @ LUMA)[..., None].repeat(3, 2), atol=1e-6)
    shifted = apply("tint", patch, 1.0) - patch
    assert np.allclose(shifted.mean(2), 0, atol=1e-6)
    assert np.linalg.norm(shifted[0, 0]) == pytest.approx(0.25, rel=1e-3)
    turned = apply("hue_rotation", patch, 1.0)
    np.testing.assert_allclose(turned.mean(2), patch.mean(2), atol=1e-6)  # the gray axis stays
    np.testing.assert_allclose(np.square(turned).sum(2), np.square(patch).sum(2), rtol=1e-4)  # lengths too
    assert set(np.unique(apply("banding", patch, 1.0))) == {0.0, 0.5, 1.0}
    file = io.BytesIO()
    to_picture(patch).save(file, "JPEG", quality=4)
    assert np.array_equal(apply("jpeg", patch, 1.0), from_picture(Image.open(file)))
    noise = apply("gaussian_noise", patch, 0.5) - patch
    assert noise.std() == pytest.approx(0.09, rel=0.02)
    hit = (apply("impulse_noise", patch, 1.0) != patch).any(2)
    assert hit.mean() == pytest.approx(0.15, abs=0.02)
    contrast = apply("contrast_loss", patch, 1.0).std((0, 1)) / patch.std((0, 1))
    np.testing.assert_allclose(contrast, 0.2, rtol=1e-3)


def test_what_moves_pixels_moves_them_by_what_it_says():
    """A bright dot shows where it went."""
    dot = np.zeros((81, 81, 3), np.float32)
    dot[40, 40] = 1
    fringes = apply("colour_fringes", dot, 1.0, 5)
    places = [centre_of_mass(fringes[..., channel]) for channel in range(3)]
    np.testing.assert_allclose(places[1], 40)
    for channel in (0, 2):
        assert np.hypot(*(places[channel] - 40)) == pytest.approx(5, abs=1e-3)
    np.testing.assert_allclose(places[0] + places[2], 80, atol=1e-3)
    spread = apply("motion_blur", dot, 1.0, 5)[..., 0]
    rows, columns = np.nonzero(spread > 1e-6)
    assert max(np.ptp(rows), np.ptp(columns)) in range(9, 14)
    assert spread.sum() == pytest.approx(1, abs=1e-3)
    ghost = apply("ghost", dot, 1.0, 5)[..., 0]
    assert ghost[40, 40] == pytest.approx(0.5)
    assert ghost.sum() == pytest.approx(1, abs=1e-3)


def centre_of_mass(plane):
    grid = np.indices(plane.shape)
    return (grid * plane).sum((1, 2)) / plane.sum()
