"""What metrics say of judged images: one distance for each image, smaller is better, whatever a metric's direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

from iqazoo.data import JND, Triplets
from iqazoo.metric import Metric

Batch = dict[str, Any]
BATCH_PIXELS = 2**20
"""A batch holds no more pixels than this of each image of a row."""


@dataclass(frozen=True)
class Distances:
    """What was found for the rows of one set.

    Args:
        judgment: `[N]` float64, the fraction that preferred B, or that said "the same".
        subsets: `[N]` names.
        by_metric: metric -> `[K, N]` float64; of A and of B for triplets (K = 2), of the pair for JND (K = 1).
        errors: metric -> why it has no distances.
    """

    judgment: Tensor
    subsets: tuple[str, ...]
    by_metric: dict[str, Tensor] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def triplet_distances(
    dataset: Triplets,
    metrics: Mapping[str, Metric],
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Distances:
    """Score both images of every triplet. A metric that fails is left out and named in `errors`.

    Args:
        dataset: the triplets.
        metrics: metrics by name; no-reference ones judge A and B alone.
        device: where the metrics are.
        batch_size: at most so many rows of one size are scored together.
        progress: told the number of rows after each batch.
    """

    def distances(metric: Metric, batch: Batch) -> Tensor:
        a, b = batch["distA_img"].to(device), batch["distB_img"].to(device)
        judge = metric.with_reference(batch["ref_img"].to(device)) if metric.spec.takes_reference else metric
        return torch.stack([judge(a), judge(b)])

    return _collected(dataset, metrics, distances, "mos_label", batch_size, progress)


def pair_distances(
    dataset: JND,
    metrics: Mapping[str, Metric],
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> Distances:
    """Score every pair of a JND set; arguments as for `triplet_distances`, full-reference metrics only."""

    def distances(metric: Metric, batch: Batch) -> Tensor:
        return metric(batch["dist_img"].to(device), batch["ref_img"].to(device))[None]

    return _collected(dataset, metrics, distances, "same_label", batch_size, progress)


def _collected(
    dataset: Triplets | JND,
    metrics: Mapping[str, Metric],
    distances: Callable[[Metric, Batch], Tensor],
    label: str,
    batch_size: int,
    progress: Callable[[int], None] | None,
) -> Distances:
    judgments: list[Tensor] = []
    found: dict[str, list[Tensor]] = {name: [] for name in metrics}
    errors: dict[str, str] = {}
    for batch in _batches(dataset, batch_size):
        judgments.append(batch[label].flatten())
        for name, metric in metrics.items():
            if name in errors:
                continue
            try:
                with torch.inference_mode():
                    found[name].append(_oriented(metric, distances(metric, batch)))
            except Exception as error:  # a metric that fails on this size must not take the others along
                errors[name] = " ".join(str(error).split())
        if progress:
            progress(len(batch[label]))
    subsets = tuple(dataset.subset_of(i) for i in range(len(dataset)))
    joined = {name: torch.cat(parts, dim=1) for name, parts in found.items() if name not in errors}
    return Distances(torch.cat(judgments).to(torch.float64), subsets, joined, errors)


def _oriented(metric: Metric, scores: Tensor) -> Tensor:
    scores = scores.to("cpu", torch.float64)
    return scores if metric.spec.lower_is_better else -scores


def _batches(dataset: Triplets | JND, batch_size: int) -> Iterator[Batch]:
    """Rows in order, collated while their images have one size."""
    batch: list[Batch] = []
    for i in range(len(dataset)):
        row = dataset[i]
        full = len(batch) >= min(batch_size, max(1, BATCH_PIXELS // row["ref_img"][0].numel()))
        if batch and (full or _sizes(row) != _sizes(batch[0])):
            yield default_collate(batch)
            batch = []
        batch.append(row)
    if batch:
        yield default_collate(batch)


def _sizes(row: Batch) -> list[torch.Size]:
    return [value.shape for value in row.values() if isinstance(value, Tensor)]
