import json
import math

import pytest
import torch

import iqazoo
from iqazoo import InputError, MetricSpec, PluginError, WeightsError, create, state_dict
from iqazoo.factory import build_network, network_options
from iqazoo.registry import spec


def test_options_reach_the_network():
    image, reference = torch.rand(2, 1, 3, 16, 16)
    assert create("psnr", cap=20.0)(reference, reference).item() == 20
    assert create("ssim", window=5)(image, reference) != create("ssim")(image, reference)


def test_an_unknown_option_names_the_valid_ones():
    with pytest.raises(InputError, match=r"no option 'windw'; its options: window, sigma, padding, channels"):
        create("ssim", windw=7)


def test_options_of_the_spec_are_shown_as_defaults():
    assert network_options(spec("lpips-vgg")) == {"trunk": "vgg"}
    assert network_options(spec("psnr")) == {"data_range": 1.0, "channels": "rgb", "cap": None}


def test_no_weights_means_random_ones_on_request_only():
    torch.manual_seed(0)
    first = create("lpips", weights=None).state_dict()
    torch.manual_seed(0)
    again = create("lpips", weights=None).state_dict()
    other = create("lpips", weights=None).state_dict()
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert any(not torch.equal(first[k], other[k]) for k in first)


def test_default_weights_that_cannot_be_had_are_an_error(monkeypatch):
    monkeypatch.setenv("IQAZOO_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"alexnet-owt-7be5be79\.pth"):
        create("lpips")


def test_a_file_fills_the_network_and_leaves_the_random_state_alone(tmp_path):
    source = create("lpips", weights=None)
    path = tmp_path / "mine.safetensors"
    state_dict.save(path, source.network, metric="lpips", options={"trunk": "alex"})
    state = torch.get_rng_state()
    loaded = create("lpips", weights=path)
    assert torch.equal(state, torch.get_rng_state())
    image, reference = torch.rand(2, 1, 3, 48, 48)
    assert torch.equal(loaded(image, reference), source(image, reference))
    assert torch.equal(create("lpips", weights=str(path), trunk="alex")(image, reference), source(image, reference))


def test_options_saved_with_a_file_are_used_and_checked(tmp_path):
    """So a network trained with other widths loads without repeating them."""
    path = tmp_path / "mine.safetensors"
    vgg = create("lpips", weights=None, trunk="squeeze")
    state_dict.save(path, vgg.network, metric="lpips", options={"trunk": "squeeze"})
    assert len(create("lpips", weights=path).network.trunk.channels) == 7
    with pytest.raises(InputError, match="saved with trunk='squeeze', asked for 'alex'"):
        create("lpips", weights=path, trunk="alex")
    with pytest.raises(WeightsError, match="was saved from 'lpips'"):
        create("lpips-squeeze", weights=path)


def test_a_file_of_a_newer_api_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "mine.safetensors"
    network = create("lpips", weights=None).network
    monkeypatch.setattr(state_dict, "API", 2)
    state_dict.save(path, network, metric="lpips", options={})
    monkeypatch.undo()
    with pytest.raises(WeightsError, match="api 2, this iqazoo has api 1"):
        create("lpips", weights=path)


def test_the_device_is_honoured():
    assert next(create("lpips", weights=None, device="meta").parameters()).device.type == "meta"
    with torch.device("meta"):
        assert next(create("lpips", weights=None).parameters()).device.type == "meta"
    assert next(create("lpips", weights=None).parameters()).device.type == "cpu"


def plain(**fields):
    return MetricSpec(**{"name": "x", "network": torch.nn.Identity, "kind": "FR", "lower_is_better": True, **fields})


def test_a_network_that_cannot_be_imported_is_a_plugin_error():
    for network in ("no_such_package.net:Net", "iqazoo.metric:NoSuchClass"):
        with pytest.raises(PluginError, match=network):
            build_network(plain(network=network), {})


def test_a_network_must_be_a_module():
    with pytest.raises(PluginError, match=r"nn\.Module, got object"):
        build_network(plain(network=object), {})


def test_a_network_that_cannot_be_built_is_a_plugin_error():
    class NeedsTimm(torch.nn.Module):
        def __init__(self, width: int = 3) -> None:
            raise ModuleNotFoundError("No module named 'timm'")

    with pytest.raises(PluginError, match="cannot be built with width=4: ModuleNotFoundError: No module named 'timm'"):
        build_network(plain(network=NeedsTimm), {"width": 4})


def test_set_metrics_are_reserved():
    with pytest.raises(InputError, match="sets of images"):
        build_network(plain(kind="SET"), {})


def test_parameters_without_published_weights_are_never_random_silently(monkeypatch):
    monkeypatch.setattr(iqazoo.registry, "spec", lambda name: plain(network=torch.nn.Conv2d, options=CONV))
    with pytest.raises(WeightsError, match="weights=None"):
        create("x")
    assert create("x", weights=None).spec.name == "x"


CONV = {"in_channels": 1, "out_channels": 1, "kernel_size": 1}


def test_every_core_spec_is_json_like_and_complete():
    for name in ("psnr", "ssim", "ms_ssim", "lpips", "lpips-vgg", "lpips-squeeze"):
        found = spec(name)
        assert found.summary
        assert found.license == "Apache-2.0"
        assert not math.isnan(found.score_range[0])
        json.dumps(dict(found.options))
