"""The op above the GPU's kernels, which csrc/shim executes here: what Python passes is what they take."""

import pytest
import torch
from cuda_shim import DTYPES, compiler

from iqazoo.ops import linear_attention_launch
from iqazoo.ops.linear_attention_launch import Inputs, Settings
from iqazoo.ops.linear_attention_ops import fused, fused_packed
from iqazoo.ops.linear_attention_reference import Q_MAPS, reference_linear_attention, scale_of

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C++ compiler with Python's headers")


@pytest.fixture(autouse=True)
def on_the_shim(build, monkeypatch):
    """Send to the shim what would go to a CPU, with what a GPU gets besides."""
    module = build.kernels("ascending").module

    def launch(backend, name, *arguments, dtype):
        sizes = arguments[-9:-3]  # before the map, the scale and whether it is causal
        scratch = torch.full((getattr(module, f"{name}_scratch")(*sizes),), torch.nan)
        addresses = [a.data_ptr() if isinstance(a, torch.Tensor) else a for a in (*arguments, scratch)]
        getattr(module, f"{name}_{DTYPES[dtype]}")(*addresses, 0, 0)

    monkeypatch.setattr(linear_attention_launch, "launch", launch)


def check(outputs, wanted):
    for output, want in zip(outputs, wanted, strict=True):
        torch.testing.assert_close(output, want.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("q_map", Q_MAPS)
def test_three_tensors_of_tokens(q_map, masked):
    torch.manual_seed(3)
    learned = [torch.randn(2, 3, 50, size) for size in (16, 16, 24)] + [torch.randn(3, 4, size) for size in (16, 24)]
    mask = torch.rand(2, 50) < 0.6 if masked else None
    learned = [x.requires_grad_() for x in learned]
    settings = Settings(Q_MAPS.index(q_map), scale_of(None, q_map, 16), False, False)
    out = fused(Inputs(*learned[:3], mask, tuple(learned[3:])), settings)
    incoming = torch.randn_like(out)
    wide = [x.detach().double().requires_grad_() for x in learned]
    k_map = "elu1" if q_map == "elu1" else "softmax"
    want = reference_linear_attention(*wide[:3], q_map=q_map, k_map=k_map, mask=mask, memory=tuple(wide[3:]))
    check([out], [want])
    check(torch.autograd.grad(out, learned, incoming), torch.autograd.grad(want, wide, incoming.double()))


@pytest.mark.parametrize("positions", [0, 1, 128])
def test_one_packed_tensor(positions):
    torch.manual_seed(positions)
    qkv = torch.randn(2, 3 * 2 * 20, positions, requires_grad=True)
    out = fused_packed(qkv, 2, None, (), Settings(0, 0.5, False, True))
    wide = qkv.detach().double().requires_grad_()
    q, k, v = wide.unflatten(1, (3, 2, 20)).unbind(1)
    want = reference_linear_attention(q, k, v, scale=0.5, layout="bhdn").flatten(1, 2)
    check([out], [want])
    check(torch.autograd.grad(out.sum(), qkv), torch.autograd.grad(want.sum(), wide))
