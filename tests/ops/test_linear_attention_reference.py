"""The reference of linear attention against sums over one position at a time, and what the op refuses."""

import math

import pytest
import torch
import torch.nn.functional as F

from iqazoo.errors import InputError
from iqazoo.ops import linear_attention, linear_attention_packed
from iqazoo.ops.linear_attention_reference import elu1, reference_linear_attention

ELU1 = {"q_map": "elu1", "k_map": "elu1"}
MAPS = [{}, {"q_map": "scale"}, {"scale": 0.7}, {"q_map": "scale", "scale": -2.0}, ELU1, ELU1 | {"causal": True}]


def tensors(batch=2, heads=3, positions=5, features=4, width=6, columns=2, dtype=torch.float64, seed=0):
    """q, k, v, mask and memory in the layout bhnd."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    q, k = normal(2, batch, heads, positions, features)
    mask = torch.rand(batch, positions, generator=generator) < 0.7
    memory = normal(heads, columns, features), normal(heads, columns, width)
    return q, k, normal(batch, heads, positions, width), mask, memory


def one_head(q, k, v, seen, q_map, k_map, scale=None):
    """`seen[n]` are the rows of k and v that position n sees: the definition, element by element."""
    positions, features = q.shape
    scale = features**-0.5 if scale is None else scale
    out = torch.zeros(positions, v.shape[1], dtype=q.dtype)
    for n in range(positions):
        keys, values = k[seen[n]], v[seen[n]]
        if k_map == "elu1":
            phi = F.elu(q[n]) + 1
            weights = (F.elu(keys) + 1) @ phi  # one for each row
            out[n] = (weights[:, None] * values).sum(0) / (weights.sum() + 1e-6)
            continue
        mapped = scale * (q[n].exp() / q[n].exp().sum() if q_map == "softmax" else q[n])
        for d in range(features):
            share = keys[:, d].exp() / keys[:, d].exp().sum()
            out[n] += mapped[d] * (share[:, None] * values).sum(0)
    return out


def definition(q, k, v, *, mask=None, memory=None, causal=False, **options):
    batch, heads, positions, _ = q.shape
    memory = memory or (k[0, :, :0], v[0, :, :0])
    columns = memory[0].shape[1]
    out = torch.zeros_like(v)
    for b in range(batch):
        kept = [n for n in range(positions) if mask is None or mask[b, n]]
        seen = [
            [*range(columns), *(columns + m for m in kept if m <= n or not causal)] for n in range(positions)
        ]  # fmt: skip
        for h in range(heads):
            keys, values = torch.cat((memory[0][h], k[b, h])), torch.cat((memory[1][h], v[b, h]))
            out[b, h] = one_head(q[b, h], keys, values, seen, **{"q_map": "softmax", "k_map": "softmax"} | options)
    return out


@pytest.mark.parametrize("with_memory", [False, True])
@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("options", MAPS, ids=str)
def test_it_is_the_definition(options, with_mask, with_memory):
    q, k, v, mask, memory = tensors()
    more = {"mask": mask if with_mask else None, "memory": memory if with_memory else None}
    got = reference_linear_attention(q, k, v, **options, **more)
    torch.testing.assert_close(got, definition(q, k, v, **({"q_map": "softmax", "k_map": "softmax"} | options), **more))


def test_causal_chunks_are_one_sum(monkeypatch):
    q, k, v, mask, memory = tensors(positions=300)
    options = {"mask": mask, "memory": memory, "causal": True, **ELU1}
    got = reference_linear_attention(q, k, v, **options)
    monkeypatch.setattr("iqazoo.ops.linear_attention_reference.CAUSAL_CHUNK", 1000)
    torch.testing.assert_close(got, reference_linear_attention(q, k, v, **options))
    alone = reference_linear_attention(q[:, :, :7], k[:, :, :7], v[:, :, :7], **options | {"mask": mask[:, :7]})
    torch.testing.assert_close(got[:, :, :7], alone)


@pytest.mark.parametrize("options", MAPS, ids=str)
def test_the_layouts_differ_by_a_transpose(options):
    q, k, v, mask, memory = tensors()
    want = reference_linear_attention(q, k, v, mask=mask, memory=memory, **options)
    turned = tuple(m.mT for m in memory)
    got = reference_linear_attention(q.mT, k.mT, v.mT, mask=mask, memory=turned, layout="bhdn", **options)
    assert torch.equal(got, want.mT)


@pytest.mark.parametrize("options", MAPS, ids=str)
def test_packed_is_the_same_of_one_tensor(options):
    q, k, v, mask, memory = tensors(width=4)
    memory = tuple(m.mT for m in memory)
    packed = torch.cat([t.mT.flatten(1, 2) for t in (q, k, v)], 1)  # [B, 3 H D, N]
    got = linear_attention_packed(packed, heads=3, mask=mask, memory=memory, backend="torch", **options)
    want = reference_linear_attention(q.mT, k.mT, v.mT, mask=mask, memory=memory, layout="bhdn", **options)
    torch.testing.assert_close(got, want.flatten(1, 2))


@pytest.mark.parametrize("options", MAPS, ids=str)
def test_what_a_mask_hides_has_no_effect(options):
    q, k, v, mask, memory = tensors()
    want = reference_linear_attention(q, k, v, mask=mask, memory=memory, **options)
    hidden = ~mask[:, None, :, None]
    for value in (math.nan, math.inf):
        got = reference_linear_attention(
            q, k.masked_fill(hidden, value), v.masked_fill(hidden, value), mask=mask, memory=memory, **options
        )
        assert torch.equal(got, want)


def test_a_head_without_keys():
    q, k, v, mask, _ = tensors()
    none = torch.zeros_like(mask)
    assert reference_linear_attention(q, k, v, mask=none).isnan().all()
    assert reference_linear_attention(q, k, v, mask=none, **ELU1).eq(0).all()
    k[0, 1, :, 2] = -math.inf
    found = reference_linear_attention(q, k, v).isnan().flatten(2).all(-1)
    assert found.tolist() == [[False, True, False], [False, False, False]]


def test_elu1_keeps_small_values():
    x = torch.tensor([-80.0, -20.0, 0.0, 3.0], requires_grad=True)
    torch.testing.assert_close(elu1(x).double(), torch.tensor([-80.0, -20, 0, math.log(4)]).double().exp())
    (slope,) = torch.autograd.grad(elu1(x).sum(), x)
    torch.testing.assert_close(slope, torch.tensor([-80.0, -20, 0, 0]).exp())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype):
    q, k, v, mask, memory = tensors(positions=2000, dtype=dtype)
    got = linear_attention(q, k, v, mask=mask, memory=memory)
    wide = [t.float() for t in (q, k, v)]
    want = reference_linear_attention(*wide, mask=mask, memory=tuple(m.float() for m in memory))
    assert got.dtype == dtype
    assert torch.equal(got, want.to(dtype))


def test_gradients_of_the_reference():
    q, k, v, mask, memory = tensors(batch=1, heads=2, positions=4, features=3, width=2)
    leaves = [t.requires_grad_() for t in (q, k, v, *memory)]
    for options in MAPS:

        def run(q, k, v, keys, values, options=options):
            return reference_linear_attention(q, k, v, mask=mask[:1], memory=(keys, values), **options)

        assert torch.autograd.gradcheck(run, leaves)


X = torch.zeros(2, 3, 5, 16)
WRONG = {
    "q_map": ([X, X, X], {"q_map": "relu"}, "q_map is one of softmax, scale, elu1"),
    "k_map": ([X, X, X], {"k_map": "scale"}, "k_map of softmax, elu1"),
    "elu1 q alone": ([X, X, X], {"q_map": "elu1"}, '"elu1" pairs only with "elu1"'),
    "elu1 k alone": ([X, X, X], {"k_map": "elu1"}, '"elu1" pairs only with "elu1"'),
    "elu1 scaled": ([X, X, X], ELU1 | {"scale": 1.0}, "leave scale=None"),
    "causal softmax": ([X, X, X], {"causal": True}, "cannot be causal"),
    "layout": ([X, X, X], {"layout": "bnhd"}, "layout must be one of 'bhnd', 'bhdn'"),
    "three dimensions": ([X[0], X[0], X[0]], {}, r"\[B, H, N, D\] for q and k"),
    "other keys": ([X, X[:, :, :4], X], {}, r"got \[2, 3, 5, 16\] and \[2, 3, 4, 16\]"),
    "other heads": ([X, X, X[:, :2]], {}, r"\[B, H, N, E\] for v"),
    "other positions": ([X, X, X[:, :, :4]], {}, r"\[B, H, N, E\] for v"),
    "positions last": ([X, X, X[..., :15]], {"layout": "bhdn"}, r"\[B, H, E, N\] for v"),
    "no features": ([X[..., :0], X[..., :0], X], {}, "D and E not 0"),
    "whole numbers": ([X.long(), X.long(), X.long()], {}, "of one dtype"),
    "two dtypes": ([X, X.double(), X], {}, "of one dtype.*float32, torch.float64"),
    "two devices": ([X, X, X.to("meta")], {}, "on one device, got cpu, cpu, meta"),
    "mask of floats": ([X, X, X], {"mask": torch.ones(2, 5)}, r"mask must be bool \[B, N\] = \[2, 5\]"),
    "mask of a head": ([X, X, X], {"mask": torch.ones(2, 3, 5, dtype=torch.bool)}, r"got torch.bool \[2, 3, 5\]"),
    "mask elsewhere": ([X, X, X], {"mask": torch.ones(2, 5, dtype=torch.bool, device="meta")}, "mask is on meta"),
    "memory alone": ([X, X, X], {"memory": X[0]}, "memory must be two tensors"),
    "memory of batches": ([X, X, X], {"memory": (X, X)}, r"\[H, M, D\] and \[H, M, E\]"),
    "memory turned": ([X, X, X], {"memory": (X[0].mT, X[0].mT)}, "H = 3, D = 16, E = 16"),
    "memory, two lengths": ([X, X, X], {"memory": (X[0], X[0, :, :4])}, r"got \[3, 5, 16\] and \[3, 4, 16\]"),
    "memory of whole numbers": ([X, X, X], {"memory": (X[0].long(), X[0].long())}, "floating point"),
    "memory elsewhere": ([X, X, X], {"memory": (X[0].to("meta"), X[0])}, "memory is on meta and cpu"),
    "out of a shape": ([X, X, X], {"out": X[:1].clone()}, r"out must be torch.float32 \[2, 3, 5, 16\]"),
    "out of a type": ([X, X, X], {"out": X.double()}, "got torch.float64"),
    "out that learns": ([X.clone().requires_grad_(), X, X], {"out": X.clone()}, "torch.no_grad"),
    "backend": ([X, X, X], {"backend": "tpu"}, "backend must be"),
}


@pytest.mark.parametrize("name", WRONG)
def test_input_errors(name):
    inputs, options, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        linear_attention(*inputs, **options)


@pytest.mark.parametrize(
    ("qkv", "heads", "options", "message"),
    [
        (torch.zeros(2, 96, 4, 4), 2, {}, r"flatten\(2\)"),
        (torch.zeros(2, 95, 5), 2, {}, r"\[B, 3 \* heads \* D, N\]"),
        (torch.zeros(2, 96, 5), 0, {}, "heads=0"),
        (torch.zeros(2, 0, 5), 1, {}, "D at least 1"),
        (torch.zeros(2, 96, 5).long(), 2, {}, "of one dtype"),
        (torch.zeros(2, 96, 5), 2, {"memory": (torch.zeros(2, 4, 16), torch.zeros(2, 4, 16))}, r"\[H, D, M\]"),
        (torch.zeros(2, 96, 5), 2, {"out": torch.zeros(2, 96, 5)}, r"out must be torch.float32 \[2, 32, 5\]"),
        (torch.zeros(2, 96, 5), 2, {"causal": True}, "cannot be causal"),
    ],
)
def test_input_errors_of_the_packed_form(qkv, heads, options, message):
    with pytest.raises(InputError, match=message):
        linear_attention_packed(qkv, heads=heads, **options)
