"""Structural similarity over sliding windows, with its gradients: Wang, Bovik, Sheikh, Simoncelli, "Image quality
assessment: from error visibility to structural similarity", IEEE Transactions on Image Processing 13(4), 2004."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args, overload

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.ops import windows
from iqazoo.ops.backend import FLOATS, Backend, choose, dense, launch, module, transformed
from iqazoo.ops.roads import gradients_by_torch, op
from iqazoo.ops.windows import PADDINGS, Padding, output_size

Reduction = Literal["image", "channel", "map"]
REDUCTIONS: tuple[str, ...] = get_args(Reduction)  # their order is that of the kernels' enum
WINDOWS_AT_ONCE = 1 << 21  # the GPU's scratch is 32 MiB then, which its cache can hold; more for larger planes
UNIFORM = 0.0  # the standard deviation that tells the kernels that all pixels of a window weigh the same


class SSIMParts(NamedTuple):
    """The index, and its factor without the luminance; each as the reduction says."""

    ssim: Tensor
    contrast_structure: Tensor


@overload
def ssim(
    x: Tensor, y: Tensor, *, window: int = ..., sigma: float | None = ..., data_range: float = ..., k1: float = ...,
    k2: float = ..., padding: Padding = ..., mask: Tensor | None = ..., reduction: Reduction = ...,
    parts: Literal[False] = ..., backend: Backend = ...,
) -> Tensor: ...  # fmt: skip
@overload
def ssim(
    x: Tensor, y: Tensor, *, window: int = ..., sigma: float | None = ..., data_range: float = ..., k1: float = ...,
    k2: float = ..., padding: Padding = ..., mask: Tensor | None = ..., reduction: Reduction = ...,
    parts: Literal[True], backend: Backend = ...,
) -> SSIMParts: ...  # fmt: skip
def ssim(
    x: Tensor,
    y: Tensor,
    *,
    window: int = 11,
    sigma: float | None = 1.5,
    data_range: float = 1.0,
    k1: float = 0.01,
    k2: float = 0.03,
    padding: Padding = "valid",
    mask: Tensor | None = None,
    reduction: Reduction = "image",
    parts: bool = False,
    backend: Backend = "auto",
) -> Tensor | SSIMParts:
    """The SSIM index (equation 13 of the paper) of all windows, and its mean.

    In a window with means, variances and covariance of x and y, c1 = (k1 data_range)^2 and c2 = (k2 data_range)^2:

        contrast_structure = (2 cov + c2) / (var_x + var_y + c2)
        ssim = (2 mean_x mean_y + c1) / (mean_x^2 + mean_y^2 + c1) * contrast_structure

    Differentiable in both images; a second derivative is taken through `reference_ssim`. With reduction "image" or
    "channel", one pass over the images computes value and gradient.

    Args:
        x, y: `[B, C, H, W]`, floating point, values within a range of `data_range`.
        window: side of the square window in pixels, odd, at most 33.
        sigma: standard deviation of the Gaussian window in pixels; None: all its pixels weigh the same.
        data_range: the greatest minus the least possible value.
        k1, k2: the constants of the paper's equations 7 and 9.
        padding: "valid" takes the windows that lie inside the image; "same" and "reflect" centre one on every
            pixel, beyond the border being zeros or the mirrored image.
        mask: bool `[B, 1, H, W]`, False where a pixel is excluded. Windows that touch an excluded pixel do not
            count, so its value, be it NaN, does not matter.
        reduction: "image": the mean over windows and channels, `[B]`; "channel": over windows, `[B, C]`; "map": every
            window, `[B, C, H', W']`. Means over no window, and windows of a map that do not count, are NaN.
        parts: also give the contrast-structure term, reduced likewise.
        backend: "torch", "cpu", "cuda", or "auto" for the fastest that fits.

    Returns:
        The index, or `SSIMParts`; float64 where an input is, else float32. At most 1, and 1 where the images are
        identical, whatever is rounded.

    Raises:
        InputError: shapes, dtypes, devices or options are not as above, the image is smaller than the window and the
            padding allow, or the backend cannot take them.
    """
    _check(x, y, window, sigma, data_range, k1, k2, padding, mask, reduction)
    if x.device.type != "cuda" or x.dtype != y.dtype:  # kernels of the CPU take no half types
        x, y = windows.computed(x, y)
    if choose(backend, x, y, kernel="ssim_forward") == "torch":
        return reference_ssim(
            x, y, window=window, sigma=sigma, data_range=data_range, k1=k1, k2=k2, padding=padding, mask=mask,
            reduction=reduction, parts=parts,
        )  # fmt: skip
    counted = None
    if mask is not None:
        x, y, counted = _fill(x, mask), _fill(y, mask), windows.whole_windows(mask, window, padding)
    numbers = (window, UNIFORM if sigma is None else float(sigma), padding, *_constants(data_range, k1, k2), reduction)
    rows, counts = _kernel_mask(x, None if reduction == "map" else counted)
    learns = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    # A half type has no room for gradients that are not yet multiplied with what comes in: loss scaling makes it large.
    if learns and not parts and reduction != "map" and x.dtype in FLOATS:
        return _value_and_gradient(x, y, rows, counts, *numbers, x.requires_grad, y.requires_grad)[0]
    both = _values(x, y, rows, counts, *numbers)
    if counted is not None and reduction == "map":
        both = [torch.where(counted, values, math.nan) for values in both]
    return SSIMParts(*both) if parts else both[0]


def reference_ssim(
    x: Tensor,
    y: Tensor,
    *,
    window: int = 11,
    sigma: float | None = 1.5,
    data_range: float = 1.0,
    k1: float = 0.01,
    k2: float = 0.03,
    padding: Padding = "valid",
    mask: Tensor | None = None,
    reduction: Reduction = "image",
    parts: bool = False,
) -> Tensor | SSIMParts:
    """The specification, in pure torch; every backend is held to it. Half types are computed in float32."""
    x, y = windows.computed(x, y)
    counted = None
    if mask is not None:
        x, y, counted = _fill(x, mask), _fill(y, mask), windows.whole_windows(mask, window, padding)
    terms = reference_terms(x, y, window, sigma, padding, *_constants(data_range, k1, k2))
    index, structure = (_reduce(term, counted, reduction) for term in terms)
    return SSIMParts(index, structure) if parts else index


def reference_terms(
    x: Tensor, y: Tensor, window: int, sigma: float | None, padding: str, c1: float, c2: float
) -> tuple[Tensor, Tensor]:
    """The index and the contrast-structure term of every window, each `[B, C, H', W']`.

    The moments are those of s = x + y and e = x - y. With them the factors of the index are
    1 - mean_e^2 / (mean_x^2 + mean_y^2 + c1) and 1 - var_e / (var_x + var_y + c2): exact where the images are nearly
    the same, and never above 1.
    """
    x, y = windows.extend(x, window, padding), windows.extend(y, window, padding)
    s, e = x + y, x - y
    pivot_s, pivot_e = windows.pivot(s), windows.pivot(e)
    s, e = s - pivot_s, e - pivot_e
    with torch.autocast(x.device.type, enabled=False):  # in half precision the differences below would be noise
        mean_s, mean_e, square_s, square_e = windows.filter_windows(torch.stack([s, e, s * s, e * e]), window, sigma)
    var_s = windows.not_negative(square_s - mean_s * mean_s)
    var_e = windows.not_negative(square_e - mean_e * mean_e)
    mean_s, mean_e = mean_s + pivot_s, mean_e + pivot_e
    luminance = 1 - mean_e * mean_e / (0.5 * (mean_s * mean_s + mean_e * mean_e) + c1)
    structure = 1 - var_e / (0.5 * (var_s + var_e) + c2)
    return luminance * structure, structure


def _constants(data_range: float, k1: float, k2: float) -> tuple[float, float]:
    return (k1 * data_range) ** 2, (k2 * data_range) ** 2


def _fill(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of the pixels that count in place of those that do not: such as disturb no rounding."""
    kept = torch.where(mask, x, 0)
    mean = kept.detach().sum(dim=(2, 3), keepdim=True) / mask.sum(dim=(2, 3), keepdim=True).clamp(min=1)
    return torch.where(mask, kept, mean.to(x.dtype))


def _reduce(values: Tensor, counted: Tensor | None, reduction: str) -> Tensor:
    if reduction == "map":
        return values if counted is None else torch.where(counted, values, math.nan)
    if counted is None:
        means = values.mean(dim=(2, 3))  # [B, C]
    else:
        means = torch.where(counted, values, 0).sum(dim=(2, 3)) / counted.sum(dim=(2, 3))
    return means if reduction == "channel" else means.mean(1)


def _check(
    x: Tensor, y: Tensor, window: int, sigma: float | None, data_range: float, k1: float, k2: float, padding: str,
    mask: Tensor | None, reduction: str,
) -> None:  # fmt: skip
    windows.check_pair("ssim", x, y)
    windows.check_window(window, sigma, padding)
    windows.check_size("ssim", x, window, padding)
    check_constants(data_range, k1, k2)
    if reduction not in REDUCTIONS:
        raise InputError(f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}")
    if mask is None:
        return
    if mask.dtype != torch.bool or mask.shape != (x.shape[0], 1, *x.shape[2:]):
        raise InputError(
            f"mask must be bool, {[x.shape[0], 1, *x.shape[2:]]}, got {mask.dtype} {list(mask.shape)}; "
            "make one with mask > 0, and expand it over the batch"
        )
    if mask.device != x.device:
        raise InputError(f"mask must be on the images' device, {x.device}; got {mask.device}; move it")


def check_constants(data_range: float, k1: float, k2: float) -> None:
    """Raise InputError for constants that the formula cannot have."""
    if not (0 < data_range < math.inf and 0 <= k1 < math.inf and 0 <= k2 < math.inf):
        raise InputError(
            f"data_range must be positive, k1 and k2 at least 0, all finite; got {data_range!r}, {k1!r} and {k2!r}"
        )


# What follows calls the kernels. Absent tensors are empty: kernels tell them by the null address. Arguments:
#   counted   uint8 [B, H', W'] or [0]: which windows count; `counts`, int64 [B] or [0], is how many of an image
#   numbers   window, sigma (0: uniform), padding, c1, c2, reduction
# ssim_forward(x, y, counted, counts, index, structure, pooled_x, pooled_y, B, C, H, W, window, sigma, padding, c1, c2,
#     reduction, shift_y, shift_x, replicate)
#   writes the index and the contrast-structure term, [B], [B, C] or [B, C, H', W']; and, unless pooled_x is absent,
#   averages over blocks of 2 x 2 pixels, [B, C, (H + shift_y) // 2, (W + shift_x) // 2]: that at (i, j) begins at pixel
#   (2 i - shift_y, 2 j - shift_x); beyond the border are zeros, or with `replicate` the nearest pixel.
# ssim_backward(x, y, counted, counts, grad_index, grad_structure, grad_pooled_x, grad_pooled_y, index, grad_x, grad_y,
#     B, ..., replicate)
#   writes grad_x and grad_y, each unless absent, for the gradients of the results of ssim_forward, those that are not
#   absent; and the index, unless absent.
# On the GPU both also take scratch, after the results: `partial`; and ssim_backward `maps`, and of how many planes.


def _kernel_mask(x: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor]:
    if counted is None:
        return x.new_empty(0, dtype=torch.uint8), x.new_empty(0, dtype=torch.int64)
    return counted.squeeze(1).to(torch.uint8), counted.sum(dim=(1, 2, 3))


def result_shape(x: Tensor, window: int, padding: str, reduction: str) -> list[int]:
    """What the index of `[B, C, H, W]` has under a reduction."""
    batch, channels, height, width = x.shape
    if reduction == "map":
        return [batch, channels, output_size(height, window, padding), output_size(width, window, padding)]
    return [batch] if reduction == "image" else [batch, channels]


def empty_values(x: Tensor, window: int, padding: str, reduction: str) -> Tensor:
    """An uninitialised index or contrast-structure term."""
    shape = result_shape(x, window, padding, reduction)
    return x.new_empty(shape, dtype=torch.promote_types(x.dtype, torch.float32))


def launch_forward(
    x: Tensor, y: Tensor, masks: Sequence[Tensor], results: Sequence[Tensor], numbers: Sequence[Any],
    shifts: Sequence[int] = (0, 0, 0),
) -> None:  # fmt: skip
    """Call ssim_forward; `results` are index, structure, pooled_x and pooled_y."""
    window, sigma, padding, c1, c2, reduction = numbers
    tensors = [dense(tensor) for tensor in (x, y, *masks)]
    kinds = (window, sigma, PADDINGS.index(padding), c1, c2, REDUCTIONS.index(reduction))
    launch(x.device.type, "ssim_forward", *tensors, *results, *_partials(x, window, padding), *x.shape, *kinds, *shifts)


def launch_backward(
    x: Tensor, y: Tensor, masks: Sequence[Tensor], incoming: Sequence[Tensor], results: Sequence[Tensor],
    numbers: Sequence[Any], shifts: Sequence[int] = (0, 0, 0),
) -> None:  # fmt: skip
    """Call ssim_backward; `incoming` are the gradients of ssim_forward's results, `results` index, grad_x, grad_y."""
    window, sigma, padding, c1, c2, reduction = numbers
    tensors = [dense(tensor) for tensor in (x, y, *masks, *incoming)]
    kinds = (window, sigma, PADDINGS.index(padding), c1, c2, REDUCTIONS.index(reduction))
    for_both = all(map(len, results[1:]))
    scratch = (*_partials(x, window, padding), *_maps(x, window, padding, for_both))
    launch(x.device.type, "ssim_backward", *tensors, *results, *scratch, *x.shape, *kinds, *shifts)


def _partials(x: Tensor, window: int, padding: str) -> list[Tensor]:
    """Scratch that kernels of the GPU take: sums of tiles."""
    if x.device.type != "cuda":
        return []
    planes, height, width = x.shape[0] * x.shape[1], x.shape[2], x.shape[3]
    size = module("cuda").ssim_partials(planes, height, width, window, PADDINGS.index(padding))
    return [x.new_empty(size, dtype=torch.float64)]


def _maps(x: Tensor, window: int, padding: str, for_both: bool) -> list[Tensor | int]:
    """Scratch for a gradient on the GPU, what the windows of a few planes give to their pixels; and how many planes."""
    if x.device.type != "cuda":
        return []
    planes, sides = x.shape[0] * x.shape[1], [output_size(side, window, padding) for side in x.shape[2:]]
    passes = max(1, -(-planes * math.prod(sides) // WINDOWS_AT_ONCE))
    at_once = max(1, -(-planes // passes))
    shape = (at_once, *sides, 4 if for_both else 3)
    return [x.new_empty(shape, dtype=torch.promote_types(x.dtype, torch.float32)), at_once]


def _forward(
    x: Tensor, y: Tensor, counted: Tensor, counts: Tensor, window: int, sigma: float, padding: str, c1: float,
    c2: float, reduction: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    numbers = (window, sigma, padding, c1, c2, reduction)
    index, structure = _empty(x, y, counted, counts, *numbers)
    absent = x.new_empty(0)
    launch_forward(x, y, (counted, counts), (index, structure, absent, absent), numbers)
    return index, structure


def _empty(x: Tensor, y: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    _, _, window, _, padding, _, _, reduction = rest
    return empty_values(x, window, padding, reduction), empty_values(x, window, padding, reduction)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:4])
    ctx.numbers = inputs[4:]


def _backward(ctx: Any, grad_index: Tensor | None, grad_structure: Tensor | None) -> tuple[Tensor | None, ...]:
    incoming = grad_index, grad_structure
    return *_any_gradient(ctx.saved_tensors, incoming, ctx.numbers, ctx.needs_input_grad), *(None,) * 8


def _any_gradient(
    saved: Sequence[Tensor], incoming: Sequence[Tensor | None], numbers: tuple[Any, ...], wanted: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """The gradients for x and y, where wanted."""
    x, y, counted, counts = saved
    given = [g for g in incoming if g is not None]
    if not given:
        return None, None
    if torch.is_grad_enabled() or transformed(*given):  # with create_graph this is differentiated in turn
        return gradients_by_torch(lambda x, y: _values_again(x, y, counted, numbers), (x, y), wanted[:2], *incoming)
    absent = given[0].new_empty(0)
    filled = [absent if g is None else g for g in incoming]
    gradients = _gradient(x, y, counted, counts, *filled, *numbers, wanted[0], wanted[1])
    return tuple(g if want else None for g, want in zip(gradients, wanted, strict=False))


def _values_again(x: Tensor, y: Tensor, counted: Tensor, numbers: tuple[Any, ...]) -> list[Tensor]:
    window, sigma, padding, c1, c2, reduction = numbers
    terms = reference_terms(*windows.computed(x, y), window, sigma or None, padding, c1, c2)
    return [_reduce(term, counted[:, None] > 0 if len(counted) else None, reduction) for term in terms]


def _forward_gradient(
    x: Tensor, y: Tensor, counted: Tensor, counts: Tensor, grad_index: Tensor, grad_structure: Tensor, window: int,
    sigma: float, padding: str, c1: float, c2: float, reduction: str, for_x: bool, for_y: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    numbers, absent = (window, sigma, padding, c1, c2, reduction), x.new_empty(0)
    gradients = empty_gradients(x, y, for_x, for_y)
    incoming = (grad_index, grad_structure, absent, absent)
    launch_backward(x, y, (counted, counts), incoming, (absent, *gradients), numbers)
    return gradients


def empty_gradients(x: Tensor, y: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Uninitialised gradients for x and y, each if the last two arguments say so."""
    for_x, for_y = rest[-2:]
    return empty_gradient(x, for_x), empty_gradient(y, for_y)


def empty_gradient(x: Tensor, wanted: bool) -> Tensor:
    """An uninitialised gradient for x, or nothing."""
    return torch.empty_like(x, memory_format=torch.contiguous_format) if wanted else x.new_empty(0)


def _forward_value_and_gradient(
    x: Tensor, y: Tensor, counted: Tensor, counts: Tensor, window: int, sigma: float, padding: str, c1: float,
    c2: float, reduction: str, for_x: bool, for_y: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The index and its gradients, those of the sum over all results."""
    numbers = (window, sigma, padding, c1, c2, reduction)
    results = _empty_value_and_gradient(x, y, counted, counts, *numbers, for_x, for_y)
    absent, ones = x.new_empty(0), torch.ones_like(results[0])
    launch_backward(x, y, (counted, counts), (ones, absent, absent, absent), results, numbers)
    return results


def _empty_value_and_gradient(x: Tensor, y: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    _, _, window, _, padding, _, _, reduction, for_x, for_y = rest
    return empty_values(x, window, padding, reduction), *empty_gradients(x, y, for_x, for_y)


def _save_gradient(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[:4], *output[1:])
    ctx.numbers = inputs[4:10]


def _scale_gradient(ctx: Any, grad: Tensor | None, *unused: Tensor | None) -> tuple[Tensor | None, ...]:
    rest = (None,) * 10
    if grad is None:
        return None, None, *rest
    *saved, for_x, for_y = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    if torch.is_grad_enabled():  # with create_graph; what was saved would pass for a constant
        return *_any_gradient(saved, (grad, None), ctx.numbers, wanted), *rest
    return *(_scaled(g, grad) if want else None for g, want in zip((for_x, for_y), wanted, strict=False)), *rest


def _scaled(gradient: Tensor, grad: Tensor) -> Tensor:
    """`[B, C, H, W]` times `[B]` or `[B, C]`."""
    return gradient * grad.view(*grad.shape, *(1,) * (4 - grad.ndim)).to(gradient.dtype)


_values = op("ssim", _forward, fake=_empty, setup_context=_save, backward=_backward)
_gradient = op("ssim_backward", _forward_gradient, fake=empty_gradients)
_value_and_gradient = op(
    "ssim_value_and_gradient",
    _forward_value_and_gradient,
    fake=_empty_value_and_gradient,
    setup_context=_save_gradient,
    backward=_scale_gradient,
    internal=2,
)
