"""The pairwise losses on a GPU."""

from functools import partial

import torch
from gpu_case import Case

from iqazoo.ops import calibrated_pairwise_loss, pairwise_loss
from iqazoo.ops.calibrated import SHAPES, SIZES

COUNTS = (64, 1024, 65536, 1 << 22)
KINDS = ("bce", "mse", "margin")


def judgments(size, device):
    a, b, h = torch.rand(3, size, device=device)
    return a.detach().requires_grad_(), b.detach().requires_grad_(), h


def pairwise(a, b, h, kind, backend):
    loss = pairwise_loss(a, b, h, kind=kind, lower_is_better=True, backend=backend).loss
    return torch.autograd.grad(loss, (a, b))


def weighted_judgments(size, device):
    weights = [0.25 * torch.randn(shape, device=device) for shape in SHAPES]
    return *judgments(size, device), *(w.requires_grad_() for w in weights)


def calibrated(a, b, h, *weights, backend):
    loss = calibrated_pairwise_loss(a, b, h, weights, lower_is_better=True, backend=backend).loss
    return torch.autograd.grad(loss, (a, b, *weights))


def case(kind, size):
    function = partial(pairwise, kind=kind)
    return Case(
        op="pairwise_loss",
        what=f"{kind}, value and gradient",
        shape=f"[{size}]",
        inputs=partial(judgments, size),
        fused=partial(function, backend="cuda"),
        plain=partial(function, backend="torch"),
        bytes=4 * 5 * size,  # three inputs, two gradients
    )


def calibrated_case(size):
    return Case(
        op="calibrated_pairwise_loss",
        what="value and gradient",
        shape=f"[{size}]",
        inputs=partial(weighted_judgments, size),
        fused=partial(calibrated, backend="cuda"),
        plain=partial(calibrated, backend="torch"),
        bytes=4 * (5 * size + 2 * sum(SIZES)),
        operations=6 * sum(SIZES) * size,  # a multiplication and an addition per weight: forward, and two backward
    )


CASES = [case(kind, size) for kind in KINDS for size in COUNTS]
CASES += [calibrated_case(size) for size in (64, 1024, 65536)]
