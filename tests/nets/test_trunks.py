import pytest
import torch

from iqazoo.nets.trunks import TRUNKS

LAYERS = {
    "alex": {"features.0": (64, 3, 11, 11), "features.10": (256, 256, 3, 3)},
    "vgg": {"features.0": (64, 3, 3, 3), "features.28": (512, 512, 3, 3)},
    "squeeze": {"features.0": (64, 3, 3, 3), "features.12.expand3x3": (256, 64, 3, 3)},
}
# torchvision's files hold this many weights and biases below "features.".
PARAMETERS = {"alex": 10, "vgg": 26, "squeeze": 50}


@pytest.mark.parametrize("name", TRUNKS)
def test_parameters_bear_torchvisions_names(name):
    state = TRUNKS[name]().state_dict()
    assert len(state) == PARAMETERS[name]
    for layer, shape in LAYERS[name].items():
        assert state[f"{layer}.weight"].shape == shape
        assert state[f"{layer}.bias"].shape == shape[:1]


@pytest.mark.parametrize("name", TRUNKS)
def test_taps_have_the_declared_channels_and_are_rectified(name):
    trunk = TRUNKS[name]()
    tapped = trunk(torch.randn(2, 3, 64, 48))
    assert tuple(t.shape[1] for t in tapped) == trunk.channels
    assert all(t.ge(0).all() for t in tapped)
    assert all(len(t) == 2 for t in tapped)


@pytest.mark.parametrize("name", TRUNKS)
def test_large_images_are_computed_with_the_channels_last_and_come_out_the_same(name):
    trunk = TRUNKS[name]()
    pixels = max(trunk.last_from, trunk.batch_from)
    image = torch.randn(1, 3, max(pixels // 64, 48), 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tapped, small = trunk(image), trunk(image[:, :, :48, :48])
        trunk.last_from = image.numel()
        usual = trunk(image)
    for found, wanted in zip(tapped, usual, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert wanted.is_contiguous()
    assert small[0].is_contiguous() == (pixels > 0)
