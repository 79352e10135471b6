"""The image-quality metrics unet and unet-time. No torch here, so that `iqazoo list` stays quick."""

import math
from dataclasses import replace

from iqazoo import MetricSpec

UNET = MetricSpec(
    name="unet",
    network="iqazoo_unet.network:UNet",
    kind="FR",
    lower_is_better=True,
    score_range=(0.0, math.inf),
    summary="Distance between features of a U-Net's encoder, to be trained on judgments",
    license="Apache-2.0",
    min_size=16,
    trainable=True,
)
UNET_TIME = replace(
    UNET,
    name="unet-time",
    options={"with_time_emb": True},
    summary="The same between features of noised images, with the time embedding of diffusion models",
)
