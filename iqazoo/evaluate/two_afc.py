"""Two-alternative forced choice: how often a distance picks the image that people picked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from iqazoo.errors import InputError


def agreement(distance_a: Tensor, distance_b: Tensor, preference: Tensor) -> Tensor:
    """The share of people that a distance agrees with, for each triplet; its mean is the 2AFC score.

    1 - p where A is nearer, p where B is, 1/2 where both are equally far; Zhang, Isola, Efros, Shechtman, Wang,
    The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018.

    Args:
        distance_a, distance_b: `[N]`, of A and of B from the reference, smaller is nearer. Give minus the score of a
            metric whose larger scores are better.
        preference: `[N]` in [0, 1], the fraction p of people who preferred B.

    Returns:
        `[N]` float64 in [0, 1]; NaN where a distance is NaN.

    Raises:
        InputError: shapes are not as above, or a preference is not in [0, 1].
    """
    p = _checked(preference)
    if distance_a.shape != p.shape or distance_b.shape != p.shape:
        raise InputError(
            f"distances and preferences must have one shape [N], got {list(distance_a.shape)}, "
            f"{list(distance_b.shape)} and {list(p.shape)}; flatten [N, 1] first"
        )
    difference = torch.where(distance_a == distance_b, 0, distance_a - distance_b)  # infinities may tie too
    return 0.5 + torch.sign(difference).to(torch.float64).masked_fill(difference.isnan(), torch.nan) * (p - 0.5)


def by_subset(values: Tensor, subsets: Sequence[str]) -> dict[str, Tensor]:
    """Divide the columns of `[..., N]` by the subset that each belongs to, in the order in which subsets first come.

    Args:
        values: one or more for each judgment, such as from `agreement`, whose means are then the 2AFC scores.
        subsets: N names.
    """
    places: dict[str, list[int]] = {}
    for i, name in enumerate(subsets):
        places.setdefault(name, []).append(i)
    return {name: values[..., chosen] for name, chosen in places.items()}


def human_agreement(preference: Tensor) -> Tensor:
    """The share of people that one more person would agree with, who picks B as often as they did: p^2 + (1 - p)^2.

    Args:
        preference: `[N]` in [0, 1].

    Returns:
        `[N]` float64 in [0.5, 1]. Its mean is the "human" row of the BAPPS paper.

    Raises:
        InputError: as for `agreement`.
    """
    p = _checked(preference)
    return p**2 + (1 - p) ** 2


def best_agreement(preference: Tensor) -> Tensor:
    """The largest share that any choice can agree with: max(p, 1 - p). No metric gets beyond its mean.

    Args, returns, raises: as for `human_agreement`.
    """
    p = _checked(preference)
    return torch.maximum(p, 1 - p)


def _checked(preference: Tensor) -> Tensor:
    if preference.ndim != 1 or not ((preference >= 0) & (preference <= 1)).all():
        raise InputError(
            f"preferences must be [N] fractions from 0 to 1, got {list(preference.shape)} with values from "
            f"{preference.min().item() if preference.numel() else 'none'}; flatten [N, 1], and divide counts by raters"
        )
    return preference.to(torch.float64)
