from pathlib import Path

import golden_data
import natural_scenes_oracle as oracle
import numpy as np
import pytest
import torch

import iqazoo
from iqazoo import images, state_dict
from iqazoo.data.distortions import FAMILIES
from iqazoo.errors import InputError, WeightsError
from iqazoo.metrics.niqe import NIQE, block_features, niqe
from iqazoo.metrics.niqe_fit import fit
from iqazoo.testing import pictures

LUMA = np.array([0.299, 0.587, 0.114])


@pytest.fixture(scope="module")
def model():
    network = NIQE()
    return network.mean, network.covariance


def random_model(seed=0):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((36, 36))
    return rng.uniform(0, 2, 36), root @ root.T / 36 + 0.1 * np.eye(36)


@pytest.mark.parametrize("shape", [(1, 200, 230), (3, 97, 200), (3, 100, 101)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-3), (torch.float32, 2e-3)])
def test_equals_the_paper(shape, dtype, tolerance):
    """Up to the authors' table, between whose entries iqazoo interpolates."""
    image = pictures.photographs(*shape)[1].double()
    mean, covariance = random_model()
    plane = 255 * np.tensordot(LUMA if shape[0] == 3 else np.ones(1), image.numpy(), 1)
    found = niqe(image[None].to(dtype), torch.from_numpy(mean), torch.from_numpy(covariance))
    assert found.dtype == dtype
    assert found.item() == pytest.approx(oracle.niqe(plane, mean, covariance), rel=tolerance)


def test_features_equal_the_paper():
    image = pictures.photographs(1, 192, 289)[0].double()
    expected, sharpness = oracle.niqe_blocks(255 * image[0].numpy())
    found = block_features(255 * image[None])
    assert found.features.shape == (1, 6, 36)
    np.testing.assert_allclose(found.features[0], expected, atol=2e-3)
    np.testing.assert_allclose(found.sharpness[0], sharpness, rtol=1e-9)


def test_blocks_may_overlap():
    luma = 255 * pictures.photographs(1, 144, 192)[:1]
    found = block_features(luma, step=48)
    assert found.features.shape == (1, 2 * 3, 36)
    torch.testing.assert_close(found.features[:, [0, 2]], block_features(luma).features, rtol=0.05, atol=0.05)


def test_a_batch_is_scored_image_by_image():
    metric = iqazoo.create("niqe")
    batch = torch.cat([pictures.photographs(3, 200, 200), torch.zeros(1, 3, 200, 200)])
    batch[1, :, :, :100] = 1  # some blocks without contrast
    order = torch.tensor([2, 0, 3, 1])
    scores = metric(batch)
    torch.testing.assert_close(metric(batch[order]), scores[order])
    torch.testing.assert_close(torch.cat([metric(image[None]) for image in batch]), scores)


def test_blocks_without_contrast_do_not_count(model):
    image = pictures.photographs(1, 96, 192)[:1].double()
    more, most = (torch.cat([image, image, torch.ones(1, 1, h, 192)], 2) for h in (96, 192))
    assert block_features(255 * most).flat.tolist() == [[False] * 6 + [True] * 2]  # of those between, a margin counts
    assert niqe(most, *model).item() == pytest.approx(niqe(more, *model).item(), rel=1e-9)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flat_image_has_one_bad_score(level, dtype, model):
    flat = torch.full((1, 3, 200, 210), level, dtype=dtype)
    score = niqe(flat, *model).item()
    assert score == pytest.approx(niqe(torch.zeros(1, 1, 96, 96), *model).item(), rel=1e-5)
    assert score > 2 * niqe(pictures.photographs(3, 200, 210), *model).max().item()


@pytest.mark.parametrize("family", ["gaussian_noise", "gaussian_blur", "jpeg"])
def test_distorting_a_photograph_that_was_held_out_raises_the_score(family):
    skimage = pytest.importorskip("skimage")
    photograph = images.decode(Path(skimage.__file__).parent / "data" / "motorcycle_left.png")
    metric, distort = iqazoo.create("niqe"), FAMILIES[family].distort
    pixels = photograph.permute(1, 2, 0).numpy()
    made = [distort(pixels, severity, np.random.default_rng(0)) for severity in (0.1, 0.3, 0.6, 1.0)]
    batch = torch.stack([photograph, *(torch.from_numpy(m).float().permute(2, 0, 1) for m in made)])
    scores = metric(batch).tolist()
    assert scores == sorted(scores)
    assert scores[-1] > 2 * scores[0]


def test_the_shipped_model_is_what_docs_say(tmp_path):
    """Fitted again to the same photographs, which come with scikit-image and matplotlib."""
    skimage, matplotlib = pytest.importorskip("skimage"), pytest.importorskip("matplotlib")
    home = Path(skimage.__file__).parent / "data"
    names = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "rocket.jpg")
    files = [*(home / name for name in names), Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"]
    fitted = fit(((file.name, images.decode(file)) for file in files), step=24, sharpness=0.5)
    assert (fitted.blocks, fitted.images) == (570, 7)
    for name, value in NIQE().state_dict().items():
        torch.testing.assert_close(fitted.state[name], value, rtol=1e-3, atol=1e-4)


def blocks_of_noise(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return [(f"{i}.png", torch.rand(1, 96, 96, generator=generator)) for i in range(count)]


def test_a_fit_is_mean_and_covariance_of_the_sharp_blocks():
    photographs = blocks_of_noise(40, 0)
    fitted = fit(photographs)
    features = torch.cat([block_features(255 * image[None]).features[0] for _, image in photographs]).numpy()
    assert (fitted.blocks, fitted.images) == (40, 40)
    np.testing.assert_allclose(fitted.state["mean"], features.mean(0))
    np.testing.assert_allclose(fitted.state["covariance"], np.cov(features.T))
    dull = [(name, torch.cat([image, 0.1 + 0.7 * image], 2)) for name, image in photographs]
    assert fit(dull).blocks == 40
    assert fit(dull, sharpness=0.65).blocks == 80


def test_what_cannot_be_fitted_is_refused():
    photographs = blocks_of_noise(36, 0)
    with pytest.raises(InputError, match="got 36 of 36 photographs"):
        fit(photographs)
    with pytest.raises(InputError, match="got 0 of 0"):
        fit([])
    with pytest.raises(InputError, match=r"small.png has 95 x 200"):
        fit([*photographs, ("small.png", torch.rand(3, 95, 200))])
    for step in (0, 3, -2):
        with pytest.raises(InputError, match="step"):
            fit(photographs, step=step)
    with pytest.raises(InputError, match="sharpness"):
        fit(photographs, sharpness=1.0)


def test_the_authors_file_is_loaded(tmp_path):
    io = pytest.importorskip("scipy.io")
    mean, covariance = random_model()
    path = tmp_path / "modelparameters.mat"
    io.savemat(path, {"mu_prisparam": mean[None], "cov_prisparam": covariance})
    image, _ = golden_data.pair("chelsea_noise")
    loaded = iqazoo.create("niqe", weights=path, channels="y-8bit")
    model = torch.from_numpy(mean), torch.from_numpy(covariance)
    assert loaded(image).item() == niqe(image, *model, channels="y-8bit").item()
    io.savemat(path, {"mu_prisparam": mean[None]})
    with pytest.raises(WeightsError, match=r"no variable cov_prisparam.*modelparameters.mat"):
        iqazoo.create("niqe", weights=path)
    io.savemat(path, {"mu_prisparam": mean[None, :30], "cov_prisparam": covariance})
    with pytest.raises(WeightsError, match="size mismatch"):
        iqazoo.create("niqe", weights=path)
    path.write_text("no MATLAB")
    with pytest.raises(WeightsError, match="cannot be read as a published file of niqe"):
        iqazoo.create("niqe", weights=path)


def test_without_scipy_what_to_install_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    with pytest.raises(WeightsError, match=r"iqazoo\[mat\]"):
        iqazoo.create("niqe", weights=tmp_path / "modelparameters.mat")


def test_another_fit_is_loaded_and_knows_its_luma(tmp_path):
    network = NIQE(channels="y-8bit")
    network.mean += 1
    state_dict.save(tmp_path / "own.safetensors", network, metric="niqe", options={"channels": "y-8bit"})
    loaded = iqazoo.create("niqe", weights=tmp_path / "own.safetensors").network
    assert loaded.channels == "y-8bit"
    assert torch.equal(loaded.mean, network.mean)


def test_options_are_checked():
    with pytest.raises(InputError, match="channels"):
        NIQE(channels="rgb")
