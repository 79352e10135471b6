"""The SSIM terms of an image pyramid, as the multi-scale index needs them: Wang, Simoncelli, Bovik, "Multi-scale
structural similarity for image quality assessment", Asilomar Conference on Signals, Systems and Computers, 2003."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.ops import windows
from iqazoo.ops.backend import Backend, choose, transformed
from iqazoo.ops.roads import gradients_by_torch, op
from iqazoo.ops.structural_similarity import (
    UNIFORM,
    check_constants,
    empty_gradients,
    empty_values,
    launch_backward,
    launch_forward,
    reference_terms,
    ssim,
)
from iqazoo.ops.windows import Padding

Border = Literal["zeros", "replicate", "drop"]
BORDERS: tuple[str, ...] = get_args(Border)


def ssim_pyramid(
    x: Tensor,
    y: Tensor,
    *,
    scales: int = 5,
    window: int = 11,
    sigma: float | None = 1.5,
    data_range: float = 1.0,
    k1: float = 0.01,
    k2: float = 0.03,
    padding: Padding = "valid",
    border: Border = "zeros",
    backend: Backend = "auto",
) -> Tensor:
    """The mean contrast-structure term of each scale but the last, and the mean SSIM index of the last.

    Each scale is the one before, averaged over blocks of 2 x 2 pixels; the kernels average in the pass that filters.
    Differentiable in both images; a second derivative is taken through torch's functions.

    Args:
        x, y: `[B, C, H, W]`, floating point, values within a range of `data_range`.
        scales: how many, at least 1.
        window, sigma, data_range, k1, k2, padding: as for `ssim`.
        border: what joins the first row or column where a side is odd: "zeros" (as pytorch-msssim), "replicate":
            the nearest pixel, for both sides where one is odd (as piq); "drop": nothing, the last one is left out.
        backend: "torch", "cpu", "cuda", or "auto" for the fastest that fits.

    Returns:
        `[scales, B, C]`, float64 where an input is, else float32.

    Raises:
        InputError: as `ssim`, or the image is too small for so many scales.
    """
    windows.check_pair("ssim_pyramid", x, y)
    check_options(scales, window, sigma, data_range, k1, k2, padding, border)
    _check_size(x, scales, window, padding, border)
    x, y = windows.computed(x, y)
    options = {"window": window, "sigma": sigma, "data_range": data_range, "k1": k1, "k2": k2, "padding": padding}
    if choose(backend, x, y, kernel="ssim_forward") == "torch":
        return reference_ssim_pyramid(x, y, scales=scales, border=border, **options)
    numbers = (window, UNIFORM if sigma is None else float(sigma), padding, (k2 * data_range) ** 2)
    terms = []
    for _ in range(scales - 1):
        term, x, y = _step(x, y, *numbers, *_shifts(x, border), border == "replicate")
        terms.append(term)
    return torch.stack([*terms, ssim(x, y, reduction="channel", backend=backend, **options)])


def reference_ssim_pyramid(
    x: Tensor,
    y: Tensor,
    *,
    scales: int = 5,
    window: int = 11,
    sigma: float | None = 1.5,
    data_range: float = 1.0,
    k1: float = 0.01,
    k2: float = 0.03,
    padding: Padding = "valid",
    border: Border = "zeros",
) -> Tensor:
    """The specification, in pure torch; every backend is held to it. Half types are computed in float32."""
    x, y = windows.computed(x, y)
    terms = []
    for scale in range(scales):
        if scale:
            x, y = halve(x, border), halve(y, border)
        c1, c2 = (k1 * data_range) ** 2, (k2 * data_range) ** 2
        index, structure = reference_terms(x, y, window, sigma, padding, c1, c2)
        terms.append((index if scale == scales - 1 else structure).mean(dim=(2, 3)))
    return torch.stack(terms)


def halve(x: Tensor, border: str) -> Tensor:
    """`[B, C, H, W]` averaged over blocks of 2 x 2 pixels."""
    return _pooled(x, *_shifts(x, border), border == "replicate")


def _pooled(x: Tensor, down: int, right: int, replicate: bool) -> Tensor:
    return F.avg_pool2d(F.pad(x, [right, 0, down, 0], mode="replicate" if replicate else "constant"), 2)


def least_side(scales: int, window: int, padding: str, border: str) -> int:
    """The least height and width that a pyramid can have."""
    side = windows.least_size(window, padding)
    for _ in range(scales - 1):
        side = 2 * side - (border != "drop")
    return max(side, 1)


def _shifts(x: Tensor, border: str) -> tuple[int, int]:
    """How far the first block of 2 x 2 pixels begins above and left of the image."""
    odd = x.shape[2] % 2, x.shape[3] % 2
    return {"zeros": odd, "replicate": (max(odd), max(odd)), "drop": (0, 0)}[border]


def check_options(
    scales: int, window: int, sigma: float | None, data_range: float, k1: float, k2: float, padding: str, border: str
) -> None:
    """Raise InputError for options that `ssim_pyramid` does not take."""
    windows.check_window(window, sigma, padding)
    check_constants(data_range, k1, k2)
    if border not in BORDERS:
        raise InputError(f"border must be one of {', '.join(BORDERS)}; got {border!r}")
    if not isinstance(scales, int) or scales < 1:
        raise InputError(f"scales must be a whole number from 1; got {scales!r}")


def _check_size(x: Tensor, scales: int, window: int, padding: str, border: str) -> None:
    least = least_side(scales, window, padding, border)
    if x.shape[2] < least or x.shape[3] < least:
        raise InputError(
            f"{scales} scales with window={window}, padding={padding!r} and border={border!r} need at least "
            f"{least} x {least} pixels, got {x.shape[2]} x {x.shape[3]}; choose a smaller window or fewer scales"
        )


def _forward(
    x: Tensor, y: Tensor, window: int, sigma: float, padding: str, c2: float, down: int, right: int, replicate: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The contrast-structure term, `[B, C]`, and both images at half the size."""
    term, half_x, half_y = _empty(x, y, window, sigma, padding, c2, down, right, replicate)
    absent = x.new_empty(0)
    numbers = (window, sigma, padding, 1.0, c2, "channel")  # c1 is of the luminance, which is not asked for
    launch_forward(x, y, (absent, absent), (absent, term, half_x, half_y), numbers, (down, right, int(replicate)))
    return term, half_x, half_y


def _empty(x: Tensor, y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    window, _, padding, _, down, right, _ = rest
    shape = (*x.shape[:2], (x.shape[2] + down) // 2, (x.shape[3] + right) // 2)
    return empty_values(x, window, padding, "channel"), x.new_empty(shape), x.new_empty(shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.numbers = inputs[2:]


def _backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    x, y = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    if torch.is_grad_enabled() or transformed(*grads):  # with create_graph this is differentiated in turn
        found = gradients_by_torch(lambda x, y: _step_again(x, y, ctx.numbers), (x, y), wanted[:2], *grads)
    else:
        found = _gradient(x, y, *grads, *ctx.numbers, wanted[0], wanted[1])
    return *(g if want else None for g, want in zip(found, wanted, strict=False)), *(None,) * 7


def _step_again(x: Tensor, y: Tensor, numbers: tuple[Any, ...]) -> tuple[Tensor, Tensor, Tensor]:
    window, sigma, padding, c2, down, right, replicate = numbers
    term = reference_terms(x, y, window, sigma or None, padding, 1.0, c2)[1].mean(dim=(2, 3))
    return term, _pooled(x, down, right, replicate), _pooled(y, down, right, replicate)


def _forward_gradient(
    x: Tensor, y: Tensor, grad_term: Tensor, grad_pooled_x: Tensor, grad_pooled_y: Tensor, window: int, sigma: float,
    padding: str, c2: float, down: int, right: int, replicate: bool, for_x: bool, for_y: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    numbers, absent = (window, sigma, padding, 1.0, c2, "channel"), x.new_empty(0)
    gradients = empty_gradients(x, y, for_x, for_y)
    incoming = (absent, grad_term, grad_pooled_x, grad_pooled_y)
    launch_backward(x, y, (absent, absent), incoming, (absent, *gradients), numbers, (down, right, int(replicate)))
    return gradients


_step = op("ssim_step", _forward, fake=_empty, setup_context=_save, backward=_backward)
_gradient = op("ssim_step_backward", _forward_gradient, fake=empty_gradients)
