import math

import golden_data
import natural_scenes_oracle as oracle
import numpy as np
import pytest
import torch

import iqazoo
from iqazoo import state_dict
from iqazoo.errors import InputError, WeightsError
from iqazoo.metrics.brisque import BRISQUE, brisque_features
from iqazoo.testing import pictures

LUMA = np.array([0.299, 0.587, 0.114])
RHO, GAMMA = -12.5, 0.05


def vectors(count=7, seed=0):
    """Support vectors with some zeros, and their coefficients."""
    rng = np.random.default_rng(seed)
    found = rng.uniform(-1, 1, (count, 36)).round(6)
    found[rng.random(found.shape) < 0.1] = 0
    return found, rng.uniform(-100, 100, count).round(4)


def ranges(seed=1):
    """Least and greatest of each feature."""
    low = np.random.default_rng(seed).uniform(-1, 1, 36).round(6)
    return low, low + np.arange(1, 37) / 10


def write_files(folder, type="epsilon_svr", count=7):
    """A model and ranges as libsvm 3 writes them."""
    found, coefficients = vectors(count)
    head = f"svm_type {type}\nkernel_type rbf\ngamma {GAMMA}\nnr_class 2\ntotal_sv {count}\nrho {RHO}\nprobA 6.1\nSV\n"
    rows = [
        f"{c} " + " ".join(f"{i}:{v:g}" for i, v in enumerate(row, 1) if v) + " \n"
        for c, row in zip(coefficients, found, strict=True)
    ]
    (folder / "allmodel").write_text(head + "".join(rows))
    lines = [f"{i} {low} {high}\n" for i, (low, high) in enumerate(np.transpose(ranges()).tolist(), 1)]
    (folder / "allrange").write_text("x\n-1 1\n" + "".join(lines))
    return folder / "allmodel"


def slow_regression(features):
    """What svm-scale and svm-predict make of features."""
    found, coefficients = vectors()
    low, high = ranges()
    scaled = -1 + 2 * (features - low) / (high - low)
    total = -RHO
    for c, row in zip(coefficients, found, strict=True):
        total += c * math.exp(-GAMMA * sum((a - b) ** 2 for a, b in zip(row, scaled, strict=True)))
    return total


@pytest.mark.parametrize("shape", [(1, 60, 71), (3, 53, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_equal_the_paper(shape, dtype):
    image = pictures.photographs(*shape)[1].double()
    plane = 255 * np.tensordot(LUMA if shape[0] == 3 else np.ones(1), image.numpy(), 1)
    expected = oracle.brisque_features(plane)
    found = brisque_features(image[None].to(dtype))
    assert found.shape == (1, 36)
    # The authors' table has steps of 0.001, between which iqazoo interpolates.
    np.testing.assert_allclose(found[0], expected, atol=6e-4, rtol=1e-4)
    if dtype == torch.float64:
        nearest = brisque_features(image[None], fit="nearest")[0]
        np.testing.assert_allclose(nearest, expected, rtol=1e-9)
        assert not np.allclose(found[0], expected, rtol=1e-9)


def test_the_nearest_shape_has_the_gradient_of_the_interpolated():
    image = pictures.photographs(1, 40, 50)[:1].double().requires_grad_()
    for feature in (0, 2):
        smooth, nearest = (
            torch.autograd.grad(brisque_features(image, fit=fit)[0, feature], image)[0]
            for fit in ("interpolated", "nearest")
        )
        torch.testing.assert_close(nearest, smooth)
        assert smooth.abs().max() > 0


def test_features_of_a_flat_image_are_the_least_shape_and_zeros():
    # The border is black: one of black alone is flat to its end.
    found = brisque_features(torch.zeros(2, 3, 40, 50))
    own, product = [0.2, 0], [0.2, 0, 0, 0]
    torch.testing.assert_close(found, torch.tensor(2 * (own + 4 * product)).double().expand(2, -1))


def test_the_authors_files_are_loaded(tmp_path):
    metric = iqazoo.create("brisque", weights=write_files(tmp_path))
    assert metric.network.support_vectors.shape == (7, 36)
    for name in ("chelsea_noise", "coins_gray_noise"):
        image, reference = golden_data.pair(name)
        for picture in (image, reference):
            expected = slow_regression(brisque_features(picture)[0].numpy())
            assert metric(picture).item() == pytest.approx(expected, abs=1e-3)
            assert metric.double()(picture.double()).item() == pytest.approx(expected, abs=2e-3)
            metric.float()
    order = torch.tensor([2, 0, 1])
    batch = pictures.photographs(3, 70, 80)
    torch.testing.assert_close(metric(batch[order]), metric(batch)[order])


def test_what_was_loaded_can_be_saved(tmp_path):
    metric = iqazoo.create("brisque", weights=write_files(tmp_path, type="nu_svr"))
    state_dict.save(tmp_path / "own.safetensors", metric.network, metric="brisque", options={"vectors": 7})
    again = iqazoo.create("brisque", weights=tmp_path / "own.safetensors")
    image, _ = golden_data.pair("coffee_blur")
    assert again(image).item() == metric(image).item()
    with pytest.raises(InputError, match="vectors=7"):
        iqazoo.create("brisque", weights=tmp_path / "own.safetensors", vectors=8)
    with pytest.raises(InputError, match="vectors=7"):
        iqazoo.create("brisque", weights=tmp_path / "allmodel", vectors=8)


def test_without_files_what_to_get_is_said():
    with pytest.raises(WeightsError, match=r"allmodel, with allrange beside it.*BRISQUE_release"):
        iqazoo.create("brisque")
    assert iqazoo.create("brisque", weights=None)(pictures.photographs(3, 32, 32)).isfinite().all()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("allmodel", "epsilon_svr", "c_svc", "got c_svc with rbf"),
        ("allmodel", "rbf", "linear", "got epsilon_svr with linear"),
        ("allmodel", "total_sv 7", "total_sv 8", "has 8 support vectors, and has 7"),
        ("allmodel", "SV\n", "", "no model of libsvm"),
        ("allmodel", "36:", "37:", "feature number 37"),
        ("allmodel", "gamma 0.05\n", "", "gamma"),
        ("allrange", "x\n", "", "no ranges of svm-scale"),
        ("allrange", "\n36 ", "\n0 ", "feature number 0"),
    ],
)
def test_damaged_files_are_refused(tmp_path, file, old, new, message):
    path = write_files(tmp_path)
    damaged = tmp_path / file
    text = damaged.read_text()
    assert old in text
    damaged.write_text(text.replace(old, new))
    with pytest.raises(WeightsError, match=message):
        iqazoo.create("brisque", weights=path)


def test_missing_files_are_named(tmp_path):
    path = write_files(tmp_path)
    (tmp_path / "allrange").unlink()
    with pytest.raises(WeightsError, match="allrange"):
        iqazoo.create("brisque", weights=path)
    path.unlink()
    with pytest.raises(WeightsError, match="allmodel"):
        iqazoo.create("brisque", weights=path)


def test_ranges_of_targets_and_empty_ranges_are_passed_over(tmp_path):
    path = write_files(tmp_path)
    plain = iqazoo.create("brisque", weights=path).network
    file = tmp_path / "allrange"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(["y", "0 1", "0 100", *lines[:-2], "35 2 2", ""]))
    found = iqazoo.create("brisque", weights=path).network
    assert torch.equal(found.factor[:34], plain.factor[:34])
    assert found.factor[34:].tolist() == found.offset[34:].tolist() == [0, 0]


def test_options_are_checked():
    with pytest.raises(InputError, match="channels"):
        BRISQUE(channels="rgb")
    with pytest.raises(InputError, match="'interpolated', 'nearest'"):
        BRISQUE(fit="smooth")
    with pytest.raises(InputError, match="vectors"):
        BRISQUE(vectors=0)
