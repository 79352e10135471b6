"""Checks of what a score means: the better image has the better score."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from iqazoo.testing.subject import MILD, STRONG, NotApplicable, Subject, require, told

LEVELS = (0.1, 0.3, 0.6, 1.0)


def check_identity(subject: Subject) -> None:
    """No image is closer to the reference than the reference itself."""
    _require_reference(subject)
    same = subject.worse(subject.score(*subject.against(subject.photographs())))
    slack = 1e-5 * max(1.0, subject.spread)
    for family, severity in (*MILD, *STRONG):
        score = subject.worse(subject.score(*subject.against(subject.distorted(family, severity))))
        best = bool((same <= score + slack).all())
        require(best, f"{family} of {severity} scores better than the reference itself: {told(score)}, {told(same)}")


def check_monotone_noise(subject: Subject) -> None:
    """More noise, worse score."""
    _require_monotone(subject, "gaussian_noise")


def check_monotone_blur(subject: Subject) -> None:
    """More blur, worse score."""
    _require_monotone(subject, "gaussian_blur")


def check_monotone_jpeg(subject: Subject) -> None:
    """Stronger JPEG compression, worse score."""
    _require_monotone(subject, "jpeg")


def check_direction(subject: Subject) -> None:
    """Photographs that are strongly distorted score worse than the same ones as they are, as `lower_is_better` says."""
    if subject.has_random_weights and not subject.spec.takes_reference:
        raise NotApplicable("random weights prefer no image")
    whole = subject.worse(subject.score(*subject.against(subject.photographs())))
    spoilt = torch.stack([subject.worse(subject.score(*subject.against(subject.distorted(*one)))) for one in STRONG])
    direction = f"lower_is_better={subject.spec.lower_is_better}"
    holds = whole.double().mean() < spoilt.double().mean()
    require(bool(holds), f"{direction}, but photographs score worse as they are than spoilt: the spec's direction?")


def _require_monotone(subject: Subject, family: str) -> None:
    _require_reference(subject)
    scores = [_mean(subject, subject.distorted(family, level)) for level in LEVELS]
    falling = all(a < b for a, b in pairwise(scores))
    sign = 1 if subject.spec.lower_is_better else -1
    shown = ", ".join(f"{level:g}: {sign * score.item():.6g}" for level, score in zip(LEVELS, scores, strict=True))
    require(falling, f"scores must get worse as {family} grows, got {shown}")


def _mean(subject: Subject, image: Tensor) -> Tensor:
    """Over the photographs, for one of them may have too little to lose."""
    return subject.worse(subject.score(*subject.against(image))).double().mean()


def _require_reference(subject: Subject) -> None:
    if not subject.spec.takes_reference:
        raise NotApplicable("it takes no reference")
