"""The table of BAPPS: 2AFC and JND by subset, averages, 95% intervals, limits, and tests between metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from iqazoo.data import JND, Triplets
from iqazoo.evaluate.bootstrap import RESAMPLES, interval, mean_of, resample
from iqazoo.evaluate.distances import Distances, pair_distances, triplet_distances
from iqazoo.evaluate.jnd import average_precision
from iqazoo.evaluate.significance import holm, sign_flip_test
from iqazoo.evaluate.two_afc import agreement, best_agreement, by_subset, human_agreement
from iqazoo.metric import Metric

HUMAN, BEST = "(human)", "(best reachable)"
OVERALL = "overall"
AVERAGES = {
    "average distortions": ("traditional", "cnn"),
    "average algorithms": ("superres", "deblur", "color", "frameinterp"),
}
"""The averages of the BAPPS paper, each shown where all of its subsets are."""


@dataclass(frozen=True)
class Figure:
    """One cell of the table.

    Args:
        measure: "2afc" or "jnd".
        metric: its name, or `HUMAN` or `BEST`.
        subset: its name, one of `AVERAGES`, or `OVERALL`: the mean over all subsets, each counted once.
        value, low, high: 2AFC score or average precision, in [0, 1], and its 95% bootstrap interval.
        count: the number of rows behind it.
    """

    measure: str
    metric: str
    subset: str
    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Comparison:
    """Whether one metric is better than another in the overall 2AFC score.

    Args:
        metric, other: their names.
        difference, low, high: score of the first minus that of the second, and its 95% bootstrap interval.
        p: of the paired sign-flip test.
        p_holm: the same, adjusted for the number of comparisons made.
        count: the number of triplets.
    """

    metric: str
    other: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    count: int


@dataclass(frozen=True)
class Report:
    """What `evaluate_bapps` found; `errors` says of each metric that failed, and on what, why."""

    figures: tuple[Figure, ...]
    comparisons: tuple[Comparison, ...]
    errors: dict[str, str]


@dataclass(frozen=True)
class _Part:
    """The scores of all metrics in one subset: `[M]`, and of resampled judgments: `[M, R]`."""

    values: Tensor
    replicates: Tensor
    count: int


def evaluate_bapps(
    triplets: Triplets,
    pairs: JND | None,
    metrics: Mapping[str, Metric],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Judge metrics by people's judgments.

    Args:
        triplets: for 2AFC.
        pairs: for JND, which no-reference metrics take no part in; None to leave it out.
        metrics: metrics by name.
        device: where the metrics are.
        batch_size: at most so many rows of one size are scored together.
        resamples: of the bootstrap.
        seed: of the bootstrap and of the tests.
        progress: told the number of rows after each batch.

    Raises:
        InputError: an image or a judgment cannot be read, or there is nothing to resample.
    """
    chosen = triplet_distances(triplets, metrics, device, batch_size, progress)
    figures = two_afc_figures(chosen, resamples, seed)
    errors = {f"{name}, 2afc": error for name, error in chosen.errors.items()}
    if pairs is not None:
        comparing = {name: metric for name, metric in metrics.items() if metric.spec.takes_reference}
        told = pair_distances(pairs, comparing, device, batch_size, progress)
        figures += jnd_figures(told, resamples, seed)
        errors |= {f"{name}, jnd": error for name, error in told.errors.items()}
    return Report(tuple(figures), tuple(compare(chosen, resamples, seed)), errors)


def two_afc_figures(found: Distances, resamples: int = RESAMPLES, seed: int = 0) -> list[Figure]:
    """2AFC of every metric, of a human and of the best possible choice, by subset and on average.

    Args:
        found: from `triplet_distances`.
        resamples: of the bootstrap, within each subset.
        seed: of the bootstrap.
    """
    return _figures("2afc", [*found.by_metric, HUMAN, BEST], _mean_parts(_agreements(found), found, resamples, seed))


def compare(found: Distances, resamples: int = RESAMPLES, seed: int = 0) -> list[Comparison]:
    """Test every pair of metrics on the overall 2AFC score; arguments as for `two_afc_figures`."""
    agreements = _agreements(found)
    overall = _mean_of(list(_mean_parts(agreements, found, resamples, seed).values()))
    # Each subset counts once, whatever its number of rows.
    parts = by_subset(agreements, found.subsets).values()
    weighted = torch.cat([part / part.shape[1] / len(parts) for part in parts], dim=1)
    pairs = list(combinations(range(len(found.by_metric)), 2))
    p_values = [sign_flip_test(weighted[i] - weighted[j], seed=seed) for i, j in pairs]
    names = list(found.by_metric)
    return [
        Comparison(
            names[i],
            names[j],
            (overall.values[i] - overall.values[j]).item(),
            *interval(overall.replicates[i] - overall.replicates[j]),
            p,
            adjusted,
            overall.count,
        )
        for (i, j), p, adjusted in zip(pairs, p_values, holm(p_values), strict=True)
    ]


def jnd_figures(found: Distances, resamples: int = RESAMPLES, seed: int = 0) -> list[Figure]:
    """Average precision of every metric, by subset and their mean (mAP); arguments as for `two_afc_figures`."""
    if not found.by_metric:
        return []
    distances = torch.cat(list(found.by_metric.values()))  # [M, N]
    same = by_subset(found.judgment, found.subsets)
    parts = {
        subset: _precision_part(values, same[subset], resamples, _seed(seed, number))
        for number, (subset, values) in enumerate(by_subset(distances, found.subsets).items())
    }
    return _figures("jnd", list(found.by_metric), parts)


def _agreements(found: Distances) -> Tensor:
    """`[M + 2, N]`: the metrics', a human's and the best possible."""
    p = found.judgment
    metrics = [agreement(a, b, p) for a, b in found.by_metric.values()]
    return torch.stack([*metrics, human_agreement(p), best_agreement(p)])


def _mean_parts(values: Tensor, found: Distances, resamples: int, seed: int) -> dict[str, _Part]:
    parts = {}
    for number, (subset, part) in enumerate(by_subset(values, found.subsets).items()):
        replicates = resample(mean_of(part), part.shape[1], resamples, _seed(seed, number))
        parts[subset] = _Part(part.mean(1), replicates, part.shape[1])
    return parts


def _seed(seed: int, number: int) -> int:
    """Subsets are drawn from independently of each other, also where they have equally many rows."""
    return 1000 * seed + number


def _precision_part(distances: Tensor, same: Tensor, resamples: int, seed: int) -> _Part:
    def precisions(times: Tensor) -> Tensor:
        return torch.stack([average_precision(distance, same, times) for distance in distances])

    once = torch.ones(1, len(same), dtype=torch.float64)
    return _Part(precisions(once)[:, 0], resample(precisions, len(same), resamples, seed), len(same))


def _figures(measure: str, names: Sequence[str], parts: Mapping[str, _Part]) -> list[Figure]:
    groups: dict[str, tuple[str, ...]] = {subset: (subset,) for subset in parts}
    groups |= {name: subsets for name, subsets in AVERAGES.items() if set(subsets) <= parts.keys()}
    groups[OVERALL] = tuple(parts)
    figures = []
    for group, subsets in groups.items():
        mean = _mean_of([parts[subset] for subset in subsets])
        for name, value, replicates in zip(names, mean.values.tolist(), mean.replicates, strict=True):
            figures.append(Figure(measure, name, group, value, *interval(replicates), mean.count))
    return figures


def _mean_of(parts: Sequence[_Part]) -> _Part:
    values = torch.stack([part.values for part in parts]).mean(0)
    return _Part(values, torch.stack([part.replicates for part in parts]).mean(0), sum(part.count for part in parts))
