"""Which option of ours reproduces which library: the table of docs/agreement.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One metric beside what one library computes for the golden pairs.

    Args:
        metric: its registered name.
        source: a key of tests/golden/values.json, "library-version:metric".
        options: of our metric, with which it reproduces the library.
        bound: the greatest relative difference; None where the library's value is shown, not reproduced.
        note: what differs, and why ours does not follow.
        faulty: pairs for which the library's value is wrong, as the note says.
        weights: a file in tests/golden that ours takes.
    """

    metric: str
    source: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    bound: float | None = 1e-4
    note: str = ""
    faulty: tuple[str, ...] = ()
    weights: str | None = None


NOT_HUNDREDTHS = "it adds 1e-8 to the error; identical images get 80 dB"
ROWS = (
    Row("psnr", "skimage-0.26:psnr", bound=2e-7),
    Row("psnr", "torchmetrics-1.9.0:psnr", bound=2e-7),
    Row("psnr", "piq-0.8.0:psnr", {"cap": 80.0}, 2e-6, NOT_HUNDREDTHS),
    Row("psnr", "pyiqa-0.1.16:psnr", {"cap": 80.0}, 2e-6, NOT_HUNDREDTHS),
    Row("psnr", "pyiqa-0.1.16:psnry", {"cap": 80.0, "channels": "y"}, 2e-6, NOT_HUNDREDTHS),
    Row("ssim", "skimage-0.26:ssim_gaussian", bound=2e-6),
    Row("ssim", "pytorch_msssim-1.0.0:ssim", bound=5e-6),
    Row("ssim", "piq-0.8.0:ssim_no_downsample", bound=5e-5),
    Row("ssim", "torchmetrics-1.9.0:ssim", {"padding": "reflect"}, 6e-5),
    Row("ssim", "pyiqa-0.1.16:ssimc", bound=5e-6),
    Row("ssim", "pyiqa-0.1.16:ssim", {"channels": "y-8bit"}, 2e-5),
    Row("ms_ssim", "pytorch_msssim-1.0.0:ms_ssim", bound=1e-6),
    Row("ms_ssim", "piq-0.8.0:ms_ssim", {"border": "replicate"}, 1e-5),
    Row("ms_ssim", "pyiqa-0.1.16:ms_ssim", {"channels": "y-8bit"}, 5e-6),
    Row("ms_ssim", "torchmetrics-1.9.0:ms_ssim", {}, 3e-4, "it averages over channels before it multiplies scales"),
    Row(
        "uqi", "torchmetrics-1.9.0:uqi", {"window": 11, "sigma": 1.5, "stabilizer": 2**-23}, None,
        "its variances cancel in float32, and the epsilon that it adds outweighs those of flat windows: identical "
        "images score 0.939. In float64, where it has neither fault, both agree to 1e-12",
    ),
    Row("gmsd", "piq-0.8.0:gmsd"),
    Row(
        "gmsd", "pyiqa-0.1.16:gmsd", {"channels": "y-8bit"}, None,
        "it pads otherwise where a side is odd, and rounds another luma",
    ),
    Row("ms_gmsd", "piq-0.8.0:ms_gmsd"),
    Row("ms_gmsdc", "piq-0.8.0:ms_gmsdc"),
    Row("fsim", "piq-0.8.0:fsim_gray"),
    Row("fsimc", "piq-0.8.0:fsim"),
    Row("fsimc", "pyiqa-0.1.16:fsim"),
    Row("sr_sim", "piq-0.8.0:sr_sim"),
    Row("vif", "pyiqa-0.1.16:vif", {}, None, "it rounds luma, and treats borders otherwise"),
    Row(
        "mad", "pyiqa-0.1.16:mad", {"channels": "y-8bit"}, None,
        "it weighs orientations by what is meant for scales, and more: see below", ("astronaut_contrast",),
    ),
    Row("vsi", "piq-0.8.0:vsi"),
    Row("vsi", "pyiqa-0.1.16:vsi"),
    Row("mdsi", "piq-0.8.0:mdsi"),
    Row("haarpsi", "piq-0.8.0:haarpsi"),
    Row("dss", "piq-0.8.0:dss"),
    Row("iw_ssim", "piq-0.8.0:iw_ssim"),
    Row("cw_ssim", "pyiqa-0.1.16:cw_ssim", {}, None, "it rounds luma; of the gray pair they differ by less than 1e-8"),
    Row(
        "nlpd", "pyiqa-0.1.16:nlpd", {}, None,
        "2e-4 for all pairs but one, whose coarsest scales have few pixels: there the borders differ",
    ),
    Row("vifp", "piq-0.8.0:vif_p"),
    Row(
        "vifp", "torchmetrics-1.9.0:vif", {"channels": "rgb", "noise": 2.0 * 255**2}, 1e-4,
        "it averages over channels, and takes the noise that is meant for [0, 255] for images in [0, 1]",
    ),
    Row(
        "sam", "torchmetrics-1.9.0:sam", {}, 1e-4,
        "the arc cosine leaves 1e-4 for identical images; a black pixel makes the whole image NaN",
        ("coffee_same", "astronaut_jpeg", "chelsea_noise"),
    ),
    Row("scc", "torchmetrics-1.9.0:scc", {"window": 8}),
    Row("ergas", "torchmetrics-1.9.0:ergas"),
    Row("tv", "piq-0.8.0:tv", {"norm": "l2"}, 1e-5),
    Row(
        "brisque", "piq-0.8.0:brisque", {"channels": "y-8bit", "fit": "nearest"}, 1e-4,
        "it halves odd sides to the smaller number, and counts rounding in flat places as contrast; with one made "
        "regression for both",
        ("astronaut_contrast", "coffee_blur", "astronaut_jpeg"), "brisque/allmodel",
    ),
    Row(
        "piqe", "pyiqa-0.1.16:piqe", {"channels": "y-8bit"}, None,
        "up to 4.6 of 100 points: it stretches luma, takes other columns, and fills borders otherwise; see below",
    ),
    Row(
        "entropy", "pyiqa-0.1.16:entropy", {}, 1e-3, "it rounds another luma; of gray images it takes that of [0, 1]",
        ("coins_gray_noise",),
    ),
)  # fmt: skip
