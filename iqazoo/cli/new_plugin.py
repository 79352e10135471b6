"""`iqazoo new-plugin`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from iqazoo.cli.output import say
from iqazoo.errors import InputError


def run(
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")],
    kind: Annotated[Literal["FR", "NR"], tyro.conf.arg(metavar="FR|NR")] = "FR",
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", aliases=["-o"])] = None,
) -> int:
    """Write a project for a metric of your own, with tests that pass at once.

    Args:
        name: of the metric: lower case letters, digits and _ + . -
        kind: FR compares an image with a reference, NR judges an image alone.
        out: the folder to make; iqazoo-NAME if not given.
    """
    from iqazoo.scaffold import write_plugin

    try:
        folder = write_plugin(name, kind, out)
    except OSError as error:
        raise InputError(f"the project cannot be written: {error}; choose another --out, or make room") from error
    print(folder)
    say(f"next: pip install -e '{folder}[test]', iqazoo check {name}, and then edit its network.py")
    return 0
