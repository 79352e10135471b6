"""Training on ratings: a score for each image, against people's opinion of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.evaluate.correlation import kendall_tau
from iqazoo.metric_spec import MetricSpec
from iqazoo.ops import ranking_loss
from iqazoo.train.base import BaseTrainer


class Ranking(NamedTuple):
    """What a batch of ratings gives: two `[]`, and the scores `[B]`."""

    loss: Tensor
    agreement: Tensor
    score: Tensor


class RatingObjective(nn.Module):
    """A metric's network, and a loss that asks for the order of the ratings within a batch (RankNet).

    So neither the scale nor the range of ratings or scores matters; a learnt temperature finds the scale. A trainer
    calls it for each part of a batch, of which there is one for each process and each of `--accumulate`: pairs are
    those within a part.
    """

    def __init__(self, spec: MetricSpec, network: nn.Module) -> None:
        super().__init__()
        self.spec = spec
        self.network: Any = network
        self.loss = nn.ParameterDict({"log_scale": nn.Parameter(torch.zeros(()))})

    def forward(self, rating: Tensor, image: Tensor, reference: Tensor | None = None) -> Ranking:
        """`[B]`, larger is better, and `[B, C, H, W]` once or twice -> loss, share of pairs in order, scores."""
        score = self.network(image) if reference is None else self.network(image, reference)
        score = score.to(torch.promote_types(score.dtype, torch.float32))
        scaled = score * self.loss["log_scale"].exp().to(score.dtype)
        result = ranking_loss(scaled, rating, lower_is_better=self.spec.lower_is_better)
        ordered = result.concordant + result.discordant
        return Ranking(result.loss, (result.concordant / ordered.clamp_min(1)).to(result.loss.dtype), score.detach())


class QualityTrainer(BaseTrainer):
    """Trains a score against a rating: `net(image)`, or `net(image, reference)` where the metric compares.

    A batch is `{img, mos_label, img_path}`, with `ref_img` for metrics that compare; `mos_label` `[B]` or `[B, 1]`
    is larger for the better. Use a `RatingObjective`. What is validated is Kendall's rank correlation.

    Raises:
        InputError: processes and `--accumulate` leave a part of a batch fewer than 2 images, so no pair to learn from.
    """

    key = "krcc"
    columns = 2
    smallest_part = 2

    def feed_data(self, batch: Mapping[str, Any]) -> None:
        """Take a batch to the device."""
        names = ("mos_label", "img", "ref_img") if self.spec.takes_reference else ("mos_label", "img")
        self.feed(batch, names)

    def feed(self, batch: Mapping[str, Any], names: tuple[str, ...]) -> None:
        """Take the named tensors to the device, as `inputs` in that order; labels become `[B]`.

        Raises:
            InputError: one is missing, or there is not one label for each image.
        """
        missing = [name for name in names if name not in batch]
        if missing:
            raise InputError(f"a batch needs {', '.join(names)}; got {', '.join(batch)}")
        self.inputs = tuple(self._moved(name, batch[name]) for name in names)
        self.paths = list(batch.get("img_path", ()))
        if len({len(t) for t in self.inputs}) != 1:
            shapes = ", ".join(f"{n} {list(batch[n].shape)}" for n in names)
            raise InputError(f"a batch needs one label for each image; got {shapes}")

    @torch.no_grad()
    def test(self) -> None:
        """Score the batch: `outputs` are score and rating, `[B, 2]`."""
        rating, *images = self.inputs
        self.outputs = torch.stack((self.result(rating, *images).score.double(), rating.double()), 1)

    def result(self, *inputs: Tensor) -> Any:
        """What the objective gives in eval mode, with the network that will be exported."""
        self.evaluated.eval()
        with self.autocast():
            found = self.evaluated(*inputs)
        self.train_mode()
        return found

    def summary(self, data: Any, outputs: Tensor) -> dict[str, float]:
        """Kendall's correlation between quality and rating."""
        score, rating = outputs.unbind(1)
        return {"krcc": kendall_tau(-score if self.spec.lower_is_better else score, rating)}

    def _moved(self, name: str, value: Tensor) -> Tensor:
        if name == "mos_label":  # a column [B, 1] would broadcast against scores [B] to [B, B]
            value = value.flatten()
        layout = self.layout if value.ndim == 4 else torch.preserve_format
        return value.to(self.device, non_blocking=True, memory_format=layout)
