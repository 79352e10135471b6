"""Encoders come out of checkpoints of several shapes, and what does not fit is named."""

import pytest
import torch
from iqazoo_unet.checkpoint import load_encoder
from iqazoo_unet.network import UNet
from safetensors.torch import save_file

from iqazoo import InputError, WeightsError
from iqazoo.state_dict import save


def prefixed(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def diffusion(state):
    """The U-Net with the constants of the diffusion around it."""
    return {"betas": torch.zeros(1000), "alphas_cumprod": torch.zeros(1000), **prefixed("model.", state)}


def holds(network, state):
    trunk = network.trunk.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in trunk.items())


@pytest.mark.parametrize("time", [False, True])
def test_the_unet_alone(time, make_unet, sizes, tmp_path):
    state = make_unet(time)
    save_file(state, tmp_path / "unet.safetensors")
    network = UNet(**sizes, with_time_emb=time)
    heads = [weight.clone() for weight in network.heads]
    load_encoder(network, tmp_path / "unet.safetensors")
    assert holds(network, state)
    assert all(map(torch.equal, heads, network.heads))


@pytest.mark.parametrize("wrap", [diffusion, lambda s: {"model": diffusion(s)}, lambda s: prefixed("module.", s)])
def test_what_is_before_the_names_is_found(wrap, make_unet, sizes, tmp_path):
    state = make_unet()
    torch.save(wrap(state), tmp_path / "model.pt")
    network = UNet(**sizes)
    load_encoder(network, tmp_path / "model.pt")
    assert holds(network, state)


def training_run(newest, average):
    ema = {"initted": torch.tensor(True), "step": torch.tensor(9)}
    ema |= prefixed("online_model.", diffusion(newest)) | prefixed("ema_model.", diffusion(average))
    optimizer = {"state": {0: {"step": torch.tensor(9.0)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}
    return {"step": 9, "model": diffusion(newest), "opt": optimizer, "ema": ema, "scaler": None, "version": "2.2"}


def test_of_a_training_run_the_moving_average_is_taken(make_unet, sizes, tmp_path):
    newest, average = make_unet(seed=1), make_unet(seed=2)
    torch.save(training_run(newest, average), tmp_path / "model-9.pt")
    network = UNet(**sizes)
    load_encoder(network, tmp_path / "model-9.pt")
    assert holds(network, average)
    load_encoder(network, tmp_path / "model-9.pt", prefix="model.model.")
    assert holds(network, newest)


def test_of_two_unets_one_is_to_be_chosen(make_unet, sizes, tmp_path):
    torch.save({"a": make_unet(seed=1), "b": make_unet(seed=2)}, tmp_path / "two.pt")
    with pytest.raises(InputError, match=r"choose one by prefix=, of 'a\.', 'b\.'"):
        load_encoder(UNet(**sizes), tmp_path / "two.pt")


def test_all_that_does_not_fit_is_named_and_nothing_changed(make_unet, sizes, tmp_path):
    state = make_unet(time=True)
    del state["mid_attn.mem_kv"]
    state["downs.0.0.block1.proj.weight"] = torch.zeros(8, 8, 1, 1)
    torch.save(state, tmp_path / "unet.pt")
    network = UNet(**sizes)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_encoder(network, tmp_path / "unet.pt")
    for part in (
        "Missing in the file: mid_attn.mem_kv\n",
        "Not in the encoder: time_mlp.1.weight, ",
        "downs.0.0.block1.proj.weight [8, 8, 1, 1] instead of [8, 8, 3, 3]",
        "take with_time_emb=True",
        "dim, dim_mults, heads and dim_head",
    ):
        assert part in str(caught.value)
    assert "ups." not in str(caught.value)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_another_norm_is_told(make_unet, sizes, tmp_path):
    save(tmp_path / "unet.safetensors", UNet(**sizes, block_norm="rms").trunk, metric="any", options={})
    with pytest.raises(WeightsError, match=r'take block_norm="rms" for norm\.g'):
        load_encoder(UNet(**sizes), tmp_path / "unet.safetensors")
    network = UNet(**sizes, block_norm="rms")
    load_encoder(network, tmp_path / "unet.safetensors")
    assert network.features(torch.rand(1, 3, 16, 16))[-1].isfinite().all()


def test_files_without_a_unet(sizes, tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pt")
    (tmp_path / "broken.pt").write_bytes(b"no checkpoint")
    torch.save({"run": print}, tmp_path / "code.pt")
    for name, message in (
        ("other.pt", "holds no U-Net: expected a parameter 'init_conv.weight', found weight"),
        ("broken.pt", "is damaged"),
        ("code.pt", "never run"),
        ("absent.pt", "cannot be read"),
    ):
        with pytest.raises(WeightsError, match=message):
            load_encoder(UNet(**sizes), tmp_path / name)
