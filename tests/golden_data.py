"""The golden pairs and values of tests/golden, as its README describes them."""

import json
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "golden"
VALUES = json.loads((FOLDER / "values.json").read_text())
NAMES = sorted(VALUES["skimage-0.26:psnr"])


def pair(name):
    """Image and reference, `[1, C, H, W]` float32."""
    from iqazoo.images import decode  # the ops are also tested where Pillow is missing

    return tuple(decode(FOLDER / "pairs" / f"{name}_{side}.png")[None] for side in ("dist", "ref"))


def value(source, name):
    """What `source`, "library-version:metric", computes for the pair."""
    return float(VALUES[source][name])


def fill_trunk(trunk):
    """Give a trunk the weights that the golden LPIPS values were computed with."""
    with torch.no_grad():
        for name, parameter in trunk.named_parameters():
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            fan_in = int(np.prod(parameter.shape[1:]))
            scale = 0.1 if name.endswith("bias") else np.sqrt(2 / fan_in)
            drawn = rng.standard_normal(tuple(parameter.shape), dtype=np.float32) * np.float32(scale)
            parameter.copy_(torch.from_numpy(drawn))


def published_heads(trunk):
    """The file of LPIPS's heads, version 0.1, in the installed wheel of `lpips`, which is not imported; or None."""
    found = find_spec("lpips")
    if found is None or found.origin is None:
        return None
    return Path(found.origin).parent / "weights" / "v0.1" / f"{trunk}.pth"
