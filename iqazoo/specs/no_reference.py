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
