"""The two roads to a fused op: `autograd.Function` in eager mode, the cheapest, and a registered op while tracing.

Both take the same functions, so that there is one definition of values and gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from iqazoo.ops.backend import transformed


def op(
    name: str,
    forward: Callable[..., Any],
    *,
    fake: Callable[..., Any],
    setup_context: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
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
    """
    registered = torch.library.custom_op(f"iqazoo::{name}", forward, mutates_args=())
    registered.register_fake(fake)
    eager = forward
    if backward is not None:
        registered.register_autograd(backward, setup_context=setup_context)
        methods = {"forward": forward, "setup_context": setup_context, "backward": backward}
        eager = type(name, (torch.autograd.Function,), {k: staticmethod(v) for k, v in methods.items()}).apply

    def call(*arguments: Any) -> Any:
        tensors = [a for a in arguments if isinstance(a, Tensor)]
        return registered(*arguments) if transformed(*tensors) else eager(*arguments)

    return call
