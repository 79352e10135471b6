"""Draws the map of every classical metric that has one, of one photograph, and lists them: docs/maps.jpg, docs/maps.md.

    python benchmarks/plot_maps.py [--list]

`--list` only rewrites the table of docs/maps.md, from the specs.
"""

import re
import sys
from pathlib import Path

import numpy as np
import torch

import iqazoo
from iqazoo import images, registry
from iqazoo.data.distortions import FAMILIES

DOCS = Path(__file__).parents[1] / "docs"
PHOTOGRAPH = Path(iqazoo.__file__).parent / "testing/photographs/coffee.jpg"
THIRDS = ("gaussian_noise", "gaussian_blur", "jpeg")  # from left to right
SEVERITY = 0.5
COLUMNS = 4


def specs():
    """Metrics of the core that have a map and no learned weights."""
    found = (entry.spec() for entry in registry.entries() if entry.is_core)
    return sorted((spec for spec in found if spec.spatial and not spec.weights), key=lambda spec: spec.name)


def pair():
    """The photograph with a distortion in each third, and as it is: `[1, 3, H, W]`."""
    reference = images.decode(PHOTOGRAPH)  # [3, H, W]
    pixels = reference.permute(1, 2, 0).numpy()
    width = pixels.shape[1]
    image = pixels.copy()
    for i, family in enumerate(THIRDS):
        third = slice(i * width // 3, (i + 1) * width // 3)
        image[:, third] = FAMILIES[family].distort(pixels, SEVERITY, np.random.default_rng(0))[:, third]
    return torch.from_numpy(image).permute(2, 0, 1)[None].float().clamp(0, 1), reference[None]


def table():
    """What each picture shows."""
    lines = ["| metric | measures | paper |", "|---|---|---|"]
    lines += [
        f"| `{spec.name}` {spec.arrow} | {spec.summary} | {spec.paper} |".replace("|  |", "| |") for spec in specs()
    ]
    return "\n".join(lines)


def with_table(text):
    """The page with its table as the specs have it."""
    return re.sub(r"(<!-- maps:.*?-->\n).*?(<!-- end of maps -->)", rf"\1{table()}\n\2", text, flags=re.S)


def draw():
    import matplotlib.pyplot as plt

    image, reference = pair()
    shown = [("the photograph", reference[0].permute(1, 2, 0), None)]
    shown.append(("noise, blur and JPEG", image[0].permute(1, 2, 0), None))
    for spec in specs():
        with torch.no_grad():
            found = iqazoo.create(spec.name).map(image, reference)[0, 0]
        # Bright is where the metric finds the image worse.
        shown.append((f"{spec.name} {spec.arrow}", found if spec.lower_is_better else -found, spec))
    rows = -(-len(shown) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(3 * COLUMNS, 2.3 * rows), layout="constrained")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, picture, spec) in zip(axes.flat, shown, strict=False):
        limits = {} if spec is None else {"vmin": picture.min(), "vmax": picture.float().quantile(0.995)}
        axis.imshow(picture, cmap="magma", **limits)
        axis.set_title(title, fontsize=10)
    figure.savefig(DOCS / "maps.jpg", dpi=80, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    page = DOCS / "maps.md"
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
    if sys.argv[1:] != ["--list"]:
        draw()
