"""The losses beside the equations written out, and what the kit asks of every metric."""

import pytest
import torch
from iqazoo_vggloss import FEATURE, STYLE
from iqazoo_vggloss.network import PLACES, FeatureLoss, StyleLoss

import iqazoo
from iqazoo.nets.trunks import vgg16
from iqazoo.testing import parametrize_with_checks


@parametrize_with_checks([STYLE])
def test_it_keeps_its_promises(spec, check):
    check(spec)


@parametrize_with_checks([FEATURE], leave_out=["check_compile", "check_export", "check_large_image"])
def test_so_does_the_other_of_its_family(spec, check):
    check(spec)


def activations(network, image):
    """Every layer of the network's trunk, by name, one after the other and without writing in place."""
    x = (image - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    found = {}
    names = {index: name for name, (index, _, _) in PLACES.items()}
    for index, layer in enumerate(network.trunk.features):
        x = x.relu() if isinstance(layer, torch.nn.ReLU) else layer(x)
        if index in names:
            found[names[index]] = x
    return found


@pytest.mark.parametrize("layers", [("relu2_2",), ("conv2_1", "relu1_1"), ("relu1_2", "conv3_1", "relu3_1")])
@pytest.mark.parametrize("kind", [FeatureLoss, StyleLoss])
def test_the_score_is_that_of_the_equations(kind, layers):
    weights = [0.5, 2.0, 3.0][: len(layers)]
    network = kind(layers, weights).eval()
    image, reference = torch.rand(2, 2, 3, 12, 17)
    x, y = activations(network, image), activations(network, reference)
    expected = torch.zeros(2)
    for name, weight in zip(layers, weights, strict=True):
        size = x[name][0].numel()
        for b in range(2):
            if kind is FeatureLoss:
                expected[b] += weight * ((x[name][b] - y[name][b]) ** 2).sum() / size
            else:
                a, c = (torch.einsum("chw,dhw->cd", f[name][b], f[name][b]) / size for f in (x, y))
                expected[b] += weight * ((a - c) ** 2).sum()
    torch.testing.assert_close(network(image, reference), expected, rtol=1e-4, atol=1e-10)


def test_names_are_those_of_vgg16s_layers():
    layers = vgg16().features
    for name, (index, channels, _) in PLACES.items():
        kind = torch.nn.Conv2d if name.startswith("conv") else torch.nn.ReLU
        assert isinstance(layers[index], kind)
        assert layers[index - name.startswith("relu")].out_channels == channels


@pytest.mark.parametrize(
    "options",
    [
        {"layers": ["relu9_1"]},
        {"layers": []},
        {"layers": ["relu1_1"] * 2},
        {"layer_weights": [1, 2]},
        {"layer_weights": [-1]},
    ],
)
def test_wrong_options_are_refused(options):
    with pytest.raises(iqazoo.InputError, match="layer"):
        FeatureLoss(**options)
