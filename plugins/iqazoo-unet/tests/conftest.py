"""A checkpoint such as denoising-diffusion-pytorch writes, made without this plugin's code."""

import pytest
import torch

DIM, MULTS, HEADS, DIM_HEAD = 8, (1, 2), 2, 16
SIZES = {"dim": DIM, "dim_mults": MULTS, "heads": HEADS, "dim_head": DIM_HEAD, "stride": 1}


def convolution(name, out, channels, side, bias=True):
    yield f"{name}.weight", (out, channels, side, side)
    if bias:
        yield f"{name}.bias", (out,)


def block(name, channels, time):
    for part in ("block1", "block2"):
        yield from convolution(f"{name}.{part}.proj", channels, channels, 3)
        yield f"{name}.{part}.norm.weight", (channels,)
        yield f"{name}.{part}.norm.bias", (channels,)
    if time:
        yield f"{name}.mlp.1.weight", (2 * channels, 4 * DIM)
        yield f"{name}.mlp.1.bias", (2 * channels,)


def attention(name, channels, full):
    hidden = HEADS * DIM_HEAD
    yield f"{name}.norm.g", (1, channels, 1, 1)
    yield f"{name}.mem_kv", (2, HEADS, 4, DIM_HEAD) if full else (2, HEADS, DIM_HEAD, 4)
    yield from convolution(f"{name}.to_qkv", 3 * hidden, channels, 1, bias=False)
    yield from convolution(f"{name}.to_out" if full else f"{name}.to_out.0", channels, hidden, 1)
    if not full:
        yield f"{name}.to_out.1.g", (1, channels, 1, 1)


def encoder(time):
    yield from convolution("init_conv", DIM, 3, 7)
    if time:
        yield from [("time_mlp.1.weight", (4 * DIM, DIM)), ("time_mlp.1.bias", (4 * DIM,))]
        yield from [("time_mlp.3.weight", (4 * DIM, 4 * DIM)), ("time_mlp.3.bias", (4 * DIM,))]
    for level, (channels, wider) in enumerate(((DIM, DIM), (DIM, 2 * DIM))):
        last = level == 1
        yield from block(f"downs.{level}.0", channels, time)
        yield from block(f"downs.{level}.1", channels, time)
        yield from attention(f"downs.{level}.2", channels, full=last)
        place, *sizes = ("3", wider, channels, 3) if last else ("3.1", wider, 4 * channels, 1)
        yield from convolution(f"downs.{level}.{place}", *sizes)
    yield from block("mid_block1", 2 * DIM, time)
    yield from attention("mid_attn", 2 * DIM, full=True)
    yield from block("mid_block2", 2 * DIM, time)


def decoder():
    """Some of it; nobody reads it."""
    yield from block("ups.0.0", 3 * DIM, True)
    yield from block("final_res_block", 2 * DIM, True)
    yield from convolution("final_conv", 3, DIM, 1)


@pytest.fixture
def sizes():
    """The options of a network that the checkpoint fits."""
    return SIZES


@pytest.fixture
def make_unet():
    """A function that gives the U-Net's state dict, `{name: tensor}`, with random values that are not those of init."""

    def make(time=False, seed=7):
        generator = torch.Generator().manual_seed(seed)
        names = [*encoder(time), *decoder()]
        return {name: torch.randn(shape, generator=generator) / shape[-1] ** 0.5 for name, shape in names}

    return make
