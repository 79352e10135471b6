"""`iqazoo data`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

import tyro

from iqazoo.cli.output import say
from iqazoo.errors import InputError


def run(
    action: tyro.conf.Positional[Literal["bapps-like"]],
    images: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", aliases=["-o"])],
    train: int = 3000,
    val: int = 1000,
    jnd: int = 400,
    seed: int = 0,
    workers: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
) -> int:
    """Make data to train and judge metrics with.

    bapps-like makes a set in the layout of BAPPS out of photographs: patches distorted in two severities of one kind,
    where the larger severity counts as worse. The README.txt in it says how.

    Args:
        action: what to make.
        images: a folder of photographs; a quarter of them is held out for val.
        out: where to write, a folder that is empty or does not exist.
        train: number of triplets made of the photographs that are not held out.
        val: number of triplets made of those that are.
        jnd: number of pairs that ask for a noticeable difference, made of those that are held out.
        seed: another seed makes another set.
        workers: processes; as many as there are processors.
    """
    if workers is not None and workers < 1:
        raise InputError(f"--workers must be 1 or more, got {workers}")
    from rich.console import Console
    from rich.progress import Progress

    from iqazoo.data.bapps_like import Counts, make_bapps_like

    counts = Counts(train, val, jnd)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("making", total=train + val + jnd)
        try:
            make_bapps_like(
                images, out, counts, seed, workers or os.cpu_count() or 1, lambda made: progress.advance(task, made)
            )
        except OSError as error:
            raise InputError(
                f"{out} cannot be written: {error.strerror}; choose another folder, or make room"
            ) from error
    print(out)
    say(f"{train} + {val} triplets and {jnd} pairs; {out / 'README.txt'} says how they came about")
    return 0
