"""Full-reference metrics without learned weights."""

import math

from iqazoo.metric_spec import MetricSpec

PSNR = MetricSpec(
    name="psnr",
    network="iqazoo.metrics.psnr:PSNR",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, math.inf),
    summary="Peak signal-to-noise ratio in decibel",
    license="Apache-2.0",
    channels=(1, 3),
)

SSIM = MetricSpec(
    name="ssim",
    network="iqazoo.metrics.ssim:SSIM",
    kind="FR",
    lower_is_better=False,
    score_range=(-1.0, 1.0),
    summary="Structural similarity in Gaussian windows of 11 pixels",
    paper="Wang, Bovik, Sheikh, Simoncelli, IEEE TIP 2004",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=11,
    spatial=True,
)

MS_SSIM = MetricSpec(
    name="ms_ssim",
    network="iqazoo.metrics.ms_ssim:MSSSIM",
    kind="FR",
    lower_is_better=False,
    score_range=(0.0, 1.0),
    summary="Structural similarity over five scales",
    paper="Wang, Simoncelli, Bovik, Asilomar 2003",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=161,
)
