"""The encoder computes what its names stand for: held to a second one in plain functions, without modules."""

import math

import pytest
import torch
import torch.nn.functional as F
from iqazoo_unet.checkpoint import load_encoder
from iqazoo_unet.encoder import padded
from iqazoo_unet.network import UNet

HEADS = 2


def convolve(w, name, x, padding=0):
    return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), padding=padding)


def rms(x, g):
    return x / x.square().mean(1, keepdim=True).sqrt() * g


def block(w, name, x, time):
    h = x
    for part in ("block1", "block2"):
        h = F.group_norm(
            convolve(w, f"{name}.{part}.proj", h, 1), 8, w[f"{name}.{part}.norm.weight"], w[f"{name}.{part}.norm.bias"]
        )
        if part == "block1" and time is not None:
            both = F.linear(F.silu(time), w[f"{name}.mlp.1.weight"], w[f"{name}.mlp.1.bias"])
            scale, shift = both.chunk(2)
            h = h * (scale.view(-1, 1, 1) + 1) + shift.view(-1, 1, 1)
        h = F.silu(h)
    return x + h


def attention(w, name, x, full):
    batch, _, height, width = x.shape
    qkv = convolve(w, f"{name}.to_qkv", rms(x, w[f"{name}.norm.g"])).view(batch, 3, HEADS, -1, height * width)
    q, k, v = qkv.unbind(1)  # [B, heads, D, N]
    memory = w[f"{name}.mem_kv"].mT if full else w[f"{name}.mem_kv"]  # [2, heads, D, M]
    k, v = (torch.cat([m.expand(batch, -1, -1, -1), x], -1) for m, x in zip(memory, (k, v), strict=True))
    scale = q.shape[2] ** -0.5
    if full:
        weights = torch.einsum("bhdn,bhdm->bhnm", q * scale, k).softmax(-1)
        out = torch.einsum("bhnm,bhem->bhen", weights, v)
        return x + convolve(w, f"{name}.to_out", out.reshape(batch, -1, height, width))
    context = torch.einsum("bhdm,bhem->bhde", k.softmax(-1), v)
    out = torch.einsum("bhde,bhdn->bhen", context, q.softmax(2) * scale).reshape(batch, -1, height, width)
    return x + rms(convolve(w, f"{name}.to_out.0", out), w[f"{name}.to_out.1.g"])


def embedding(w, t):
    angles = [t * 10000 ** (-i / 3) for i in range(4)]  # dim / 2 of them
    x = torch.tensor([*map(math.sin, angles), *map(math.cos, angles)], dtype=torch.float64)
    x = F.gelu(F.linear(x, w["time_mlp.1.weight"], w["time_mlp.1.bias"]))
    return F.linear(x, w["time_mlp.3.weight"], w["time_mlp.3.bias"])


def encode(w, x, t=None):
    time = None if t is None else embedding(w, t)
    x = convolve(w, "init_conv", x, 3)
    found = [x]
    for level, full in enumerate((False, True)):
        x = block(w, f"downs.{level}.1", block(w, f"downs.{level}.0", x, time), time)
        x = attention(w, f"downs.{level}.2", x, full)
        found.append(x)
        if full:
            x = convolve(w, f"downs.{level}.3", x, 1)
        else:  # four neighbours become channels, in the order of rows
            four = torch.stack([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 2).flatten(1, 2)
            x = convolve(w, f"downs.{level}.3.1", four)
    x = attention(w, "mid_attn", block(w, "mid_block1", x, time), full=True)
    return [*found, block(w, "mid_block2", x, time)]


@pytest.mark.parametrize("time", [False, True])
def test_the_features_are_those_of_the_published_arithmetic(time, make_unet, sizes, tmp_path):
    state = {name: tensor.double() for name, tensor in make_unet(time).items()}
    torch.save(state, tmp_path / "unet.pt")
    network = UNet(**sizes, with_time_emb=time).double()
    load_encoder(network, tmp_path / "unet.pt")
    x = torch.randn(2, 3, 16, 12, dtype=torch.float64)
    with torch.no_grad():
        expected = encode(state, x, 321.0 if time else None)
        found = network.trunk(x, torch.tensor([321.0], dtype=torch.float64) if time else None)
    assert [f.shape for f in found] == [f.shape for f in expected]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("stride", "mults", "multiple"), [(2, (1, 2, 4), 8), (1, (1, 2), 2), (1, (2,), 1)])
def test_a_level_halves_the_size_and_borders_are_repeated(stride, mults, multiple):
    network = UNet(dim=8, dim_mults=mults, stride=stride)
    image = torch.rand(1, 3, 21, 30)
    rows, columns = (-(-n // multiple) * multiple for n in (21, 30))
    extended = F.pad(image, (0, columns - 30, 0, rows - 21), mode="replicate")
    with torch.no_grad():
        torch.testing.assert_close(network.features(image), network.features(extended))
        shapes = [f.shape[1:] for f in network.features(image)]
    levels = [(rows // stride >> i, columns // stride >> i) for i in range(len(mults))]
    channels = [8, 8, *(8 * m for m in mults)]
    assert shapes == [(c, *size) for c, size in zip(channels, [levels[0], *levels, levels[-1]], strict=True)]


def test_what_needs_no_padding_is_not_copied():
    x = torch.rand(1, 3, 16, 8)
    assert padded(x, 2, 8) is x
    assert padded(x, 3, 16).shape == (1, 3, 16, 16)


def test_the_time_changes_what_every_level_sees(make_unet, sizes, tmp_path):
    torch.save(make_unet(True), tmp_path / "unet.pt")
    network = UNet(**sizes, with_time_emb=True)
    load_encoder(network, tmp_path / "unet.pt")
    x = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        early, late = network.trunk(x, torch.tensor([3.0])), network.trunk(x, torch.tensor([700.0]))
    assert torch.equal(early[0], late[0])  # before the first block there is no time
    assert all((a - b).abs().mean() > 1e-2 for a, b in zip(early[1:], late[1:], strict=True))
