"""csrc/cuda/mse.cu on the CPU: what to run, and which changes of it must be noticed."""

import math

import torch
from cuda_shim import Mutant, Op

from iqazoo.ops.mean_squared_error import reference_mse

LARGE = 8192 * 256 + 8192 + 3  # more chunks than a block has threads


def inputs(*shape, put=None, same=False):
    """(gradient, image, reference); `put` goes into the second image, or `same` into both images there."""

    def make(dtype):
        generator = torch.Generator().manual_seed(sum(shape))
        image, reference = torch.rand((2, *shape), generator=generator, dtype=torch.float64).to(dtype)
        if put is not None:
            image[1, -1] = put
            reference[1, -1] = put if same else 0.5
        grad = shape[1] * torch.linspace(0.5, 2, shape[0], dtype=torch.float64)  # gradients of about 1
        return grad.to(torch.promote_types(dtype, torch.float32)), image, reference

    return make


def run(kernels, grad, image, reference):
    batch, size = image.shape
    error = kernels.empty(batch, dtype=grad.dtype)
    partial = kernels.empty(batch, kernels.module.mse_partials(size), dtype=torch.float64)
    kernels("mse_forward", image, reference, partial, error, batch, size)
    gradient = kernels.empty(batch, size, dtype=image.dtype)
    kernels("mse_backward", grad, image, reference, gradient, batch, size, dtype=image.dtype)
    return error, gradient


def reference(grad, image, reference):
    image = image.double().requires_grad_()
    error = reference_mse(image, reference.double())
    (gradient,) = torch.autograd.grad(error, image, grad.double())
    return error.detach(), gradient


OP = Op(
    source="mse",
    cases={
        "one": inputs(1, 1),
        "odd": inputs(3, 7),
        "a thread short": inputs(2, 255),
        "a thread over": inputs(2, 257),
        "a chunk": inputs(2, 8192),
        "a chunk and one": inputs(2, 8193),
        "chunks and a rest": inputs(3, 2 * 8192 + 301),
        "nan": inputs(3, 300, put=math.nan),
        "infinity": inputs(3, 300, put=math.inf),
        "infinity less infinity": inputs(3, 300, put=math.inf, same=True),
        "no image": inputs(0, 5),
        "no pixels": inputs(2, 0),
        "large": inputs(1, LARGE),
    },
    run=run,
    reference=reference,
    tolerance={
        torch.float32: (5e-7, 0),
        torch.float64: (1e-13, 0),
        torch.bfloat16: (8e-3, 0),
        torch.float16: (1e-3, 6e-8),
    },
    mutants=(
        Mutant(
            "the first pixel of a thread lost",
            "i = first + threadIdx.x; i < last; i += kThreads) {\n    const Computed",
            "i = first + threadIdx.x + kThreads; i < last; i += kThreads) {\n    const Computed",
        ),
        Mutant(
            "one pixel too many",
            "i < last; i += kThreads) {\n    const Computed<T> difference",
            "i <= last; i += kThreads) {\n    const Computed<T> difference",
        ),
        Mutant(
            "a wrong stride",
            "i < last; i += kThreads) {\n    const Computed<T> difference",
            "i < last; i += kThreads - 1) {\n    const Computed<T> difference",
        ),
        Mutant("another image's start", "start = (blockIdx.x / chunks) * size", "start = (blockIdx.x % chunks) * size"),
        Mutant("a thread without the sum writes it", "if (threadIdx.x == 0) partial", "if (threadIdx.x == 1) partial"),
        Mutant("a partial sum dropped", "i < chunks; i += kThreads", "i < chunks - 1; i += kThreads"),
        Mutant(
            "only as many chunks as threads", "i < chunks; i += kThreads", "i < chunks && i < kThreads; i += kThreads"
        ),
        Mutant("a wrong stride over chunks", "i < chunks; i += kThreads", "i < chunks; i += kThreads + 1"),
        Mutant("a chunk fewer", "(size + kChunk - 1) / kChunk", "size / kChunk"),
        Mutant(
            "a gradient too short",
            "i < b * size + last; i += kThreads",
            "i < b * size + last - 1; i += kThreads",
        ),
        Mutant(
            "a gradient too long",
            "i < b * size + last; i += kThreads",
            "i <= b * size + last; i += kThreads",
        ),
        Mutant("the wrong image's gradient", "grad_error[b] /", "grad_error[0] /"),
        Mutant("a block without work", "(gradient, batch * chunks,", "(gradient, batch * chunks + 1,"),
    ),
)
