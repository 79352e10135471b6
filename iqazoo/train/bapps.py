"""Training on judgments: which of A and B is closer to the reference? (2AFC, as in BAPPS.)"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iqazoo.errors import InputError
from iqazoo.evaluate.two_afc import agreement, by_subset
from iqazoo.train import order, sheet
from iqazoo.train.quality import QualityTrainer

INPUTS = ("ref_img", "distA_img", "distB_img", "mos_label")


class BAPPSTrainer(QualityTrainer):
    """Trains any metric on judgments.

    A batch is `{ref_img, distA_img, distB_img, mos_label, img_path}`; `mos_label`, `[B]` or `[B, 1]`, is the fraction
    of people who preferred B. Use a `judgment.Judgment` as objective. What is validated is the 2AFC score of each
    subset and their mean, in which every subset counts the same, as in the paper.
    """

    key = "2afc"
    columns = 3
    smallest_part = 1

    def feed_data(self, batch: Mapping[str, Any]) -> None:
        """Take a batch to the device; the label becomes `[B]`."""
        self.feed(batch, INPUTS)

    @torch.no_grad()
    def test(self) -> None:
        """Score the batch: `outputs` are d of A and B, larger for the worse, and the preference, `[B, 3]`."""
        verdict = self.result(*self.inputs)
        columns = (verdict.d_a, verdict.d_b, self.inputs[-1])
        self.outputs = torch.stack([column.double() for column in columns], 1)

    def prepare(self) -> None:
        """Before a new run: begin the temperature of the loss, if it has one, at the scale of the metric."""
        if getattr(self.objective.loss, "log_scale", None) is None:
            return
        # The whole batch, of which each process trains on a part: they must begin alike.
        whole = order.batches(len(self.train_data), self.config.batch_size, seed=self.config.seed, epoch=0)[0]
        parts = [whole[at : at + self.part_size] for at in range(0, len(whole), self.part_size)]
        outputs = []
        for batch in self._loader(self.train_data, batch_sampler=parts):
            self.feed_data(batch)
            self.test()
            outputs.append(self.outputs)
        d_a, d_b, _ = torch.cat(outputs).unbind(1)
        self.objective.loss.start_from(d_a, d_b)

    def summary(self, data: Any, outputs: Tensor) -> dict[str, float]:
        """The 2AFC score of each subset, "2afc", their mean, and "pooled", that of all samples alike.

        Raises:
            InputError: a subset has no sample.
        """
        d_a, d_b, preference = outputs.unbind(1)
        found = agreement(d_a, d_b, preference)
        parts = by_subset(found, [data.subset_of(i) for i in range(len(data))])
        for subset in data.subset_names:
            if subset not in parts:
                raise InputError(f"the subset {subset} has no judgment; leave it out of --val-subsets")
        scores = {subset: parts[subset].mean().item() for subset in data.subset_names}
        mean = sum(scores.values()) / len(scores)
        return {"2afc": mean, **{f"2afc/{k}": v for k, v in scores.items()}, "pooled": found.mean().item()}

    def write_images(self, data: Any, outputs: Tensor, path: Path) -> None:
        """A sheet of the triplets that the metric gets most wrong."""
        sheet.write(data, outputs, path)
