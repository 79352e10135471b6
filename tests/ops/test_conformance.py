"""Every op of tests/ops/cases.py, on every backend and both roads, against its reference in float64."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import CASES, FLOATS, HALVES, backend_params
from torch._dynamo.backends.registry import lookup_backend
from torch.utils._python_dispatch import TorchDispatchMode

WITH_OPTIONS = [
    pytest.param(case, options, id="-".join([case.name, *(f"{k}={v}" for k, v in options.items())]))
    for case in CASES
    for options in case.options
]
LAYOUTS = {
    "dense": torch.clone,
    "strided": lambda x: torch.stack([x, x + 1], -1)[..., 0],
    "unaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape),
    "last dimension first": lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1),
    "lazy minus": lambda x: torch.complex(torch.zeros_like(x), -x).conj().imag,
}


def cases_on(*backends, dtypes=FLOATS + HALVES):
    """Runs a test for each backend, case, options and dtype: those of `dtypes` that the backend takes."""
    every = [
        pytest.param(
            name, *chosen.values, dtype, id=f"{name}-{chosen.id}-{str(dtype).rpartition('.')[2]}", marks=backend.marks
        )
        for backend in backend_params(*backends)
        for name in backend.values
        for chosen in WITH_OPTIONS
        for dtype in chosen.values[0].dtypes_on(name)
        if dtype in dtypes
    ]
    return pytest.mark.parametrize(("backend", "case", "options", "dtype"), every)


def make_inputs(case, dtype, size, backend, seed=0):
    inputs = case.inputs(torch.Generator().manual_seed(seed), dtype, size)
    device = "cuda" if backend == "cuda" else "cpu"
    return [x.to(device).requires_grad_(i in case.differentiable) for i, x in enumerate(inputs)]


def outputs(result):
    """The tensors of a result."""
    if isinstance(result, torch.Tensor):
        return (result,)
    if dataclasses.is_dataclass(result):
        return tuple(getattr(result, f.name) for f in dataclasses.fields(result))
    return tuple(result)


def fused(case, options, backend):
    return lambda *inputs: outputs(case.op(*inputs, backend=backend, **options))


def weigh(values, seed=1):
    """A number that depends on every result, on each element in its own way."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.rand(v.shape, generator=generator).to(v) + 0.5 for v in values]
    return sum((w * v).sum() for w, v in zip(weights, values, strict=True) if v.requires_grad)


def gradients(case, values, inputs):
    wanted = [inputs[i] for i in case.differentiable]
    return torch.autograd.grad(weigh(values), wanted, materialize_grads=True)


def specification(case, options, inputs):
    """Values and gradients of the reference in float64."""
    wide = [x.detach().to(torch.float64) if x.is_floating_point() else x for x in inputs]
    for i in case.differentiable:
        wide[i].requires_grad_()
    values = outputs(case.reference(*wide, **options))
    return values, gradients(case, values, wide)


def check_close(got, want, tolerance):
    assert len(got) == len(want)
    for a, b in zip(got, want, strict=True):
        assert a.shape == b.shape
        if not b.is_floating_point():
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
            continue
        scale = b.abs().nan_to_num(0).max().item() if b.numel() else 0
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


def check(case, options, run, inputs, dtype):
    """Values and gradients of `run` against the specification."""
    got = run(*inputs)
    want, want_gradients = specification(case, options, inputs)
    for value in got:
        assert not value.is_floating_point() or value.dtype == torch.promote_types(dtype, torch.float32)
    check_close(got, want, case.value_tolerance[dtype])
    found = gradients(case, got, inputs)
    assert all(g.dtype == inputs[i].dtype for g, i in zip(found, case.differentiable, strict=True))
    check_close(found, want_gradients, case.gradient_tolerance[dtype])


@cases_on("torch", "cpu", "cuda")
def test_eager(backend, case, options, dtype):
    for size in case.sizes:
        check(case, options, fused(case, options, backend), make_inputs(case, dtype, size, backend), dtype)


@cases_on("cpu", "cuda")
def test_compiled(backend, case, options, dtype):
    """One graph, with the registered op in it, for all sizes."""
    graphs = []

    def keep(graph, examples):
        graphs.append(graph)
        return lookup_backend("aot_eager")(graph, examples)

    torch._dynamo.reset()
    run = torch.compile(fused(case, options, "auto"), fullgraph=True, backend=keep)
    for size in case.sizes[1:]:
        check(case, options, run, make_inputs(case, dtype, size, backend), dtype)
    assert all(any(str(node.target).startswith("iqazoo.") for node in graph.graph.nodes) for graph in graphs)


class Recorder(TorchDispatchMode):
    """Keeps the registered ops of iqazoo that are called, with their arguments."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "iqazoo":
            self.calls.append((func, args))
        return func(*args, **(kwargs or {}))


def own(x, keep_graph):
    if not isinstance(x, torch.Tensor):
        return x
    return x.detach().clone(memory_format=torch.preserve_format).requires_grad_(keep_graph and x.requires_grad)


@cases_on("cpu", "cuda")
def test_opcheck(backend, case, options, dtype):
    inputs = [
        LAYOUTS["last dimension first"](x.detach()).requires_grad_(x.requires_grad)  # the fake op has strides too
        for x in make_inputs(case, dtype, case.sizes[-1] // 8, backend)
    ]
    with Recorder() as forward:
        values = fused(case, options, backend)(*inputs)
    with Recorder() as backward:
        gradients(case, values, inputs)
    assert any(isinstance(a, torch.Tensor) and a.requires_grad for _, args in forward.calls for a in args)
    for op, args in forward.calls:
        torch.library.opcheck(op, tuple(own(a, keep_graph=True) for a in args))
    for op, args in backward.calls:
        torch.library.opcheck(op, tuple(own(a, keep_graph=False) for a in args))


@cases_on("cpu", "cuda", dtypes=[torch.float64])
def test_gradcheck(backend, case, options, dtype):
    def smooth(*inputs):
        return tuple(v for v in fused(case, options, backend)(*inputs) if v.requires_grad)

    assert torch.autograd.gradcheck(smooth, make_inputs(case, dtype, 5, backend))


@cases_on("cpu", "cuda")
def test_memory_layout_changes_no_bit(backend, case, options, dtype):
    inputs = make_inputs(case, dtype, case.sizes[-1], backend)
    run = fused(case, options, backend)
    want = run(*inputs)
    want_gradients = gradients(case, want, inputs)
    for name, layout in LAYOUTS.items():
        if name == "lazy minus" and dtype in HALVES:  # which have no complex type
            continue
        floats = [layout(x.detach()) if x.is_floating_point() else x for x in inputs]
        odd = [x.requires_grad_(i in case.differentiable) for i, x in enumerate(floats)]
        got = run(*odd)
        assert all(map(torch.equal, got, want)), name
        assert all(map(torch.equal, gradients(case, got, odd), want_gradients)), name


@cases_on("cpu", "cuda")
def test_expanded_gradients(backend, case, options, dtype):
    """What `.sum().backward()` passes on has stride 0."""
    inputs = make_inputs(case, dtype, case.sizes[-1], backend)
    wanted = [inputs[i] for i in case.differentiable]
    for i, value in enumerate(fused(case, options, backend)(*inputs)):
        if not value.requires_grad:
            continue
        got = torch.autograd.grad(value.sum(), wanted, materialize_grads=True, retain_graph=True)
        again = fused(case, options, backend)(*inputs)[i]
        want = torch.autograd.grad(again, wanted, torch.ones_like(again), materialize_grads=True)
        assert all(map(torch.equal, got, want))


@cases_on("cpu", "cuda", dtypes=[torch.float64])
def test_batched_gradients(backend, case, options, dtype):
    inputs = make_inputs(case, dtype, 5, backend)
    wanted = [inputs[i] for i in case.differentiable]
    for value in fused(case, options, backend)(*inputs):
        if not value.requires_grad:
            continue
        several = torch.rand(2, *value.shape, dtype=value.dtype, device=value.device)
        how = {"retain_graph": True, "materialize_grads": True}
        together = torch.autograd.grad(value, wanted, several, is_grads_batched=True, **how)
        for k, one in enumerate(several):
            for got, want in zip(together, torch.autograd.grad(value, wanted, one, **how), strict=True):
                torch.testing.assert_close(got[k], want)


@cases_on("cpu", "cuda")
def test_only_asked_gradients_are_computed(backend, case, options, dtype):
    """Any subset of the differentiable inputs gets the gradients that it gets among all."""
    inputs = make_inputs(case, dtype, case.sizes[-1] // 8, backend)
    run = fused(case, options, backend)
    every = dict(zip(case.differentiable, gradients(case, run(*inputs), inputs), strict=True))
    tolerance = case.gradient_tolerance[dtype] if backend == "cuda" and case.gpu_single else 0
    for count in range(1, len(every)):
        for subset in itertools.combinations(every, count):
            fewer = [x.detach().requires_grad_(i in subset) for i, x in enumerate(inputs)]
            found = torch.autograd.grad(weigh(run(*fewer)), [fewer[i] for i in subset], materialize_grads=True)
            check_close(found, [every[i].double() for i in subset], tolerance)
    detached = [x.detach() for x in inputs]
    assert not any(value.requires_grad for value in run(*detached))


@pytest.mark.parametrize("place", [0, 0.5, 0.999])
@cases_on("cpu", "cuda")
def test_nan_comes_out_where_it_does_in_the_reference(backend, case, options, dtype, place):
    for i in case.differentiable:
        inputs = [x.detach() for x in make_inputs(case, dtype, case.sizes[-1], backend)]
        inputs[i].view(-1)[int(place * inputs[i].numel())] = torch.nan
        got = fused(case, options, backend)(*inputs)
        want = outputs(case.reference(*inputs, **options))
        assert any(v.isnan().any() for v in got)
        assert all(torch.equal(a.isnan(), b.isnan()) for a, b in zip(got, want, strict=True) if b.is_floating_point())


@cases_on("cpu", "cuda")
@pytest.mark.parametrize("create_graph", [False, True])
def test_an_input_made_of_another(backend, case, options, dtype, create_graph):
    """Each gets its own gradient, none that of the other too."""
    inputs = make_inputs(case, dtype, case.sizes[-1], backend)
    first, *others = case.differentiable
    alike = [i for i in others if inputs[i].shape == inputs[first].shape]

    def gradient(run, dtype):
        leaf = inputs[first].detach().to(dtype).requires_grad_()
        given = [x.detach().to(dtype) if x.is_floating_point() else x for x in inputs]
        given[first] = leaf
        for i in alike:
            given[i] = leaf.flip(-1)
        return torch.autograd.grad(weigh(run(*given)), leaf, create_graph=create_graph)

    want = gradient(lambda *given: outputs(case.reference(*given, **options)), torch.float64)
    found = gradient(fused(case, options, backend), dtype)
    check_close([g.detach() for g in found], [g.detach() for g in want], case.gradient_tolerance[dtype])


@pytest.mark.parametrize("threads", [1, 2, 3])
@cases_on("cpu")
def test_threads_change_no_bit(backend, case, options, dtype, threads):
    inputs = make_inputs(case, dtype, case.large, backend)
    run = fused(case, options, backend)
    before = torch.get_num_threads()
    found = []
    try:
        for number in (1, threads, threads):
            torch.set_num_threads(number)
            values = run(*inputs)
            found.append([*values, *gradients(case, values, inputs)])
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, found[0], found[1]))
    assert all(map(torch.equal, found[0], found[2]))


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(0, 600),
    layouts=st.lists(st.sampled_from(sorted(LAYOUTS)), min_size=8, max_size=8),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
@pytest.mark.parametrize(("case", "options"), WITH_OPTIONS)
@pytest.mark.parametrize("backend", backend_params("cpu", "cuda"))
def test_fuzz(backend, case, options, size, layouts, seed, data):
    dtype = data.draw(st.sampled_from(case.dtypes_on(backend)))
    inputs = make_inputs(case, dtype, size, backend, seed)
    for i, layout in zip(range(len(inputs)), layouts, strict=False):
        if inputs[i].is_floating_point() and not (layout == "lazy minus" and dtype in HALVES):
            inputs[i] = LAYOUTS[layout](inputs[i].detach()).requires_grad_(i in case.differentiable)
    check(case, options, fused(case, options, backend), inputs, dtype)
