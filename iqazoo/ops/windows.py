"""What the ops over sliding windows share: the window, the border, and filters in pure torch."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from iqazoo.errors import InputError

Padding = Literal["valid", "same", "reflect"]
PADDINGS: tuple[str, ...] = get_args(Padding)  # their order is that of the kernels' enum
LARGEST_WINDOW = 33  # the rows that the kernels keep


def check_pair(name: str, x: Tensor, y: Tensor) -> None:
    """Raise InputError unless x and y are floating point, `[B, C, H, W]`, of one shape and device."""
    if x.shape != y.shape or x.ndim != 4:
        raise InputError(
            f"{name} takes two tensors of equal shape [B, C, H, W], got {list(x.shape)} and {list(y.shape)}; "
            "add a batch with x[None], or expand one of them"
        )
    if not (x.is_floating_point() and y.is_floating_point()):
        raise InputError(f"{name} takes floating point, got {x.dtype} and {y.dtype}; for 8 bits: x.float() / 255")
    if x.device != y.device:
        raise InputError(
            f"{name} takes tensors of one device, got {x.device} and {y.device}; move one with .to(device)"
        )


def check_window(window: int, sigma: float | None, padding: str, *, even: bool = False) -> None:
    """Raise InputError for a window, a standard deviation or a padding that cannot be; `even`: with "valid" alone."""
    if padding not in PADDINGS:
        raise InputError(f"padding must be one of {', '.join(PADDINGS)}; got {padding!r}")
    if not isinstance(window, int) or not 1 <= window <= LARGEST_WINDOW:
        raise InputError(f"window must be a whole number of pixels from 1 to {LARGEST_WINDOW}; got {window!r}")
    if window % 2 == 0 and not (even and padding == "valid"):
        raise InputError(f"window must be an odd number of pixels, so that it has a centre; got {window!r}")
    if sigma is not None and not 0 < sigma < math.inf:
        raise InputError(f"sigma must be a positive number of pixels, or None for a uniform window; got {sigma!r}")


def check_size(name: str, x: Tensor, window: int, padding: str) -> None:
    """Raise InputError unless `[..., H, W]` is large enough."""
    least = least_size(window, padding)
    if x.shape[-2] < least or x.shape[-1] < least:
        raise InputError(
            f"{name} with window={window} and padding={padding!r} needs at least {least} x {least} pixels, "
            f"got {x.shape[-2]} x {x.shape[-1]}; choose a smaller window or padding='same'"
        )


def least_size(window: int, padding: str) -> int:
    """The least height and width of an image."""
    return {"valid": window, "same": 1, "reflect": window // 2 + 1}[padding]


def margin(window: int, padding: str) -> int:
    """How far the first window begins before the image."""
    return 0 if padding == "valid" else window // 2


def output_size(size: int, window: int, padding: str) -> int:
    """How many windows lie along a side of `size` pixels."""
    return size - window + 1 + 2 * margin(window, padding)


def taps(window: int, sigma: float | None) -> tuple[float, ...]:
    """The one-dimensional window, with sum 1: a Gaussian, or all alike where sigma is None."""
    if sigma is None:
        return (1 / window,) * window
    distances = [i - (window - 1) / 2 for i in range(window)]
    nearest = min(map(abs, distances))  # its weight is 1, however small sigma is
    weights = [math.exp(-0.5 * (d - nearest) * (d + nearest) / sigma / sigma) for d in distances]
    return tuple(w / math.fsum(weights) for w in weights)


def extend(x: Tensor, window: int, padding: str) -> Tensor:
    """`[B, C, H, W]` with what lies beyond its border: nothing, zeros, or the mirrored image."""
    if padding == "valid":
        return x
    return F.pad(x, [window // 2] * 4, mode="constant" if padding == "same" else "reflect")


def filter_windows(x: Tensor, window: int, sigma: float | None) -> Tensor:
    """Weigh every window of `[..., H, W]` by the outer product of `taps` with itself: a row pass, a column pass."""
    if math.prod(x.shape[:-2]) == 0:  # which torch does not filter
        return x[..., : x.shape[-2] - window + 1, : x.shape[-1] - window + 1]
    planes = x.flatten(0, -3).unsqueeze(0)  # [1, N, H, W]: depthwise is the quick road of torch's convolution
    kernel = x.new_tensor(taps(window, sigma)).expand(planes.shape[1], 1, 1, -1)
    planes = F.conv2d(planes, kernel, groups=planes.shape[1])
    planes = F.conv2d(planes, kernel.transpose(2, 3), groups=planes.shape[1])
    return planes.reshape(*x.shape[:-2], *planes.shape[2:])


def pivot(x: Tensor) -> Tensor:
    """The mean of what is finite in each plane of `[B, C, H, W]`, as `[B, C, 1, 1]`, constant for autograd.

    Variances are differences of squares, and cancel least near zero: so this is subtracted first.
    """
    return x.detach().nan_to_num(0, 0, 0).mean(dim=(2, 3), keepdim=True)


def not_negative(variance: Tensor) -> Tensor:
    """A variance that rounding made negative is 0; the gradient passes unchanged."""
    return variance + (variance.clamp(min=0) - variance).detach()


def whole_windows(mask: Tensor, window: int, padding: str) -> Tensor:
    """Which windows touch no excluded pixel: bool `[B, 1, H, W]` -> bool `[B, 1, H', W']`."""
    excluded = extend((~mask).float(), window, padding)
    return F.max_pool2d(F.max_pool2d(excluded, (1, window), stride=1), (window, 1), stride=1) == 0


def computed(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the type that results have: float64 where one of them is, else float32."""
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)
