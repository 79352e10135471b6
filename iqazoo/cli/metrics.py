"""How commands come by the metrics that they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from iqazoo.cli.output import say
from iqazoo.errors import InputError, PluginError, WeightsError
from iqazoo.metric_spec import MetricSpec
from iqazoo.weights import is_present

if TYPE_CHECKING:
    from iqazoo.metric import Metric


def usable_device(device: str | None) -> str:
    """The device that was asked for; the first GPU, or the CPU where there is none, if none was.

    Raises:
        InputError: it cannot be used.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise InputError(f"--device {device} cannot be used: {error}") from error
    return device


def with_weights(words: str) -> tuple[str, str | None]:
    """From what a user writes, NAME or NAME=FILE or NAME=none, to name and weights as `create` takes them."""
    name, _, file = words.partition("=")
    return name, None if file == "none" else file or "default"


def create_or_say(
    name: str, spec: MetricSpec, device: str, weights: str | Path | None = "default", label: str | None = None
) -> Metric | None:
    """The metric, or None and a line on stderr where it cannot be had, so that the others go on.

    Args:
        name, device, weights: as for `create`.
        spec: of the metric.
        label: what the user calls it; its name where None.
    """
    from iqazoo.factory import create

    try:
        return create(name, device=device, weights=weights)
    except PluginError as error:
        say(f"{label or name} is left out: {error}")
    except WeightsError as error:
        missing = weights == "default" and not all(map(is_present, spec.weights))
        say(f"{label or name} is left out: {_in_one_line(error, name, missing)}")
    return None


def _in_one_line(error: WeightsError, name: str, missing: bool) -> str:
    if missing:  # a download that failed has much to say
        return f"{str(error).splitlines()[0].rstrip(':')}; `iqazoo weights fetch {name}` says why"
    return " ".join(str(error).split())
