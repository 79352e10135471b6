"""A picture of the triplets that a metric gets most wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from iqazoo.atomic import replacing

SIDE = 128  # pixels of an image in the sheet
TEXT = 30
ROWS = 8
FRAME = 4
PREFERRED = (40, 170, 80)


def worst(outputs: Tensor, count: int) -> list[int]:
    """The samples where the metric disagrees most with people.

    That is where most people prefer one image and the metric sees the other ahead by far.

    Args:
        outputs: d of A and B and the fraction that preferred B, `[N, 3]`.
        count: at most so many are given, the worst first; those that the metric gets right, or
            scores with NaN, are never.
    """
    d_a, d_b, preference = outputs.unbind(1)
    error = (d_b - d_a) * (2 * preference - 1)  # positive where metric and majority differ
    error = error.where(~error.isnan(), -torch.inf)  # NaN would sort first, and take up the places
    order = error.argsort(descending=True, stable=True)[:count].tolist()
    return [i for i in order if error[i] > 0]


def write(data: Any, outputs: Tensor, path: Path, count: int = ROWS) -> None:
    """Write a row A, reference, B for each of the worst triplets, the one that people preferred in a green frame.

    Nothing is written where the metric gets all right.

    Args:
        data: gives `ref_img`, `distA_img`, `distB_img` `[C, H, W]` in [0, 1].
        outputs: as for `worst`.
        path: a PNG file; its folder is made.
        count: rows at most.
    """
    rows = [(outputs[i].tolist(), data[i]) for i in worst(outputs, count)]
    if not rows:
        return
    sheet = Image.new("RGB", (3 * SIDE + 4 * FRAME, len(rows) * (SIDE + 2 * FRAME + TEXT)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, ((d_a, d_b, preference), item) in enumerate(rows):
        top = number * (SIDE + 2 * FRAME + TEXT)
        for column, name in enumerate(("distA_img", "ref_img", "distB_img")):
            left = FRAME + column * (SIDE + FRAME)
            if column == (2 if preference > 0.5 else 0):
                box = (left - FRAME, top, left + SIDE + FRAME - 1, top + SIDE + 2 * FRAME - 1)
                draw.rectangle(box, fill=PREFERRED)
            sheet.paste(_thumbnail(item[name]), (left, top + FRAME))
        text = f"A {d_a:.4g}    B {d_b:.4g}    {preference:.0%} prefer B"
        draw.text((FRAME, top + SIDE + 2 * FRAME + 4), text, fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as written:
        sheet.save(written)


def _thumbnail(image: Tensor) -> Image.Image:
    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().byte()
    rgb = pixels.expand(3, -1, -1).permute(1, 2, 0).numpy()
    return Image.fromarray(rgb).resize((SIDE, SIDE), Image.Resampling.NEAREST)
