"""How far apart two maps of features are in direction: the layer of LPIPS that compares activations."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.ops.backend import FLOATS, Backend, choose, dense, launch, module, transformed
from iqazoo.ops.roads import gradients_by_torch, op

FeatureReduction = Literal["image", "map", "channel"]

REDUCTIONS: tuple[FeatureReduction, ...] = ("image", "map", "channel")  # as the settings number them
IMAGE, MAP, CHANNEL = range(3)
NULL = 0  # the address that tells a kernel to leave something out


def feature_distance(
    f_image: Tensor,
    f_reference: Tensor,
    weight: Tensor | None = None,
    *,
    eps: float = 1e-10,
    reduction: FeatureReduction = "image",
    backend: Backend = "auto",
) -> Tensor:
    """The weighted squared difference of two feature maps whose channel vectors are scaled to length 1.

    LPIPS's layer (Zhang et al., CVPR 2018, equation 1, with the weights where its published code has them): at each
    position u = f_image / (|f_image| + eps) - f_reference / (|f_reference| + eps), then sum over c of weight_c u_c^2.
    Differentiable in both features and the weight, as often as wanted. A zero vector stays zero, and has gradient 0.

    Args:
        f_image: `[B, C, H, W]`, floating point, in memory as NCHW or channels_last (others are copied first).
        f_reference: the same shape; one reference expanded to the batch is not copied.
        weight: `[C]`; may be None for reduction="channel", which has no use for it.
        eps: added to lengths, at least 0.
        reduction: "image" for the spatial mean, "map" for each position, "channel" for the spatial means of u_c^2:
            "image" is `feature_distance(..., reduction="channel") @ weight`, so these serve any weight.
        backend: "torch", "cpu", "cuda", or "auto" for the fastest that fits.

    Returns:
        "image" `[B]`, "map" `[B, 1, H, W]`, "channel" `[B, C]`; float64 where an input is, else float32.
        NaN for means over no position.

    Raises:
        InputError: shapes, dtypes, devices or options are not as above, or the backend cannot take them.
    """
    _check(f_image, f_reference, weight, eps, reduction)
    f_image, f_reference, weight = _promoted(f_image, f_reference, weight if reduction != "channel" else None)
    like_features = weight if weight.dtype == f_image.dtype else weight.to(f_image.dtype)
    if choose(backend, f_image, f_reference, like_features, kernel="feature_distance") == "torch":
        return reference_feature_distance(f_image, f_reference, weight, eps=eps, reduction=reduction)
    settings = [REDUCTIONS.index(reduction), 0, 0]
    if torch.is_grad_enabled():
        settings[1:] = int(f_image.requires_grad or f_reference.requires_grad), int(weight.requires_grad)
    return _fused(f_image, f_reference, weight, eps, settings)[0]


def reference_feature_distance(
    f_image: Tensor,
    f_reference: Tensor,
    weight: Tensor | None = None,
    *,
    eps: float = 1e-10,
    reduction: FeatureReduction = "image",
) -> Tensor:
    """The specification, in pure torch; every backend is held to it. Half types are computed in float32."""
    f_image, f_reference, weight = _promoted(f_image, f_reference, weight if reduction != "channel" else None)
    squares = (_unit(f_image, eps, weight.dtype) - _unit(f_reference, eps, weight.dtype)).square()  # [B, C, H, W]
    if reduction == "channel":
        return squares.mean((2, 3))
    weighted = (weight.view(-1, 1, 1) * squares).sum(1, keepdim=True)  # [B, 1, H, W]
    return weighted if reduction == "map" else weighted.mean((1, 2, 3))


def _unit(features: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    features = features.to(dtype)
    norm = torch.linalg.vector_norm(features, dim=1, keepdim=True)  # [B, 1, H, W]
    return features * (norm + eps).reciprocal().masked_fill(norm == 0, 0.0)


def _check(f_image: Tensor, f_reference: Tensor, weight: Tensor | None, eps: float, reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise InputError(f"reduction must be one of {', '.join(map(repr, REDUCTIONS))}; got {reduction!r}")
    if f_image.shape != f_reference.shape or f_image.ndim != 4:
        raise InputError(
            f"feature_distance takes two tensors of equal shape [B, C, H, W]; "
            f"got {list(f_image.shape)} and {list(f_reference.shape)}; expand a single reference to the batch"
        )
    if weight is None and reduction != "channel":
        raise InputError(f'reduction="{reduction}" needs a weight [C]; only "channel" does without one')
    given = (f_image, f_reference) if weight is None else (f_image, f_reference, weight)
    if weight is not None and weight.shape != f_image.shape[1:2]:
        raise InputError(f"weight must have one element per channel, [{f_image.shape[1]}]; got {list(weight.shape)}")
    for tensor in given:  # `choose` looks at the devices
        if not tensor.is_floating_point():
            dtypes = [str(t.dtype) for t in given]
            raise InputError(f"feature_distance takes floating point, got {dtypes}; use .float()")
    if not 0 <= eps < math.inf:
        raise InputError(f"eps must be finite and at least 0; got {eps!r}")


def _promoted(f_image: Tensor, f_reference: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Both features of one type, the weight of the type to compute in; without a weight, one of no elements."""
    if weight is None:
        weight = f_image.new_empty(0)
    if f_image.dtype in FLOATS and f_image.dtype == f_reference.dtype == weight.dtype:
        return f_image, f_reference, weight
    features = torch.promote_types(f_image.dtype, f_reference.dtype)
    computed = torch.promote_types(torch.promote_types(features, weight.dtype), torch.float32)
    if computed == torch.float64:
        features = computed
    return f_image.to(features), f_reference.to(features), weight.to(computed)


def _format(features: Tensor) -> torch.memory_format:
    """How a kernel reads features: as they are, if they are dense but for a batch that repeats one image."""
    one = features[:1] if _repeated(features) else features
    in_order = one.is_contiguous() or not one.is_contiguous(memory_format=torch.channels_last)
    return torch.contiguous_format if in_order else torch.channels_last


def _repeated(features: Tensor) -> bool:
    return features.shape[0] > 1 and features.stride(0) == 0


def _readable(features: Tensor, memory_format: torch.memory_format) -> tuple[Tensor, int]:
    """The features in a format, copied only if they must be, and the step from one image to the next."""
    repeated = _repeated(features)
    one = (features[:1] if repeated else features).resolve_neg().contiguous(memory_format=memory_format)
    return one, 0 if repeated else math.prod(features.shape[1:])


def _launch(op: str, f_image: Tensor, f_reference: Tensor, *arguments: Tensor | float) -> None:
    """Call a kernel with what all of them take first: both features and how they lie in memory."""
    batch, channels, height, width = f_image.shape
    positions = height * width
    image, reference, last = f_image, f_reference, False
    image_step = reference_step = channels * positions
    if not _plain(image) or not _plain(reference):
        memory_format = _format(f_image)
        last = memory_format == torch.channels_last
        (image, image_step), (reference, reference_step) = (_readable(f, memory_format) for f in (f_image, f_reference))
    sizes = (batch, channels, positions, image_step, reference_step, last)
    launch("cpu" if image.is_cpu else image.device.type, op, image, reference, *sizes, *arguments)


def _plain(features: Tensor) -> bool:
    """Whether a kernel reads them as NCHW where they are: the usual case, soon found out."""
    return features.is_contiguous() and not features.is_neg()


def _forward(
    f_image: Tensor, f_reference: Tensor, weight: Tensor, eps: float, settings: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """The distance, and what its gradients need, or empty tensors: the lengths `[B, 2, H, W]` of both vectors for
    those of the features, the channels' means `[B, C]` for that of the weight in reduction "image"."""
    reduction, learns_features, learns_weight = settings
    found = distance, lengths, means = _fake(f_image, f_reference, weight, eps, settings)
    value = distance if reduction == IMAGE else NULL
    at_positions = distance if reduction == MAP else NULL
    keep_means = learns_weight and reduction == IMAGE
    of_channels = distance if reduction == CHANNEL else means if keep_means else NULL
    wanted = (value, at_positions, of_channels, lengths if learns_features else NULL)
    scratch = () if f_image.is_cpu else _scratch(f_image, bool(keep_means or reduction == CHANNEL))
    _launch("feature_distance", f_image, f_reference, eps, dense(weight), NULL, *wanted, *scratch)
    return found


def _fake(
    f_image: Tensor, f_reference: Tensor, weight: Tensor, eps: float, settings: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    reduction, learns_features, learns_weight = settings
    batch, channels, height, width = f_image.shape
    shape = (batch,) if reduction == IMAGE else (batch, channels) if reduction == CHANNEL else (batch, 1, height, width)
    distance = f_image.new_empty(shape) if f_image.dtype in FLOATS else f_image.new_empty(shape, dtype=torch.float32)
    lengths = distance.new_empty((batch, 2, height, width) if learns_features else 0)
    means = distance.new_empty((batch, channels) if learns_weight and reduction == IMAGE else 0)
    return distance, lengths, means


def _forward_weighed(at_positions: Tensor, f_image: Tensor, f_reference: Tensor, eps: float) -> Tensor:
    """The channels' means `[B, C]` of u_c^2 times a number for each position, `[B, 1, H, W]`."""
    means = _fake_weighed(at_positions, f_image, f_reference, eps)
    scratch = _scratch(f_image, True)
    wanted = (NULL, NULL, means, NULL)
    _launch("feature_distance", f_image, f_reference, eps, NULL, dense(at_positions), *wanted, *scratch)
    return means


def _fake_weighed(at_positions: Tensor, f_image: Tensor, f_reference: Tensor, eps: float) -> Tensor:
    return at_positions.new_empty(f_image.shape[:2])


def _scratch(f_image: Tensor, of_channels: bool) -> list[Tensor]:
    """For the partial sums of the GPU's blocks."""
    if f_image.device.type != "cuda":
        return []
    batch, channels, height, width = f_image.shape
    doubles = module("cuda").feature_distance_partials(batch, channels, height * width, of_channels)
    return [f_image.new_empty(doubles, dtype=torch.float64)]


def _forward_gradients(
    of_channels: Tensor,
    at_positions: Tensor,
    f_image: Tensor,
    f_reference: Tensor,
    lengths: Tensor,
    eps: float,
    wanted: list[int],
) -> tuple[Tensor, Tensor]:
    """The gradients in both features of the sum of of_channels[b, c] at_positions[b, p] u^2 / 2; an `at_positions`
    without elements stands for ones. Empty where not wanted."""
    found = _fake_gradients(of_channels, at_positions, f_image, f_reference, lengths, eps, wanted)
    addresses = [gradient if want else NULL for gradient, want in zip(found, wanted, strict=True)]
    factors = dense(of_channels), dense(at_positions) if at_positions.numel() else NULL
    _launch("feature_distance_backward", f_image, f_reference, eps, *factors, lengths, *addresses)
    return found


def _fake_gradients(
    of_channels: Tensor,
    at_positions: Tensor,
    f_image: Tensor,
    f_reference: Tensor,
    lengths: Tensor,
    eps: float,
    wanted: list[int],
) -> tuple[Tensor, Tensor]:
    memory_format = _format(f_image)
    for_image, for_reference = [
        torch.empty_like(f_image, memory_format=memory_format) if want else f_image.new_empty(0) for want in wanted
    ]
    return for_image, for_reference


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    f_image, f_reference, weight, ctx.eps, settings = inputs
    ctx.reduction = settings[0]
    ctx.save_for_backward(f_image, f_reference, weight, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    *inputs, lengths, means = ctx.saved_tensors
    if torch.is_grad_enabled() or transformed(grad):  # with create_graph this is differentiated in turn
        reference = partial(reference_feature_distance, eps=ctx.eps, reduction=REDUCTIONS[ctx.reduction])
        return (*gradients_by_torch(reference, inputs, ctx.needs_input_grad[:3], grad), None, None)
    f_image, f_reference, weight = inputs
    *for_features, for_weight = ctx.needs_input_grad[:3]
    to_image = to_reference = to_weight = None
    if any(for_features):
        factors = _factors(ctx.reduction, grad, weight, f_image)
        wanted = [int(w) for w in for_features]
        gradients = _gradients(*factors, f_image, f_reference, lengths, ctx.eps, wanted)
        to_image, to_reference = (g if want else None for g, want in zip(gradients, wanted, strict=True))
    if for_weight:
        to_weight = _to_weight(ctx.reduction, grad, f_image, f_reference, means, ctx.eps)
    return to_image, to_reference, to_weight, None, None


def _factors(reduction: int, grad: Tensor, weight: Tensor, f_image: Tensor) -> tuple[Tensor, Tensor]:
    """What `_gradients` takes first: `[B, C]`, and `[B, 1, H, W]` or no elements."""
    if reduction == MAP:
        return (2 * weight).expand(f_image.shape[:2]), grad
    of_channels = grad * (2 / max(math.prod(f_image.shape[2:]), 1))
    return of_channels.unsqueeze(1) * weight if reduction == IMAGE else of_channels, grad.new_empty(0)


def _to_weight(reduction: int, grad: Tensor, f_image: Tensor, f_reference: Tensor, means: Tensor, eps: float) -> Tensor:
    positions = math.prod(f_image.shape[2:])
    if not positions:  # the means are NaN
        return grad.new_zeros(f_image.shape[1])
    return grad @ means if reduction == IMAGE else positions * _weighed(grad, f_image, f_reference, eps).sum(0)


_fused = op("feature_distance", _forward, fake=_fake, setup_context=_setup_context, backward=_backward, internal=2)
_weighed = op("feature_distance_weighed", _forward_weighed, fake=_fake_weighed)
_gradients = op("feature_distance_gradients", _forward_gradients, fake=_fake_gradients)
