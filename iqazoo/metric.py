"""`create` and `Metric`, what users hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from iqazoo import inputs
from iqazoo.errors import InputError, PluginError
from iqazoo.metric_spec import MetricSpec

Reduction = Literal["mean", "none"]


class Metric(nn.Module):
    """A network with its spec: checks what comes in, hands back `[B]` scores.

    Always in eval mode, parameters frozen, differentiable in the images. It computes in the type of its
    parameters (`metric.double()` for float64), or in the images' where it has none: float64 if one of them is, else
    float32.

    Args:
        spec: what the metric says of itself.
        network: an instance of the spec's network.
    """

    def __init__(self, spec: MetricSpec, network: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.network: Any = network.requires_grad_(False).eval()

    def forward(self, image: Tensor, reference: Tensor | None = None, *, check: bool = False) -> Tensor:
        """Score images.

        Args:
            image: `[B, C, H, W]` in [0, 1], the images under test.
            reference: the same shape, for full-reference metrics.
            check: also verify that values are finite and in [0, 1], or the network's `data_range` where it has
                one (waits for the device).

        Returns:
            `[B]`, float64 where `image` is, else float32.

        Raises:
            InputError: shapes, types, devices or values are not what the metric takes.
            PluginError: the network's result is not `[B]`.
        """
        return self._scores(image, self.network(*self._inputs(image, reference, check)))

    def loss(self, image: Tensor, reference: Tensor | None = None, reduction: Reduction = "mean") -> Tensor:
        """What to minimise: the score where lower is better; else the best possible score minus it, or minus it
        alone where the best is infinite.

        Args:
            image, reference: as for `forward`.
            reduction: "mean" for a scalar, "none" for `[B]`.

        Raises:
            InputError: as `forward`, or there is no such reduction.
        """
        return _loss(self.spec, self(image, reference), reduction)

    def map(self, image: Tensor, reference: Tensor | None = None) -> Tensor:
        """Where in the image the score comes from: `[B, 1, H, W]`.

        Raises:
            InputError: as `forward`, or the metric has no map.
        """
        if not self.spec.spatial:
            raise InputError(f"{self.spec.name} has no map; `iqazoo list` shows which metrics have one")
        return self.network.map(*self._inputs(image, reference, False)).to(_score_type(image))

    def with_reference(self, reference: Tensor) -> ReferencedMetric:
        """The metric against one reference, whose features are computed once and without a graph.

        Args:
            reference: `[1 or B, C, H, W]` in [0, 1]; a batch of 1 serves image batches of any size.

        Raises:
            InputError: the metric takes no reference, or as `forward`.
        """
        inputs.check_presence(self.spec, reference)
        inputs.check_image(self.spec, self.network, "reference", reference)
        with torch.inference_mode(False):  # a tensor of inference mode could not be used with gradients later
            own = reference.detach().clone()  # what the caller writes into the reference later changes no score
        return ReferencedMetric(self, own)

    def train(self, mode: bool = True) -> Metric:
        """Stays in eval mode, also inside a model that is set to train: a metric must not change while it scores."""
        return super().train(False)

    def extra_repr(self) -> str:
        return f"{self.spec.name} {self.spec.arrow}, {self.spec.kind}, range={self.spec.score_range}"

    def _inputs(self, image: Tensor, reference: Tensor | None, check: bool) -> tuple[Tensor, ...]:
        inputs.check_presence(self.spec, reference)
        given = {"image": image} if reference is None else {"image": image, "reference": reference}
        for name, value in given.items():
            inputs.check_image(self.spec, self.network, name, value)
            if check:
                inputs.check_values(name, value, getattr(self.network, "data_range", 1.0))
        if reference is not None:
            inputs.check_alike(image, reference)
        computed_in = self._computes_in(*given.values())
        return tuple(value.to(computed_in) for value in given.values())

    def _scores(self, image: Tensor, scores: Any) -> Tensor:
        if not isinstance(scores, Tensor) or scores.shape != (len(image),):
            found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise PluginError(
                f"metric {self.spec.name!r}: its network must give one score per image, [{len(image)}], "
                f"got {found}; its author must flatten or average it"
            )
        return scores.to(_score_type(image))

    def _computes_in(self, *images: Tensor) -> torch.dtype:
        return next((p.dtype for p in self.network.parameters()), _score_type(*images))


class ReferencedMetric:
    """A metric bound to a reference, made by `Metric.with_reference`.

    Where the network has `features` and `distance`, the reference's features are kept and used again.
    """

    def __init__(self, metric: Metric, reference: Tensor) -> None:
        self._metric = metric
        self._reference = reference  # [1 or B, C, H, W]
        self._features = None
        self._type = metric._computes_in(reference)
        network = metric.network
        if hasattr(network, "features") and hasattr(network, "distance"):
            with torch.no_grad():
                self._features = network.features(reference.to(self._type))

    def __call__(self, image: Tensor) -> Tensor:
        """`[B, C, H, W]` in [0, 1] -> `[B]`; raises as `Metric.forward`."""
        metric, reference = self._metric, self._matching(image)
        if self._features is None:
            return metric(image, reference)
        image_, _ = metric._inputs(image, reference, False)
        if image_.dtype != self._type:  # features of one type cannot meet those of another
            return metric(image, reference)
        kept = self._features if len(reference) == len(self._reference) else _expand(self._features, len(image))
        return metric._scores(image, metric.network.distance(metric.network.features(image_), kept))

    def loss(self, image: Tensor, reduction: Reduction = "mean") -> Tensor:
        """As `Metric.loss`."""
        return _loss(self._metric.spec, self(image), reduction)

    def map(self, image: Tensor) -> Tensor:
        """As `Metric.map`."""
        return self._metric.map(image, self._matching(image))

    def _matching(self, image: Tensor) -> Tensor:
        """The reference, repeated without a copy where one serves many."""
        once = len(self._reference) == 1
        return self._reference.expand(len(image), -1, -1, -1) if once else self._reference


def _expand(features: Any, batch: int) -> Any:
    """Repeat every tensor of a nested tuple, list or dict from a batch of 1 to `batch`, without a copy."""
    if isinstance(features, Tensor):
        return features.expand(batch, *features.shape[1:])
    if isinstance(features, Mapping):
        return {key: _expand(value, batch) for key, value in features.items()}
    expanded = [_expand(value, batch) for value in features]
    if isinstance(features, list):
        return expanded
    return type(features)(*expanded) if hasattr(features, "_fields") else tuple(expanded)  # a namedtuple, a tuple


def _score_type(*images: Tensor) -> torch.dtype:
    return torch.float64 if any(image.dtype == torch.float64 for image in images) else torch.float32


def _loss(spec: MetricSpec, score: Tensor, reduction: Reduction) -> Tensor:
    if reduction not in ("mean", "none"):
        raise InputError(f"reduction must be 'mean' or 'none'; got {reduction!r}")
    best = spec.score_range[1]
    if not spec.lower_is_better:
        score = best - score if math.isfinite(best) else -score
    return score.mean() if reduction == "mean" else score
