"""The module of linear attention against the public one's arithmetic, written out, and its checkpoints."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from iqazoo.errors import InputError
from iqazoo.nets import LinearAttention
from iqazoo.nets.linear_attention import RMSNorm
from iqazoo.ops import available

SHAPES = {  # of a checkpoint of a U-Net with 64 channels at this level
    "mem_kv": (2, 4, 32, 4),
    "norm.g": (1, 64, 1, 1),
    "to_qkv.weight": (384, 64, 1, 1),
    "to_out.0.weight": (64, 128, 1, 1),
    "to_out.0.bias": (64,),
    "to_out.1.g": (1, 64, 1, 1),
}


def checkpoint(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def rms_norm(x, g):
    return x / x.square().sum(1, keepdim=True).sqrt() * g * x.shape[1] ** 0.5


def written_out(x, state):
    """`[B, 64, H, W]`, in the order in which diffusion U-Nets do it."""
    batch, _, height, width = x.shape
    if "norm.g" in state:
        x = rms_norm(x, state["norm.g"])
    q, k, v = F.conv2d(x, state["to_qkv.weight"]).view(batch, 3, 4, 32, height * width).unbind(1)
    if "mem_kv" in state:
        keys, values = (m.expand(batch, -1, -1, -1) for m in state["mem_kv"])
        k, v = torch.cat((keys, k), -1), torch.cat((values, v), -1)
    q, k = q.softmax(-2) * 32**-0.5, k.softmax(-1)
    context = torch.einsum("bhdn,bhen->bhde", k, v)
    out = torch.einsum("bhde,bhdn->bhen", context, q).reshape(batch, 128, height, width)
    out = F.conv2d(out, state["to_out.0.weight"], state["to_out.0.bias"])
    return rms_norm(out, state["to_out.1.g"]) if "to_out.1.g" in state else out


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_a_checkpoint_loads_and_computes_the_same(backend):
    state = checkpoint()
    module = LinearAttention(64, backend=backend)
    assert {name: tuple(p.shape) for name, p in module.state_dict().items()} == SHAPES
    module.load_state_dict(state)
    x = torch.randn(2, 64, 13, 9).requires_grad_()
    got, want = module(x), written_out(x.double(), {k: v.double() for k, v in state.items()})
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)
    wide = {k: v.double().requires_grad_() for k, v in state.items()}
    again = x.detach().double().requires_grad_()
    weights = torch.linspace(-1, 1, got.numel()).view(got.shape)
    found = torch.autograd.grad(got, [x, *(p for _, p in sorted(module.named_parameters()))], weights)
    expected = torch.autograd.grad(
        written_out(again, wide), [again, *(p for _, p in sorted(wide.items()))], weights.double()
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=2e-5 * b.abs().max().item())


@pytest.mark.parametrize("lacks", ["mem_kv", "norm.g", "to_out.1.g"])
def test_older_checkpoints_load_too(lacks):
    state = checkpoint()
    del state[lacks]
    option = {"mem_kv": {"memory": 0}, "norm.g": {"normalize": False}, "to_out.1.g": {"normalize_output": False}}[lacks]
    module = LinearAttention(64, **option)
    module.load_state_dict(state)
    x = torch.randn(1, 64, 8, 8, dtype=torch.float64)
    wide = {name: value.double() for name, value in state.items()}
    torch.testing.assert_close(module.double()(x), written_out(x, wide))


@pytest.mark.skipif(available()["cpu"] is not None, reason="the CPU kernels are not built")
def test_the_projection_is_not_copied(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "contiguous", lambda x: x if x.is_contiguous() else pytest.fail("copied"))
    module = LinearAttention(32, heads=2, head_channels=16)
    x = torch.randn(2, 32, 16, 16).requires_grad_()
    module(x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("size", [(1, 1), (1, 7)])
def test_small_maps(size):
    module = LinearAttention(32)
    assert module(torch.randn(2, 32, *size)).shape == (2, 32, *size)


def test_it_compiles():
    torch._dynamo.reset()
    module = LinearAttention(32, heads=2, head_channels=16)
    x = torch.randn(1, 32, 8, 8)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), module(x))


def test_input_errors():
    with pytest.raises(InputError, match=r"takes \[B, 32, H, W\]; got \[1, 16, 8, 8\]"):
        LinearAttention(32)(torch.randn(1, 16, 8, 8))
    with pytest.raises(InputError, match="got 32, 0, 32 and 4"):
        LinearAttention(32, heads=0)
    with pytest.raises(InputError, match="memory of at least 0"):
        LinearAttention(32, memory=-1)


def test_the_package_is_imported_without_torch():
    code = "import sys, iqazoo.nets; print('torch' in sys.modules); iqazoo.nets.LinearAttention"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_norm_is_that_of_torch_also_for_positions_without_anything(dtype):
    norm = RMSNorm(8).to(dtype)
    torch.nn.init.uniform_(norm.g)
    x = torch.randn(2, 8, 3, 5, dtype=dtype)
    x[0, :, 0, 0] = 0
    x.requires_grad_()
    wide = x.detach().double().requires_grad_()
    expected = F.normalize(wide, dim=1) * norm.g.double() * 8**0.5
    found = norm(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype))
    (slope,) = torch.autograd.grad(found.sum(), x)
    (wanted,) = torch.autograd.grad(expected.sum(), wide)
    assert not slope.isnan().any()
    torch.testing.assert_close(slope[1], wanted[1].to(dtype), atol=1e-2 if dtype.itemsize < 4 else 1e-5, rtol=1e-2)
