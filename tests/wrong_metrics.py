"""A metric that keeps every promise, and for each check at least one that breaks just the promise it asks for."""

import socket
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from iqazoo import MetricSpec


class Right(nn.Module):
    """The squared difference of the images and of what a layer makes of them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3, padding=1)
        self.weight = nn.Parameter(torch.full((7, 1, 1), 0.1))

    def features(self, image):
        return [torch.cat([image, self.layer(image).tanh()], 1)]

    def distance(self, f_image, f_reference):
        return self.differences(f_image, f_reference).mean((1, 2, 3))

    def differences(self, f_image, f_reference):
        return ((f_image[0] - f_reference[0]).square() * self.weight).sum(1, keepdim=True)

    def map(self, image, reference):
        return self.differences(self.features(image), self.features(reference))

    def forward(self, image, reference):
        return self.distance(self.features(image), self.features(reference))

    @torch.no_grad()
    def constrain_(self):
        self.weight.clamp_(min=0)


class OfAnotherShape(Right):
    def forward(self, image, reference):
        return super().forward(image, reference)[:, None]


class Infinite(Right):
    def forward(self, image, reference):
        return super().forward(image, reference) / 0


class Coarse(Right):
    def forward(self, image, reference):
        score = super().forward(image, reference)
        return score if image.dtype == torch.float64 else score.bfloat16()


class RelativeToTheBatch(Right):
    def forward(self, image, reference):
        score = super().forward(image, reference)
        return score / score.max()


class Sorted(Right):
    def forward(self, image, reference):
        return super().forward(image, reference).sort().values


class Dropping(Right):
    def forward(self, image, reference):
        return super().forward(F.dropout(image, 0.1), reference)


class Counting(Right):
    calls = 0

    def forward(self, image, reference):
        self.calls += 1
        return super().forward(image, reference) * self.calls


class Wide(Right):
    def forward(self, image, reference):
        return super().forward(F.pad(image, [9] * 4, "reflect"), F.pad(reference, [9] * 4, "reflect"))


class OfRawMemory(Right):
    def forward(self, image, reference):
        _, c, h, w = image.shape
        return super().forward(image.as_strided(image.shape, (c * h * w, h * w, w, 1)), reference)


class BlindToNaN(Right):
    def forward(self, image, reference):
        return super().forward(image, reference).nan_to_num(0)


class SpreadingNaN(Right):
    def forward(self, image, reference):
        score = super().forward(image, reference)
        return score + 0 * score.sum()


class Cancelling(Right):
    def features(self, image):
        return [torch.cat([image, self.layer(image + 300) - self.layer(torch.full_like(image, 300))], 1)]


class SmallMap(Right):
    def map(self, image, reference):
        return super().map(image, reference)[..., 1:, 1:]


class MapOfTheBatch(Right):
    def map(self, image, reference):
        found = super().map(image, reference)
        return found / found.max()


class OtherFeatures(Right):
    def forward(self, image, reference):
        return 2 * super().forward(image, reference)


class FondOfBlur(Right):
    def forward(self, image, reference):
        return super().forward(image, F.avg_pool2d(reference, 3, 1, 1, count_include_pad=False))


class Saturating(Right):
    def forward(self, image, reference):
        return super().forward(image, reference).clamp(max=1e-5)


class HalfGradient(Right):
    def forward(self, image, reference):
        score = super().forward(image, reference)
        return (score * score.detach()).sqrt()


class InSteps(Right):
    def forward(self, image, reference):
        return super().forward(image, reference).mul(64).ceil() + 0 * image.sum()


class Root(Right):
    def forward(self, image, reference):
        return super().forward(image, reference).sqrt()


class Seeding(Right):
    def forward(self, image, reference):
        torch.manual_seed(0)
        return super().forward(image, reference)


class WithGradients(Right):
    def forward(self, image, reference):
        torch.set_grad_enabled(True)
        return super().forward(image, reference)


class InPlace(Right):
    def forward(self, image, reference):
        return super().forward(image.mul_(0.5), reference)


class Writing(Right):
    def forward(self, image, reference):
        (Path(tempfile.gettempdir()) / "iqazoo-wrong-metric").write_bytes(b"")
        return super().forward(image, reference)


class Calling(Right):
    def forward(self, image, reference):
        with socket.socket() as end:
            end.connect_ex(("127.0.0.1", 9))
        return super().forward(image, reference)


class Hidden(Right):
    def __init__(self):
        super().__init__()
        self.scale = 1 + torch.rand(()).item()

    def forward(self, image, reference):
        return self.scale * super().forward(image, reference)


class Unpicklable(Right):
    def __init__(self):
        super().__init__()
        self.identity = lambda x: x


class Forgetful(Right):
    def __init__(self):
        super().__init__()
        self.scale = 2

    def __getstate__(self):
        return {**self.__dict__, "scale": 1}

    def forward(self, image, reference):
        return self.scale * super().forward(image, reference)


class Unmovable(Right):
    def __init__(self):
        super().__init__()
        self.scales = {"score": [torch.ones(())]}


class Sharing(Right):
    def forward(self, image, reference):
        self.image = image
        time.sleep(0.01)
        found, self.image = self.image, None
        return super().forward(found, reference)


class Keeping(Right):
    def __init__(self):
        super().__init__()
        self.scores = []

    def forward(self, image, reference):
        score = super().forward(image, reference)
        self.scores.append(score)
        return score


class Hoarding(Right):
    def __init__(self):
        super().__init__()
        self.bytes = []

    def forward(self, image, reference):
        self.bytes.append(bytearray(b"." * 2**21))
        return super().forward(image, reference)


class Unwilling(Right):
    """Its gradients point the wrong way."""

    def distance(self, f_image, f_reference):
        score = super().distance(f_image, f_reference)
        return 2 * score.detach() - score


class Limited(Right):
    def forward(self, image, reference):
        if image[0, 0].numel() > 2**22:
            raise RuntimeError("out of memory")
        return super().forward(image, reference)


class Branching(Right):
    def forward(self, image, reference):
        return super().forward(image, reference) * (2 if image.mean() > 0.45 else 1)


class OtherWhenCompiled(Right):
    def forward(self, image, reference):
        score = super().forward(image, reference)
        return 2 * score if torch.compiler.is_compiling() else score


@dataclass(frozen=True)
class Wrong:
    """A metric that a check must refuse.

    Args:
        check: the check's name.
        network: what breaks the promise.
        message: a part of what the check says, so that it fails for this and nothing else.
        spec: what the spec says otherwise than `spec_of`.
    """

    check: str
    network: type[nn.Module]
    message: str
    spec: dict = field(default_factory=dict)


WRONG = [
    Wrong("check_output", OfAnotherShape, "one score per image"),
    Wrong("check_output", Infinite, "finite scores"),
    Wrong("check_output", Coarse, "float32 beside float64"),
    Wrong("check_batch", RelativeToTheBatch, "one by one"),
    Wrong("check_order", Sorted, "reverse order"),
    Wrong("check_determinism", Dropping, "again, got"),
    Wrong("check_determinism", Counting, "again, got"),
    Wrong("check_range", Right, r"scores lie in \[0, 0.01\]", {"score_range": (0.0, 0.01)}),
    Wrong("check_channels", Right, "the metric raises", {"channels": (1, 3)}),
    Wrong("check_sizes", Wide, "the metric raises", {"min_size": 8}),
    Wrong("check_memory_format", OfRawMemory, "channels_last beside"),
    Wrong("check_nan", BlindToNaN, "must have the score NaN"),
    Wrong("check_nan", SpreadingNaN, "beside one with a NaN"),
    Wrong("check_autocast", Cancelling, "under bfloat16 autocast"),
    Wrong("check_map", SmallMap, "must have the shape"),
    Wrong("check_map", MapOfTheBatch, "rest of the batch"),
    Wrong("check_map", Right, "declare spatial=True", {"spatial": False}),
    Wrong("check_features", OtherFeatures, "with_reference beside forward"),
    Wrong("check_identity", FondOfBlur, "better than the reference itself"),
    Wrong("check_direction", Right, "the spec's direction", {"lower_is_better": False}),
    Wrong("check_monotone_noise", Saturating, "as gaussian_noise grows"),
    Wrong("check_monotone_blur", Saturating, "as gaussian_blur grows"),
    Wrong("check_monotone_jpeg", Saturating, "as jpeg grows"),
    Wrong("check_gradient", HalfGradient, "finite differences"),
    Wrong("check_gradient", InSteps, "declare differentiable=False"),
    Wrong("check_gradient_at_identity", Root, "must be finite"),
    Wrong("check_side_effects", Seeding, "torch's random state"),
    Wrong("check_side_effects", WithGradients, "torch's grad mode"),
    Wrong("check_side_effects", InPlace, "changed in place"),
    Wrong("check_side_effects", Writing, "write the file .*iqazoo-wrong-metric"),
    Wrong("check_side_effects", Calling, "open a connection to .*127.0.0.1"),
    Wrong("check_safetensors", Hidden, "filled from the saved state dict"),
    Wrong("check_copies", Unpicklable, "the metric raises"),
    Wrong("check_copies", Forgetful, "a deep copy"),
    Wrong("check_devices", Unmovable, "scales holds a tensor"),
    Wrong("check_threads", Sharing, "in two threads|another thread"),
    Wrong("check_memory", Keeping, "must keep no tensor"),
    Wrong("check_memory", Hoarding, "must not take more memory"),
    Wrong("check_training", Unwilling, "must lower the loss"),
    Wrong("check_large_image", Limited, "out of memory"),
    Wrong("check_export", Branching, "the metric raises"),
    Wrong("check_compile", OtherWhenCompiled, "the compiled network's scores"),
]


def spec_of(network, **different):
    """The spec that is true of `Right`, for another network."""
    facts = {
        "name": network.__name__.lower(),
        "network": network,
        "kind": "FR",
        "lower_is_better": True,
        "score_range": (0.0, 3.5),
        "trainable": True,
        "spatial": True,
    }
    return MetricSpec(**{**facts, **different})
