"""The two roads to a fused op: `autograd.Function` in eager mode, the cheapest, and a registered op while tracing.

Both take the same functions, so that there is one definition of values and gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from iqazoo.ops.backend import traced


def op(
    name: str,
    forward: Callable[..., Any],
    *,
    fake: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
    internal: int = 0,
) -> Callable[..., Any]:
    """Make one callable that takes the cheap road in eager mode and `torch.ops.iqazoo.<name>` while tracing.

    Args:
        name: of the registered op.
        forward: computes the outputs, a tensor or a tuple of tensors, by kernels. Its annotations are the schema:
            tensors, numbers and strings; it gives back no input and no view of one.
        fake: makes empty outputs of the right shape and type, for the same arguments.
        setup_context: `(ctx, inputs, output)`, keeps what `backward` needs; as torch defines it.
        backward: `(ctx, *gradients) -> one gradient per input`, in torch's functions and other ops made here.
            Without it the op has no gradient.
        internal: how many of the last outputs are for `setup_context` alone: the callable returns those before them.
    """
    given = slice(-internal or None)
    registered = torch.library.custom_op(f"iqazoo::{name}", forward, mutates_args=())
    registered.register_fake(fake)
    with_graph = None
    if backward is not None:
        registered.register_autograd(backward, setup_context=setup_context)
        function = _function(name, forward, setup_context, backward, given)
        # What Function.apply comes to. On its way it looks for torch.func's tensors, which never get here: 2 us.
        with_graph = super(torch.autograd.Function, function).apply  # pyright: ignore[reportAttributeAccessIssue]

    def call(*arguments: Any) -> Any:
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        if traced(*tensors):
            return registered(*arguments)[given] if internal else registered(*arguments)
        if with_graph is not None and torch.is_grad_enabled():
            for t in tensors:  # a generator would take a while
                if t.requires_grad:
                    return with_graph(*arguments)
        return forward(*arguments)[given] if internal else forward(*arguments)

    return call


def _function(
    name: str,
    forward: Callable[..., Any],
    setup_context: Callable[..., None] | None,
    backward: Callable[..., Any],
    given: slice,
) -> type[torch.autograd.Function]:
    """An `autograd.Function` of the old form: given a `setup_context`, torch would inspect a signature in each call."""

    def forward_and_save(ctx: Any, *arguments: Any) -> Any:
        output = forward(*arguments)
        if setup_context is not None:
            setup_context(ctx, arguments, output)
        return output if given.stop is None else output[given]  # each output costs torch time

    return type(
        name,
        (torch.autograd.Function,),
        {"forward": staticmethod(forward_and_save), "backward": staticmethod(backward)},
    )


def gradients_by_torch(
    reference: Callable[..., Tensor | Sequence[Tensor]],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    *grads: Tensor | None,
) -> tuple[Tensor | None, ...]:
    """The gradients of `reference(*inputs)`, given those of its values: for many of those at once, too.

    With create_graph, that is where gradients are enabled, they can be differentiated in turn.

    Args:
        reference: in torch's functions; one value or several.
        inputs: as they were saved for the backward pass; None stands for what was not given.
        needed: which of them want a gradient; the others get None.
        grads: one for each value, of its shape, or None where none came in; torch may have made it of a batch of
            gradients.
    """
    again = torch.is_grad_enabled()  # whether what is found is to be differentiated in turn
    with torch.enable_grad():
        # Views: an input given twice, or made of another one, would get what belongs to the other too.
        apart = [x.view_as(x) if need else x for x, need in zip(inputs, needed, strict=True)]
        found = reference(*apart)
    values = [found] if isinstance(found, Tensor) else found
    pairs = [(v, grad) for v, grad in zip(values, grads, strict=True) if grad is not None and v.requires_grad]
    wanted = [x for x, need in zip(apart, needed, strict=True) if need]
    given = iter(torch.autograd.grad([v for v, _ in pairs], wanted, [g for _, g in pairs], create_graph=again))
    return tuple(next(given) if need else None for need in needed)
