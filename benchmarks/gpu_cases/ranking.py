"""The ranking loss on a GPU."""

from functools import partial

import torch
from gpu_case import Case

from iqazoo.ops import ranking_loss

LARGEST_PLAIN = 8192  # torch's pairs take memory by the square
OPERATIONS = 20  # of one ordered pair, an exponential counted as several


def inputs(size, device):
    scores, targets = torch.rand(2, size, device=device)
    return scores.detach().requires_grad_(), targets


def value_and_gradient(scores, targets, kind, backend):
    return torch.autograd.grad(ranking_loss(scores, targets, kind=kind, backend=backend).loss, scores)


def case(kind, size):
    function = partial(value_and_gradient, kind=kind)
    return Case(
        op="ranking_loss",
        what=f"{kind}, value and gradient",
        shape=f"[{size}]",
        inputs=partial(inputs, size),
        fused=partial(function, backend="cuda"),
        plain=partial(function, backend="torch") if size <= LARGEST_PLAIN else None,
        bytes=4 * 3 * size,
        operations=OPERATIONS * size * size,
    )


CASES = [case(kind, size) for kind in ("ranknet", "margin", "fidelity") for size in (512, 2048, 8192)]
CASES.append(case("ranknet", 65536))
