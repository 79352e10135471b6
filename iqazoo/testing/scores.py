"""Checks of what a metric gives back: shapes, types, and the same score for the same image."""

from __future__ import annotations

import math

import torch

from iqazoo.testing.subject import MILD, STRONG, NotApplicable, Subject, require, told

LARGE = (2056, 2048)  # above 4 megapixels


def check_output(subject: Subject) -> None:
    """One finite score per image, `[B]`: float32, and float64 for float64 images."""
    inputs = subject.inputs()
    score = subject.score(*inputs)
    require(score.shape == (3,), f"3 images must give the shape [3], got {list(score.shape)}")
    require(score.dtype == torch.float32, f"float32 images must give float32 scores, got {score.dtype}")
    require(bool(score.isfinite().all()), f"photographs must have finite scores, got {told(score)}")
    double = subject.score(*(x.double() for x in inputs), metric=subject.new().double())
    require(double.dtype == torch.float64, f"float64 images must give float64 scores, got {double.dtype}")
    subject.require_equal(score, double, "float32 beside float64")


def check_batch(subject: Subject) -> None:
    """The score of an image does not depend on what else is in the batch."""
    inputs = subject.inputs()
    singles = torch.cat([subject.score(*(x[i : i + 1] for x in inputs)) for i in range(3)])
    subject.require_equal(subject.score(*inputs), singles, "a batch beside its images one by one")


def check_order(subject: Subject) -> None:
    """The order of a batch is the order of its scores."""
    inputs = subject.inputs()
    turned = subject.score(*(x.flip(0) for x in inputs)).flip(0)
    subject.require_equal(turned, subject.score(*inputs), "a batch in reverse order, turned back")


def check_determinism(subject: Subject) -> None:
    """The same images have the same score, to the bit, whatever was scored or set to train before."""
    inputs = subject.inputs()
    metric = subject.new()
    first = subject.score(*inputs, metric=metric)
    subject.score(*subject.inputs(height=subject.height + 8), metric=metric)
    metric.train()
    second = subject.score(*inputs, metric=metric)
    require(torch.equal(first, second), f"expected {told(first)} again, got {told(second)}")


def check_range(subject: Subject) -> None:
    """Scores lie in the spec's `score_range`, also for black, white and noise."""
    (low, high), slack = subject.spec.score_range, 1e-4 * max(1.0, subject.spread)
    photographs = subject.photographs()
    noise = torch.rand(photographs.shape, generator=torch.Generator().manual_seed(0))
    pictures = [photographs, torch.zeros_like(noise), torch.ones_like(noise), noise]
    pictures += [subject.distorted(*one) for one in (*MILD, *STRONG)]
    for picture in pictures:
        score = subject.score(*subject.against(picture))
        inside = bool(((score >= low - slack) & (score <= high + slack)).all())
        require(inside, f"the spec says scores lie in [{low:g}, {high:g}], got {told(score)}")


def check_channels(subject: Subject) -> None:
    """Gray and RGB are taken as the spec declares."""
    for channels in subject.spec.channels:
        score = subject.score(*subject.inputs(channels=channels))
        require(bool(score.isfinite().all()), f"images of {channels} channels must have scores, got {told(score)}")


def check_sizes(subject: Subject) -> None:
    """Images of the least size, of odd sizes, tall and wide ones have scores."""
    least = subject.min_size
    for height, width in ((least, least), (least, least + 1), (least + 37, least), (67, 129), (128, 65)):
        if min(height, width) >= least:
            score = subject.score(*subject.inputs(height=height, width=width))
            finite = score.shape == (3,) and bool(score.isfinite().all())
            require(finite, f"images of {height} x {width} pixels must have scores, got {told(score)}")


def check_large_image(subject: Subject) -> None:
    """An image of more than 4 megapixels has a score."""
    score = subject.score(*(x[:1] for x in subject.inputs(height=LARGE[0], width=LARGE[1])))
    require(bool(score.isfinite().all()), f"{LARGE[0]} x {LARGE[1]} pixels must have a score, got {told(score)}")


def check_memory_format(subject: Subject) -> None:
    """How an image lies in memory does not matter: channels last, slices, expanded."""
    inputs = subject.inputs()
    score = subject.score(*inputs)
    last = subject.score(*(x.contiguous(memory_format=torch.channels_last) for x in inputs))
    subject.require_equal(last, score, "channels_last beside contiguous images")
    sliced = subject.score(*(torch.stack([x, 1 - x], -1)[..., 0] for x in inputs))
    subject.require_equal(sliced, score, "images that are slices of others beside contiguous ones")
    turned = subject.score(*(x.transpose(2, 3).contiguous().transpose(2, 3) for x in inputs))
    subject.require_equal(turned, score, "images that are transposed in memory beside contiguous ones")
    expanded = subject.score(*(x[:1].expand(3, -1, -1, -1) for x in inputs))
    subject.require_equal(expanded, score[:1].expand(3), "one image expanded to a batch")


def check_nan(subject: Subject) -> None:
    """A NaN in an image never becomes a number, and harms no other image of the batch."""
    inputs = subject.inputs()
    spoilt = inputs[0].clone()
    spoilt[1, :, subject.height // 2, subject.width // 2] = math.nan
    try:
        score = subject.score(spoilt, *inputs[1:])
    except ValueError:  # to refuse it is as good; InputError is one
        return
    require(bool(score[1].isnan()), f"an image with a NaN must have the score NaN, got {told(score[1:2])}")
    subject.require_equal(score[::2], subject.score(*inputs)[::2], "the images beside one with a NaN")


def check_autocast(subject: Subject) -> None:
    """Under bfloat16 autocast scores change little, and stay float32."""
    inputs = subject.inputs()
    with torch.autocast("cpu", torch.bfloat16):
        score = subject.score(*inputs)
    require(score.dtype == torch.float32, f"autocast must leave scores in float32, got {score.dtype}")
    subject.require_equal(score, subject.score(*inputs), "scores under bfloat16 autocast", 0.05)


def check_map(subject: Subject) -> None:
    """A spatial metric has a finite map of the image's size, `[B, 1, H, W]`; another has none."""
    if not subject.spec.spatial:
        require(
            not hasattr(subject.metric.network, "map"), "the network has a `map`; declare spatial=True or remove it"
        )
        raise NotApplicable("spatial=False")
    for height, width in ((subject.height, subject.width), (subject.height + 6, subject.width + 1)):
        inputs = subject.inputs(height=height, width=width)
        with torch.no_grad():
            found = subject.metric.map(*inputs)
        shape = [3, 1, height, width]
        require(list(found.shape) == shape, f"the map must have the shape {shape}, got {list(found.shape)}")
        require(bool(found.isfinite().all()), "the map of photographs must be finite")
        singles = torch.cat([subject.metric.map(*(x[i : i + 1] for x in inputs)).detach() for i in range(3)])
        require(torch.allclose(found, singles, rtol=1e-3, atol=1e-5), "a map must not depend on the rest of the batch")


def check_features(subject: Subject) -> None:
    """`with_reference`, and `features` with `distance` where the network has them, give the score of `forward`."""
    if not subject.spec.takes_reference:
        raise NotApplicable("it takes no reference")
    image, reference = subject.inputs()
    with torch.no_grad():
        bound = subject.metric.with_reference(reference)(image)
        one = subject.metric.with_reference(reference[:1])(image)
    subject.require_equal(bound, subject.score(image, reference), "with_reference beside forward")
    repeated = reference[:1].expand_as(image)
    subject.require_equal(one, subject.score(image, repeated), "one reference for a batch beside forward")
