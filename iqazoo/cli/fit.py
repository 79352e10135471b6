"""`iqazoo fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from iqazoo.cli.output import say
from iqazoo.score import table


def run(
    model: tyro.conf.Positional[Literal["niqe"]],
    images: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    out: Annotated[Path, tyro.conf.arg(metavar="FILE", aliases=["-o"])] = Path("niqe.safetensors"),
    step: int = 96,
    sharpness: float = 0.75,
    channels: Literal["y", "y-8bit", "y-studio"] = "y",
) -> int:
    """Fit the statistics that a metric compares with to photographs of your own.

    The photographs should be undistorted, and many: the authors of niqe took 125.

    Args:
        model: what to fit.
        images: a folder of photographs.
        out: the file to write, which ends in .safetensors.
        step: from one block of 96 x 96 pixels to the next; with less than 96, blocks overlap.
        sharpness: blocks count that exceed this share of the sharpness of the sharpest block of their photograph.
        channels: the luma of colour photographs, as the metric takes it.
    """
    table.check_output(out, ["safetensors"])
    from iqazoo import factory, pairing, state_dict
    from iqazoo.images import decode
    from iqazoo.metrics.niqe_fit import fit

    files = [file for several in pairing.find_images(images).values() for file in several]
    photographs = ((str(file), decode(file)) for file in files)
    fitted = fit(photographs, step=step, sharpness=sharpness, channels=channels)
    options = {} if channels == "y" else {"channels": channels}
    network = factory.create(model, device="cpu", weights=None, **options).network
    state_dict.load_state(fitted.state, network, "what was fitted")
    state_dict.save(out, network, metric=model, options=options)
    print(out)
    say(
        f"fitted to {fitted.blocks} blocks of {fitted.images} photographs; "
        f'use it by iqazoo.create("{model}", weights="{out}") or iqazoo score {model}={out}'
    )
    return 0
