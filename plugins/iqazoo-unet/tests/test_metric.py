"""What the metrics promise, checked by iqazoo's kit, and what makes them a good plugin."""

import subprocess
import sys

import pytest
import torch
from iqazoo_unet import UNET, UNET_TIME
from iqazoo_unet.network import UNet

import iqazoo
from iqazoo.metric import Metric
from iqazoo.state_dict import save
from iqazoo.testing import parametrize_with_checks

# Both metrics are one network, and these checks take longest.
ONCE = ("check_compile", "check_large_image")


@parametrize_with_checks([UNET])
def test_unet_keeps_its_promises(spec, check):
    check(spec)


@parametrize_with_checks([UNET_TIME], leave_out=ONCE)
def test_unet_time_keeps_its_promises(spec, check):
    check(spec)


def test_they_are_installed():
    assert {"unet", "unet-time"} <= set(iqazoo.list_metrics("FR"))


def test_listing_them_imports_no_torch():
    code = "import sys, iqazoo_unet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim must be 1 or more; got 0"),
        ({"dim": 12}, "dim must be a multiple of groups; got dim=12, groups=8"),
        ({"dim": 2, "groups": 1}, "dim must be even and 4 or more"),
        ({"dim_mults": ()}, "dim_mults must be one or more"),
        ({"dim_mults": (1, 0)}, "dim_mults must be one or more"),
        ({"heads": 0}, "heads must be 1 or more"),
        ({"block_norm": "batch"}, "block_norm must be 'group' or 'rms'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(iqazoo.InputError, match=message):
        iqazoo.create("unet", weights=None, **options)


def test_a_file_knows_the_sizes_of_its_network(tmp_path):
    options = {"dim": 8, "dim_mults": (1, 3), "heads": 1, "dim_head": 32}
    made = iqazoo.create("unet-time", weights=None, t=70, **options)
    save(tmp_path / "made.safetensors", made.network, metric="unet-time", options={**options, "t": 70})
    loaded = iqazoo.create("unet-time", weights=tmp_path / "made.safetensors")
    image, reference = torch.rand(2, 2, 3, 32, 32)
    assert loaded.network.t == 70
    assert torch.equal(loaded(image, reference), made(image, reference))


def test_only_one_of_them_has_a_time_embedding():
    assert not any("mlp" in name for name, _ in UNet().named_parameters())
    assert any("trunk.time_mlp.1" in name for name, _ in UNet(with_time_emb=True).named_parameters())


@pytest.mark.parametrize("spec", [UNET, UNET_TIME], ids=lambda spec: spec.name)
def test_channel_means_hold_all_that_the_heads_need(spec):
    network = iqazoo.create(spec.name, weights=None).network
    with torch.no_grad():
        for weight in network.heads:
            weight.uniform_(0, 1)
        image, reference = (network.features(x) for x in torch.rand(2, 2, 3, 32, 40))
        means = network.channel_means(image, reference)
        torch.testing.assert_close(network.combine(means), network.distance(image, reference))
    assert means.shape == (2, sum(network.trunk.channels))


def test_a_larger_difference_is_never_a_smaller_distance():
    network = UNet()
    with torch.no_grad():
        for weight in network.heads:
            weight.uniform_(-1, 1)
        network.constrain_()
    assert all((weight >= 0).all() and (weight > 0).any() for weight in network.heads)
    scores = Metric(UNET, network)(*torch.rand(2, 4, 3, 32, 32))
    assert (scores > 0).all()
