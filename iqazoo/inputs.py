"""What a metric refuses, and what it tells the user to do instead."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.metric_spec import MetricSpec

CHANNEL_NAMES = {1: "1 channel (gray)", 3: "3 channels (RGB)"}


def check_image(spec: MetricSpec, network: nn.Module, name: str, value: Any) -> None:
    """Raise InputError unless `value` is a float `[B, C, H, W]` that the metric takes.

    Looks at shape, type and device only, so it costs nothing and never waits for a device. A network may say by
    an attribute `min_size` that its options need other sizes than the spec's.
    """
    if not isinstance(value, Tensor) or value.ndim != 4:
        raise InputError(f"{name} must be a tensor [B, C, H, W], got {_described(value)}; add a batch with x[None]")
    if not value.is_floating_point():
        raise InputError(f"{name} must be float in [0, 1], got {_described(value)}; for 8 bits: x.float() / 255")
    batch, channels, height, width = value.shape
    if batch == 0:
        raise InputError(f"{name} is an empty batch, {_described(value)}; give one image or more")
    if channels not in spec.channels:
        raise InputError(
            f"{spec.name} takes {' or '.join(CHANNEL_NAMES[c] for c in spec.channels)}, {name} is "
            f"{_described(value)}; the order is [B, C, H, W]; drop alpha, or repeat gray by x.expand(-1, 3, -1, -1)"
        )
    least = getattr(network, "min_size", spec.min_size)
    if min(height, width) < least:
        raise InputError(
            f"{spec.name} needs at least {least} x {least} pixels, {name} has {height} x {width}; "
            "enlarge it, or choose another metric or options"
        )
    home = next(chain(network.parameters(), network.buffers()), value).device
    if home != value.device:
        raise InputError(f"{spec.name} is on {home}, {name} on {value.device}; move one of them with .to(device)")


def check_presence(spec: MetricSpec, reference: Tensor | None) -> None:
    """Raise InputError where a reference is missing, or given to a metric that takes none."""
    if spec.takes_reference and reference is None:
        raise InputError(f"{spec.name} compares with a reference; call metric(image, reference)")
    if not spec.takes_reference and reference is not None:
        raise InputError(f"{spec.name} judges an image alone; call metric(image)")


def check_alike(image: Tensor, reference: Tensor) -> None:
    """Raise InputError unless both have one shape and one device."""
    if image.shape != reference.shape:
        raise InputError(
            f"image and reference must have one shape, got {_described(image)} and {_described(reference)}; "
            "resize or crop one of them; for one reference and many images use metric.with_reference(reference)"
        )
    if image.device != reference.device:
        raise InputError(f"image is on {image.device}, reference on {reference.device}; move one with .to(device)")


def check_values(name: str, value: Tensor, data_range: float) -> None:
    """Raise InputError unless every value is finite and in [0, data_range]. Waits for the device."""
    low, high = (v.item() for v in torch.aminmax(value))
    if not (low >= 0 and high <= data_range):  # NaN fails too
        raise InputError(
            f"{name} must lie in [0, {data_range:g}], got values from {low:g} to {high:g}; "
            "divide 8-bit values by 255, map [-1, 1] by (x + 1) / 2, clamp what overshoots"
        )


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}"
    return f"{type(value).__name__}"
