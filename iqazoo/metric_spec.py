"""What a metric says of itself: registry, command line, scoring, training and tests read it. No torch here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from iqazoo.errors import InputError

API = 1
"""The version of the contract between specs and iqazoo. A spec with a newer one is refused."""

NAME = re.compile(r"[a-z0-9][a-z0-9_+.-]*")
TAKEN = ("id", "image", "reference", "error")
"""The other columns of a table of scores."""

FULL_SHA256 = re.compile(r"[0-9a-f]{64}")
SHORT_SHA256 = re.compile(r"[0-9a-f]{8,63}")


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A published weight file.

    Args:
        url: where it is published.
        sha256: its full sha256 (64 hex digits), or the leading digits that the file's name carries, as the
            names of torchvision's files do.
        license: the licence that the weights are under, as an SPDX identifier where there is one.
        prefix: the sub-module of the network that the file fills, "" for the network itself.
        size: bytes, where known.

    Raises:
        InputError: the URL names no file, or the hash is neither of the two.
    """

    url: str
    sha256: str
    license: str
    prefix: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        try:
            file_name = self.file_name
        except ValueError:  # what urlsplit says to brackets out of place
            file_name = ""
        if not file_name:
            raise InputError(f"Weights.url must end in the name of a file; got {self.url!r}")
        named = SHORT_SHA256.fullmatch(self.sha256) and f"-{self.sha256}." in self.file_name
        if not (FULL_SHA256.fullmatch(self.sha256) or named):
            raise InputError(
                f"Weights.sha256 must be 64 hex digits, or the shorter hash that the file's name carries "
                f"(as in NAME-7be5be79.pth); got {self.sha256!r} for {self.file_name!r}"
            )

    @property
    def file_name(self) -> str:
        """The last part of the URL's path."""
        return urlsplit(self.url).path.rsplit("/", 1)[-1]


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """The unit of registration: one metric under one name.

    Args:
        name: lower case letters, digits and `_ + . -`; the entry point bears the same name.
        network: the `nn.Module`, as "package.module:Class" (imported on first use) or the class itself.
        kind: "FR" compares an image with a reference, "NR" judges an image alone, "SET" is reserved.
        lower_is_better: the direction of the score.
        options: keyword arguments for the network, so that one class serves several names.
        weights: the published files that fill the network's parameters.
        score_range: the least and greatest possible score; either may be infinite.
        summary: one line, what it measures.
        paper: author, title, venue and year, or a link.
        license: licence of the metric's code, as an SPDX identifier.
        channels: the channel counts that it takes: 1 is gray, 3 is RGB.
        min_size: the least height and width in pixels.
        differentiable: whether the score has a useful gradient in the image.
        spatial: whether the network has `map(image, reference) -> [B, 1, H, W]`.
        trainable: whether the network learns from judgments.
        api: the version of this contract that the spec was written for.

    Raises:
        InputError: a field has a value that it cannot have; the message names the field.
    """

    name: str
    network: str | Callable[..., Any]
    kind: Literal["FR", "NR", "SET"]
    lower_is_better: bool
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    weights: tuple[Weights, ...] = ()
    score_range: tuple[float, float] = (-math.inf, math.inf)
    summary: str = ""
    paper: str = ""
    license: str = ""
    channels: tuple[int, ...] = (3,)
    min_size: int = 1
    differentiable: bool = True
    spatial: bool = False
    trainable: bool = False
    api: int = API

    def __post_init__(self) -> None:
        named = isinstance(self.network, str) and re.fullmatch(r"[\w.]+:\w+", self.network)
        rules = {
            "name": (
                isinstance(self.name, str) and NAME.fullmatch(self.name) and self.name not in TAKEN,
                f"match {NAME.pattern} and be none of {', '.join(TAKEN)}",
            ),
            "network": (named or callable(self.network), 'be a class or "package.module:Class"'),
            "kind": (self.kind in ("FR", "NR", "SET"), 'be "FR", "NR" or "SET"'),
            "lower_is_better": (isinstance(self.lower_is_better, bool), "be True or False"),
            "options": (isinstance(self.options, Mapping), "be a mapping of keyword arguments"),
            "weights": (
                isinstance(self.weights, tuple) and all(isinstance(w, Weights) for w in self.weights),
                "be a tuple of Weights",
            ),
            "score_range": (_is_range(self.score_range), "be two numbers (low, high) with low < high"),
            "channels": (self.channels in ((1,), (3,), (1, 3)), "be (1,) for gray, (3,) for RGB or (1, 3) for both"),
            "min_size": (isinstance(self.min_size, int) and self.min_size >= 1, "be a whole number from 1"),
            "api": (isinstance(self.api, int) and self.api >= 1, "be a whole number from 1"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise InputError(f"MetricSpec {self.name!r}: {name} must {rule}; got {getattr(self, name)!r}")
        object.__setattr__(self, "options", dict(self.options))

    @property
    def arrow(self) -> str:
        """Points to the better end of the scale."""
        return "↓" if self.lower_is_better else "↑"

    @property
    def takes_reference(self) -> bool:
        """Whether the metric compares with a reference."""
        return self.kind == "FR"


def _is_range(value: object) -> bool:
    if not isinstance(value, tuple) or len(value) != 2 or not all(isinstance(v, int | float) for v in value):
        return False
    return value[0] < value[1]
