"""The metric dists. No torch here, so that `iqazoo list` stays quick."""

from iqazoo import MetricSpec, Weights

SPEC = MetricSpec(
    name="dists",
    network="iqazoo_dists.network:DISTS",
    kind="FR",
    lower_is_better=True,
    weights=(
        Weights(
            url="https://download.pytorch.org/models/vgg16-397923af.pth",
            sha256="397923af",
            license="BSD-3-Clause",
            prefix="trunk",
        ),
        # A branch may move; the hash does not.
        Weights(
            url="https://raw.githubusercontent.com/dingkeyan93/DISTS/master/DISTS_pytorch/weights.pt",
            sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
            license="MIT",
            size=12288,
        ),
    ),
    # The structure of opposite images differs by 2; texture by 1 at most.
    score_range=(0.0, 2.0),
    summary="Differences in structure and texture of VGG-16's activations",
    paper="Ding, Ma, Wang, Simoncelli, IEEE TPAMI 2020",
    license="Apache-2.0",
    channels=(1, 3),
    trainable=True,
)
