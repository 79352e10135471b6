"""The metric under test, and what a check says of it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iqazoo.factory import create_from
from iqazoo.metric import Metric
from iqazoo.metric_spec import MetricSpec
from iqazoo.testing import pictures
from iqazoo.weights import is_present

SEED = 0
STRONG = (("gaussian_noise", 1.0), ("gaussian_blur", 1.0), ("jpeg", 1.0))
MILD = (("gaussian_noise", 0.1), ("gaussian_blur", 0.15), ("jpeg", 0.1))


class CheckFailed(AssertionError):
    """A metric does not do what its contract or its spec says; the message tells what was expected and what came."""


class NotApplicable(Exception):
    """The check asks for what the spec does not promise."""


class Subject:
    """A metric with pictures that it takes.

    Args:
        spec: of the metric, registered or not.
        weights: "auto" for the published ones where they are on this machine, else random ones from a fixed seed;
            or as `create` takes them.
    """

    def __init__(self, spec: MetricSpec, weights: str | Path | None = "auto") -> None:
        self.spec = spec
        if weights == "auto":
            published = bool(spec.weights) and all(is_present(file) for file in spec.weights)
            weights = "default" if published else None
        self.weights = weights
        self.channels = max(spec.channels)
        self.min_size: int = getattr(self.metric.network, "min_size", spec.min_size)
        # Not square and no multiple of 16, so that a mistake in either shows.
        self.height, self.width = max(71, self.min_size), max(95, self.min_size + 3)

    @functools.cached_property
    def metric(self) -> Metric:
        """The metric, for checks that leave it as it is."""
        return self.new()

    @property
    def has_random_weights(self) -> bool:
        """Whether nobody trained what is under test."""
        return self.weights is None and next(self.metric.parameters(), None) is not None

    def new(self, seed: int = SEED, weights: str | Path | None = "as given") -> Metric:
        """Another instance. A seed makes random parameters the same each time."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            metric = create_from(self.spec, device="cpu", weights=self.weights if weights == "as given" else weights)
        if self.weights is None and callable(getattr(metric.network, "constrain_", None)):
            metric.network.constrain_()
        return metric

    def photographs(self, channels: int = 0, height: int = 0, width: int = 0) -> Tensor:
        """`[3, C, H, W]`, undistorted."""
        return pictures.photographs(channels or self.channels, height or self.height, width or self.width)

    def distorted(self, family: str, severity: float, channels: int = 0, height: int = 0, width: int = 0) -> Tensor:
        """The photographs with a distortion, `[3, C, H, W]`."""
        sizes = channels or self.channels, height or self.height, width or self.width
        return pictures.distorted(family, severity, *sizes)

    def inputs(self, channels: int = 0, height: int = 0, width: int = 0) -> tuple[Tensor, ...]:
        """Three different images `[3, C, H, W]`, and their references where the metric takes some."""
        sizes = channels, height, width
        made = [self.distorted(family, 0.4, *sizes) for family in ("gaussian_noise", "gaussian_blur", "jpeg")]
        image = torch.stack([one[i] for i, one in enumerate(made)])
        return (image, self.photographs(*sizes)) if self.spec.takes_reference else (image,)

    def against(self, image: Tensor) -> tuple[Tensor, ...]:
        """The image, and the photographs of its size as references where the metric takes some."""
        _, channels, height, width = image.shape
        return (image, self.photographs(channels, height, width)) if self.spec.takes_reference else (image,)

    def score(self, *inputs: Tensor, metric: Any = None) -> Tensor:
        """`[B]`, without a graph."""
        with torch.no_grad():
            return (self.metric if metric is None else metric)(*inputs)

    def worse(self, score: Tensor) -> Tensor:
        """The score turned so that more is worse."""
        return score if self.spec.lower_is_better else -score

    @functools.cached_property
    def spread(self) -> float:
        """By how much scores of strong and mild distortions differ: the scale on which scores are compared."""
        strong, mild = (
            torch.stack([self.score(*self.against(self.distorted(*one))) for one in some]).double()
            for some in (STRONG, MILD)
        )
        return (strong.mean() - mild.mean()).abs().nan_to_num(0, 0, 0).item()

    def require_equal(self, got: Tensor, expected: Tensor, what: str, tolerance: float = 1e-4) -> None:
        """Fail unless scores agree to a part of themselves and of what separates good images from bad ones.

        Raises:
            CheckFailed: they do not.
        """
        got, expected = got.detach().double().cpu(), expected.detach().double().cpu()
        if got.shape != expected.shape:
            raise CheckFailed(f"{what}: expected the shape {list(expected.shape)}, got {list(got.shape)}")
        if not torch.allclose(got, expected, rtol=tolerance, atol=tolerance * self.spread, equal_nan=True):
            raise CheckFailed(f"{what}: expected {told(expected)}, got {told(got)} (tolerance {tolerance:g})")


def require(holds: bool, message: str) -> None:
    """Fail with the message unless something holds.

    Raises:
        CheckFailed: it does not.
    """
    if not holds:
        raise CheckFailed(message)


def told(values: Tensor) -> str:
    """Numbers as people read them."""
    shown = [f"{v:.6g}" for v in values.flatten()[:8].tolist()]
    return f"[{', '.join(shown)}{', ...' if values.numel() > 8 else ''}]"
