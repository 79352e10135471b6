"""No-reference metrics without learned weights."""

import math

from iqazoo.metric_spec import MetricSpec

TV = MetricSpec(
    name="tv",
    network="iqazoo.metrics.tv:TV",
    kind="NR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Total variation",
    paper="Rudin, Osher, Fatemi, Physica D 1992",
    license="Apache-2.0",
    channels=(1, 3),
)

ENTROPY = MetricSpec(
    name="entropy",
    network="iqazoo.metrics.entropy:Entropy",
    kind="NR",
    lower_is_better=False,
    score_range=(0.0, 8.0),
    summary="Entropy of the histogram of luma in bits",
    paper="Shannon, Bell System Technical Journal 1948",
    license="Apache-2.0",
    channels=(1, 3),
    differentiable=False,
)

PIQE = MetricSpec(
    name="piqe",
    network="iqazoo.metrics.piqe:PIQE",
    kind="NR",
    lower_is_better=True,
    score_range=(0.0, 100.0),
    summary="Share of visible blocks that are distorted, and how much",
    paper="Venkatanath, Praneeth, Chandrasekhar, Channappayya, Medasani, NCC 2015",
    license="Apache-2.0",
    channels=(1, 3),
    differentiable=False,
)

NIQE = MetricSpec(
    name="niqe",
    network="iqazoo.metrics.niqe:NIQE",
    kind="NR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Distance from the statistics of undistorted photographs",
    paper="Mittal, Soundararajan, Bovik, IEEE SPL 2013",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=96,
)

BRISQUE = MetricSpec(
    name="brisque",
    network="iqazoo.metrics.brisque:BRISQUE",
    kind="NR",
    lower_is_better=True,
    summary="Opinion score regressed on the statistics of local contrast",
    paper="Mittal, Moorthy, Bovik, IEEE TIP 2012",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=7,
)
