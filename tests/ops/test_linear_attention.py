"""The kernels of linear attention where tests/ops/cases.py does not reach: widths, layouts, causal sums, extremes."""

import math
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import backend_params

from iqazoo.errors import InputError
from iqazoo.ops import available, linear_attention, linear_attention_packed
from iqazoo.ops.linear_attention_reference import reference_linear_attention

ELU1 = {"q_map": "elu1", "k_map": "elu1"}
MAPS = [{}, {"q_map": "scale"}, {"scale": 0.7}, ELU1]
CPU = backend_params("cpu")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the greatest value


def make(shape, columns=0, masked=False, layout="bhnd", dtype=torch.float32, device="cpu", seed=0):
    """q, k, v, the options of memory and mask for a shape B, H, N, D, E."""
    batch, heads, positions, features, width = shape
    generator = torch.Generator().manual_seed(seed)

    def normal(*leading, size, length):
        x = torch.randn((*leading, length, size), generator=generator, dtype=torch.float64)
        return (x.mT.contiguous() if layout == "bhdn" else x).to(device, dtype)

    q, k = (normal(batch, heads, size=features, length=positions) for _ in range(2))
    v = normal(batch, heads, size=width, length=positions)
    memory = tuple(normal(heads, size=size, length=columns) for size in (features, width)) if columns else None
    mask = (torch.rand(batch, positions, generator=generator) < 0.7).to(device) if masked else None
    return (q, k, v), {"memory": memory, "mask": mask, "layout": layout}


def values_and_gradients(function, qkv, options, **more):
    """In q, k, v and the memory, for a gradient that differs everywhere."""
    leaves = [x.detach().requires_grad_() for x in (*qkv, *(options["memory"] or ()))]
    memory = tuple(leaves[3:]) or None
    out = function(*leaves[:3], **options | {"memory": memory} | more)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape).to(out)
    return out.detach(), *torch.autograd.grad(out, leaves, weights)


def check(got, want, tolerance):
    """The result and the gradients in q, k, v and the memory.

    Those in keys and queries are differences: with few columns they may be small beside what was subtracted.
    """
    assert len(got) == len(want)
    scales = [b.abs().nan_to_num(0).max().item() if b.numel() else 0.0 for b in want]
    scales = [max(scale, 1e-2 * max(scales)) for scale in scales]
    scales[4:] = map(max, scales[4:], scales[2:4])
    for a, b, scale in zip(got, want, scales, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance * scale + 1e-30, equal_nan=True)


def wide(qkv, options):
    memory = options["memory"] and tuple(m.double() for m in options["memory"])
    return [x.double() for x in qkv], options | {"memory": memory}


def check_against_reference(qkv, options, backend, tolerance, **more):
    got = values_and_gradients(linear_attention, qkv, options, backend=backend, **more)
    wide_qkv, wide_options = wide(qkv, options)
    check(got, values_and_gradients(reference_linear_attention, wide_qkv, wide_options, **more), tolerance)
    return got


@pytest.mark.parametrize("options", MAPS, ids=str)
@pytest.mark.parametrize("features", [16, 17, 48, 100, 128])
@pytest.mark.parametrize("backend", CPU)
def test_every_width(backend, features, options):
    qkv, more = make((2, 2, 130, features, 144 - features), columns=3, masked=True, dtype=torch.float64)
    check_against_reference(qkv, more, backend, 1e-12, **options)


@pytest.mark.parametrize("layout", ["bhnd", "bhdn"])
@pytest.mark.parametrize("positions", [2, 64, 65, 513, 1100])
@pytest.mark.parametrize("backend", CPU)
def test_every_kind_of_tile(backend, positions, layout):
    for dtype, tolerance in TOLERANCE.items():
        qkv, more = make((1, 2, positions, 32, 32), columns=1, layout=layout, dtype=dtype)
        check_against_reference(qkv, more, backend, tolerance)


@pytest.mark.parametrize("layout", ["bhnd", "bhdn"])
@pytest.mark.parametrize("columns", [0, 5])
@pytest.mark.parametrize("positions", [1, 65, 1100])
def test_causal(positions, columns, layout):
    if available()["cpu"] is not None:
        pytest.skip(available()["cpu"])
    for masked in (False, True):
        shape = (2, 1, positions, 33, 20)
        qkv, more = make(shape, columns, masked, layout, torch.float64)
        if positions == 1 and not columns:
            qkv[0].mul_(3)  # one key's weight cancels: all gradients but the value's are of the order of eps
        check_against_reference(qkv, more, "cpu", 1e-12 if positions > 1 or columns else 1e-7, causal=True, **ELU1)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(
        st.integers(0, 3), st.integers(1, 3), st.integers(0, 700), st.integers(16, 128), st.integers(16, 128)
    ),
    columns=st.integers(1, 70),
    masked=st.booleans(),
    layout=st.sampled_from(["bhnd", "bhdn"]),
    options=st.sampled_from([*MAPS, ELU1 | {"causal": True}]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 2**31),
)
@pytest.mark.parametrize("backend", CPU)
def test_fuzz(backend, shape, columns, masked, layout, options, dtype, seed):
    qkv, more = make(shape, columns, masked, layout, dtype, seed=seed)
    check_against_reference(qkv, more, backend, 3 * TOLERANCE[dtype], **options)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(2, 2, 600, 40, 24), (2, 2, 600, 32, 64)], ids=str)
@pytest.mark.parametrize("options", [*MAPS, ELU1 | {"causal": True}], ids=str)
@pytest.mark.parametrize("backend", CPU)
def test_the_layout_changes_nothing_but_rounding(backend, options, shape, masked):
    """Whole blocks of whole vectors are read where they lie, each layout in its own order."""
    qkv, more = make(shape, columns=3, masked=masked)
    want = values_and_gradients(linear_attention, qkv, more, backend=backend, **options)
    turned = [x.mT.contiguous() for x in qkv]
    memory = tuple(m.mT.contiguous() for m in more["memory"])
    changed = more | {"memory": memory, "layout": "bhdn"}
    got = values_and_gradients(linear_attention, turned, changed, backend=backend, **options)
    weights = torch.linspace(-1, 1, want[0].numel(), dtype=torch.float64).view(want[0].shape).float()
    torch.testing.assert_close(got[0].mT, want[0], rtol=1e-5, atol=1e-6)
    leaves = [x.requires_grad_() for x in turned]
    out = linear_attention(*leaves, **changed, backend=backend, **options)
    gradients = torch.autograd.grad(out, leaves, weights.mT)
    for a, b in zip(gradients, want[1:4], strict=True):
        torch.testing.assert_close(a.mT, b, rtol=1e-5, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("options", [*MAPS, ELU1 | {"causal": True}], ids=str)
@pytest.mark.parametrize("backend", CPU)
def test_slices_of_a_projection_are_read_and_written_in_place(backend, options, monkeypatch):
    packed = torch.randn(2, 3 * 2 * 32, 300).requires_grad_()
    q, k, v = packed.detach().unflatten(1, (3, 2, 32)).unbind(1)
    leaves = [x.requires_grad_() for x in (q, k, v)]
    want = linear_attention(*leaves, layout="bhdn", backend=backend, **options)
    weights = torch.linspace(-1, 1, want.numel()).view(want.shape)
    gradients = torch.autograd.grad(want, leaves, weights)
    monkeypatch.setattr(torch.Tensor, "contiguous", lambda x: x if x.is_contiguous() else pytest.fail("copied"))
    got = linear_attention_packed(packed, heads=2, backend=backend, **options)
    (gradient,) = torch.autograd.grad(got, packed, weights.flatten(1, 2))
    assert torch.equal(got, want.flatten(1, 2))
    assert torch.equal(gradient, torch.cat([g.flatten(1, 2) for g in gradients], 1))


@pytest.mark.parametrize("layout", ["bhnd", "bhdn"])
@pytest.mark.parametrize("backend", backend_params("torch", "cpu"))
def test_out(backend, layout):
    qkv, more = make((2, 2, 100, 32, 16), layout=layout)
    want = linear_attention(*qkv, backend=backend, **more)
    out = torch.full_like(qkv[2], math.nan)
    assert linear_attention(*qkv, backend=backend, out=out, **more) is out
    assert torch.equal(out, want)
    odd = torch.full((*want.shape, 2), math.nan)[..., 0]  # no stride of 1
    assert torch.equal(linear_attention(*qkv, backend=backend, out=odd, **more), want)
    value = qkv[2].clone()
    assert torch.equal(linear_attention(*qkv[:2], value, backend=backend, out=value, **more), want)


@pytest.mark.parametrize("backend", backend_params("torch", "cpu"))
def test_out_of_the_packed_form(backend):
    packed, out = torch.randn(2, 96, 70), torch.full((2, 32, 70), math.nan)
    want = linear_attention_packed(packed, heads=2, backend=backend)
    assert linear_attention_packed(packed, heads=2, backend=backend, out=out) is out
    assert torch.equal(out, want)
    part = packed[:, 64:]
    assert torch.equal(linear_attention_packed(packed, heads=2, backend=backend, out=part), want)


@pytest.mark.parametrize("options", MAPS, ids=str)
@pytest.mark.parametrize("backend", CPU)
def test_large_logits(backend, options):
    qkv, more = make((1, 2, 700, 32, 32), columns=2)
    q, k = (80 * x.clamp(-1, 1) for x in qkv[:2])
    check_against_reference((q, k, qkv[2]), more, backend, 1e-4 if options == {"q_map": "scale"} else 2e-5, **options)
    rising = torch.linspace(-80, 80, 700)[:, None] * torch.linspace(0.5, 1, 32)  # each tile raises the greatest key
    rising = rising.expand(1, 2, 700, 32)
    check_against_reference((q, rising, qkv[2]), more, backend, 1e-4, **options)


@pytest.mark.parametrize("layout", ["bhnd", "bhdn"])
@pytest.mark.parametrize("rise", [0.1, 3.0, 7.9, 8.1, 30.0])  # around what the sums' shift lets pass
@pytest.mark.parametrize("backend", CPU)
def test_keys_that_rise_from_tile_to_tile(backend, rise, layout):
    (q, k, v), options = make((1, 2, 700, 32, 32), layout=layout, dtype=torch.float64)
    steps = rise * (torch.arange(700) // 64).double()
    k = k + (steps[:, None] if layout == "bhnd" else steps)
    want = values_and_gradients(reference_linear_attention, (q, k, v), options)
    got = values_and_gradients(linear_attention, (q, k, v), options, backend=backend)
    check(got, want, TOLERANCE[torch.float64])


@pytest.mark.parametrize("options", [*MAPS, ELU1 | {"causal": True}], ids=str)
@pytest.mark.parametrize("where", ["a key", "a feature's keys", "a tile's keys", "all keys", "a query"])
@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan])
@pytest.mark.parametrize("backend", CPU)
def test_what_is_not_finite_is_as_in_the_reference(backend, value, where, options):
    qkv, _ = make((1, 2, 600, 16, 32), dtype=torch.float64)
    q, k, _ = qkv
    if where == "a query":
        q[0, 0, 70, 3] = value
    else:
        rows = {"a key": slice(70, 71), "a tile's keys": slice(0, 64)}.get(where, slice(None))
        k[0, 0, rows, slice(None) if where == "all keys" else 3] = value
    got = linear_attention(*qkv, backend=backend, **options)
    want = reference_linear_attention(*qkv, **options)
    torch.testing.assert_close(got, want, equal_nan=True, rtol=1e-10, atol=1e-12)
    assert got[0, 1].isfinite().all()


@pytest.mark.parametrize("options", [*MAPS, ELU1 | {"causal": True}], ids=str)
@pytest.mark.parametrize("backend", CPU)
def test_what_a_mask_hides_has_no_effect(backend, options):
    qkv, more = make((2, 2, 200, 32, 16), columns=2, masked=True)
    want = values_and_gradients(linear_attention, qkv, more, backend=backend, **options)
    hidden = ~more["mask"][:, None, :, None]
    spoiled = [qkv[0], *(x.masked_fill(hidden, math.nan) for x in qkv[1:])]
    got = values_and_gradients(linear_attention, spoiled, more, backend=backend, **options)
    assert all(map(torch.equal, got, want))
    assert all(g.masked_select(hidden).eq(0).all() for g in got[2:4])


@pytest.mark.parametrize("columns", [0, 3])
@pytest.mark.parametrize("options", [*MAPS, ELU1 | {"causal": True}], ids=str)
@pytest.mark.parametrize("shape", [(2, 2, 0, 16, 32), (0, 2, 5, 16, 32), (2, 0, 5, 16, 32)])
@pytest.mark.parametrize("backend", CPU)
def test_nothing_in(backend, shape, options, columns):
    qkv, more = make(shape, columns)
    found = values_and_gradients(linear_attention, qkv, more, backend=backend, **options)
    assert [f.shape for f in found[1:4]] == [x.shape for x in qkv]
    assert found[0].shape == qkv[2].shape
    assert all(f.eq(0).all() for f in found)


@pytest.mark.parametrize("options", [{}, ELU1 | {"causal": True}], ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 3000, 32, 32), (3, 2, 700, 64, 16), (5, 1, 90, 128, 128)])
def test_threads_change_no_bit(shape, options):
    if available()["cpu"] is not None:
        pytest.skip(available()["cpu"])
    qkv, more = make(shape, columns=4, masked=True)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 2):
            torch.set_num_threads(threads)
            found.append(values_and_gradients(linear_attention, qkv, more, backend="cpu", **options))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for one in found[1:] for a, b in zip(one, found[0], strict=True))


@pytest.mark.parametrize("backend", CPU)
def test_one_long_head(backend):
    """Large enough for huge pages and for writes past the caches; each tile differs."""
    qkv, more = make((1, 1, 65536, 32, 32), layout="bhdn")
    check_against_reference(qkv, more, backend, 2e-5)


@pytest.mark.parametrize("options", [{}, ELU1, ELU1 | {"causal": True}], ids=str)
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("backend", CPU)
def test_second_derivatives(backend, packed, options):
    if packed:
        qkv = torch.randn(1, 48, 3, dtype=torch.float64).requires_grad_()
        run = lambda x: linear_attention_packed(x, heads=1, backend=backend, **options)  # noqa: E731
        assert torch.autograd.gradgradcheck(run, (qkv,), fast_mode=True)
        return
    qkv, _ = make((1, 1, 3, 16, 16), dtype=torch.float64)
    leaves = tuple(x.requires_grad_() for x in qkv)
    run = lambda *x: linear_attention(*x, backend=backend, **options)  # noqa: E731
    assert torch.autograd.gradgradcheck(run, leaves, fast_mode=True)


@pytest.mark.parametrize("backend", CPU)
def test_only_what_needs_a_gradient_gets_one(backend):
    (q, k, v), more = make((1, 2, 20, 16, 16), columns=2)
    keys, values = more["memory"]
    v.requires_grad_()
    values.requires_grad_()
    linear_attention(q, k, v, memory=(keys, values), backend=backend).sum().backward()
    assert [x.grad is not None for x in (q, k, v, keys, values)] == [False, False, True, False, True]
    with torch.no_grad():
        assert not linear_attention(q, k, v, backend=backend).requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_take_the_reference_on_a_cpu(dtype):
    qkv, _ = make((1, 2, 50, 32, 32), dtype=dtype)
    assert torch.equal(linear_attention(*qkv), reference_linear_attention(*qkv))
    with pytest.raises(InputError, match="float32 or all float64"):
        linear_attention(*qkv, backend="cpu")


@pytest.mark.parametrize(("features", "width"), [(15, 32), (32, 8), (129, 16), (16, 160)])
def test_other_widths_take_the_reference(features, width):
    qkv, _ = make((1, 2, 20, features, width))
    assert torch.equal(linear_attention(*qkv), reference_linear_attention(*qkv))
    if available()["cpu"] is None:
        with pytest.raises(InputError, match=f"D and E from 16 to 128, got {features} and {width}"):
            linear_attention(*qkv, backend="cpu")


def test_memory_of_another_dtype_is_converted():
    (q, k, v), more = make((1, 2, 20, 16, 16), columns=2)
    wide_memory = tuple(m.double().requires_grad_() for m in more["memory"])
    got = linear_attention(q, k, v, memory=wide_memory)
    assert torch.equal(got, linear_attention(q, k, v, memory=more["memory"]))
    got.sum().backward()
    assert wide_memory[0].grad.dtype == torch.float64


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("tracer", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles_without_a_break(tracer, packed):
    torch._dynamo.reset()
    if packed:
        leaves = [torch.randn(2, 96, 65).requires_grad_()]
        run = lambda x: linear_attention_packed(x, heads=2)  # noqa: E731
    else:
        (q, k, v), more = make((2, 2, 65, 16, 20), columns=2, masked=True)
        leaves = [x.requires_grad_() for x in (q, k, v, *more["memory"])]
        run = lambda q, k, v, *memory: linear_attention(q, k, v, mask=more["mask"], memory=memory)  # noqa: E731
    found = []
    for function in (torch.compile(run, fullgraph=True, backend=tracer), run):
        out = function(*leaves)
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), leaves)))
    torch.testing.assert_close(*found)


def test_the_transforms_of_torch_func():
    (q, k, v), _ = make((3, 2, 20, 16, 16))
    got = torch.func.vmap(lambda q, k, v: linear_attention(q[None], k[None], v[None])[0])(q, k, v)
    torch.testing.assert_close(got, linear_attention(q, k, v))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("source", ["linear_attention", "linear_attention_backward"])
def test_prefetches_are_compiled(tmp_path, source):
    """A function that only prefetches has no effect in a compiler's eyes, and may vanish without a word."""
    csrc, listing = Path(__file__).parents[2] / "csrc", tmp_path / "listing.s"
    command = ["c++", "-O3", "-std=c++17", f"-I{csrc}", "-S", str(csrc / "cpu" / f"{source}.cpp"), "-o", str(listing)]
    subprocess.run(command, check=True)
    assert re.search(r"\b(prefetch\w*|prfm)\b", listing.read_text())
