import math

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
    side = max(math.isqrt(trunk.last_from), 48)
    image = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tapped = trunk(image)
        trunk.last_from = side * side + 1
        usual = trunk.to(memory_format=torch.contiguous_format)(image)
    for found, wanted in zip(tapped, usual, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert wanted.is_contiguous()


@pytest.mark.parametrize("name", ["vgg", "squeeze"])
def test_weights_lie_as_they_are_taken_also_once_filled(name):
    trunk, other = TRUNKS[name](), TRUNKS[name]()
    filled = {key: value.contiguous() for key, value in other.state_dict().items()}
    trunk.load_state_dict(filled)
    for key, weight in trunk.named_parameters():
        assert torch.equal(weight, filled[key])
        assert weight.ndim == 1 or weight.is_contiguous(memory_format=torch.channels_last)
