"""Metrics whose weights were learned and published."""

import math

from iqazoo.metric_spec import MetricSpec, Weights

# A branch may move; the hash of each file below does not.
LPIPS_HEADS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1"
TORCHVISION = "https://download.pytorch.org/models"


def _lpips(name: str, trunk: str, summary: str, heads: str, trunk_file: str, min_size: int) -> MetricSpec:
    trunk_hash = trunk_file.removesuffix(".pth").rsplit("-", 1)[-1]
    return MetricSpec(
        name=name,
        network="iqazoo.metrics.lpips:LPIPS",
        kind="FR",
        lower_is_better=True,
        options={"trunk": trunk},
        weights=(
            Weights(url=f"{TORCHVISION}/{trunk_file}", sha256=trunk_hash, license="BSD-3-Clause", prefix="trunk"),
            Weights(url=f"{LPIPS_HEADS}/{trunk}.pth", sha256=heads, license="BSD-2-Clause", prefix="heads"),
        ),
        score_range=(0.0, math.inf),
        summary=summary,
        paper="Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018",
        license="Apache-2.0",
        channels=(1, 3),
        min_size=min_size,
        spatial=True,
        trainable=True,
    )


LPIPS = _lpips(
    "lpips",
    "alex",
    "Learned perceptual distance on AlexNet's activations",
    "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "alexnet-owt-7be5be79.pth",
    min_size=31,
)
LPIPS_VGG = _lpips(
    "lpips-vgg",
    "vgg",
    "Learned perceptual distance on VGG-16's activations",
    "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    "vgg16-397923af.pth",
    min_size=16,
)
LPIPS_SQUEEZE = _lpips(
    "lpips-squeeze",
    "squeeze",
    "Learned perceptual distance on SqueezeNet 1.1's activations",
    "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
    "squeezenet1_1-b8a52dc0.pth",
    min_size=17,
)
