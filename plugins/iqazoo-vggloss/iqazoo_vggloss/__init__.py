"""The metrics vgg-feature and vgg-style. No torch here, so that `iqazoo list` stays quick."""

import math
from dataclasses import replace

from iqazoo import MetricSpec, Weights

FEATURE = MetricSpec(
    name="vgg-feature",
    network="iqazoo_vggloss.network:FeatureLoss",
    kind="FR",
    lower_is_better=True,
    weights=(
        Weights(
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            sha256="397923af",
            license="BSD-3-Clause",
            prefix="trunk",
        ),
    ),
    score_range=(0.0, math.inf),
    summary="Feature reconstruction (perceptual) loss on VGG-16's activations",
    paper="Johnson, Alahi, Fei-Fei, ECCV 2016",
    license="Apache-2.0",
    channels=(1, 3),
    min_size=2,
)
STYLE = replace(
    FEATURE,
    name="vgg-style",
    network="iqazoo_vggloss.network:StyleLoss",
    summary="Style loss: Gram matrices of VGG-16's activations",
    min_size=8,
)
