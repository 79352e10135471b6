"""`iqazoo score`."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from iqazoo import registry
from iqazoo.cli.metrics import create_or_say, usable_device, with_weights
from iqazoo.cli.output import Format, say, show
from iqazoo.errors import InputError, PluginError
from iqazoo.metric_spec import MetricSpec
from iqazoo.pairing import Pairing, pair
from iqazoo.score import table

if TYPE_CHECKING:
    from iqazoo.metric import Metric

Names = tyro.conf.Positional[tuple[str, ...]]


def run(
    names: Annotated[Names, tyro.conf.arg(metavar="NAME[=FILE]...")],
    image: Path,
    reference: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None,
    format: Format = "table",
    device: Annotated[str | None, tyro.conf.arg(metavar="DEVICE")] = None,
    batch_size: int = 16,
    workers: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None,
    background: Annotated[str | None, tyro.conf.arg(metavar="COLOR")] = None,
) -> int:
    """Score a folder of images, or one image.

    Args:
        names: the metrics; `iqazoo list` shows them. NAME=FILE takes the weights of a file, NAME=none random ones.
        image: the images under test, a folder or a file.
        reference: the references, paired with the images by relative path without suffix.
        output: also write the scores to this file, .csv or .json.
        format: how to print the scores.
        device: where to compute, such as "cuda:1"; the first GPU, or the CPU where there is none.
        batch_size: at most so many images of one size are scored together.
        workers: threads that decode images; as many as there are processors.
        background: the colour behind transparent images, such as "white"; without it they are refused.
    """
    chosen = _chosen(names)
    specs = _specs(chosen, reference)
    _check_options(output, batch_size, workers, background)
    pairing = _paired(image, reference)
    device = usable_device(device)
    from iqazoo.score.engine import score_pairs  # torch comes with it, after all that can be refused without

    with redirect_stdout(sys.stderr):  # what a network prints is no data
        metrics = _created(chosen, specs, device)
        scored = score_pairs(
            pairing.pairs, metrics, device=device, batch_size=batch_size, workers=workers, background=background
        )
        rows = list(_with_progress(scored, len(pairing.pairs)))
    records = [row.cells(list(specs)) for row in rows]
    written = output is None or _written(records, output)
    titles = {name: f"{name} {spec.arrow}" for name, spec in specs.items() if spec}
    show(_for_people(records) if format == "table" else records, format, titles)
    all_well = written and len(metrics) == len(specs) and not any(row.error for row in rows)
    return 0 if all_well else 1


def _check_options(output: Path | None, batch_size: int, workers: int | None, background: str | None) -> None:
    """Refuse now what would otherwise fail after hours."""
    if batch_size < 1 or (workers is not None and workers < 1):
        raise InputError(f"--batch-size and --workers must be 1 or more, got {batch_size} and {workers}")
    if output is not None:
        table.check_output(output)
    if background is not None:
        from iqazoo.images import parse_background

        parse_background(background)


def _written(records: Sequence[dict[str, Any]], output: Path) -> bool:
    try:
        table.write(records, output)
    except OSError as error:  # the scores are still printed
        say(f"{output} could not be written: {error}")
        return False
    return True


def _chosen(names: Sequence[str]) -> dict[str, tuple[str, str | None]]:
    """The column of a metric -> its name and weights; the column is the name, unless several files have that."""
    if not names:
        raise InputError("name at least one metric; `iqazoo list` shows them")
    chosen = {words: with_weights(words) for words in names}
    times = Counter(name for name, _ in chosen.values())
    return {words if times[name] > 1 else name: (name, weights) for words, (name, weights) in chosen.items()}


def _specs(chosen: Mapping[str, tuple[str, str | None]], reference: Path | None) -> dict[str, MetricSpec | None]:
    """The spec of every column; None for a broken plugin, which fails its column but not the run."""
    specs: dict[str, MetricSpec | None] = {}
    for column, (name, _) in chosen.items():
        try:
            spec = specs[column] = registry.spec(name)
        except PluginError as error:
            specs[column] = None
            say(f"{name} is left out: {error}")
            continue
        if spec.takes_reference and reference is None:
            raise InputError(f"{name} compares with a reference; add --reference PATH")
    return specs


def _paired(image: Path, reference: Path | None) -> Pairing:
    pairing = pair(image, reference)
    for side, files in (("image", pairing.unmatched_images), ("reference", pairing.unmatched_references)):
        for file in files:
            say(f"{side} without partner: {file}")
    if not pairing.pairs:
        raise InputError(f"no file in {image} has a partner in {reference}; partners share the path without suffix")
    return pairing


def _created(
    chosen: Mapping[str, tuple[str, str | None]], specs: Mapping[str, MetricSpec | None], device: str
) -> dict[str, Metric]:
    """The metrics that can be had; each other one is told on stderr, and its column stays empty."""
    wanted = {column: spec for column, spec in specs.items() if spec is not None}
    made = {c: create_or_say(chosen[c][0], spec, device, chosen[c][1], c) for c, spec in wanted.items()}
    return {column: metric for column, metric in made.items() if metric is not None}


def _with_progress(rows: Iterable[table.Row], total: int) -> Iterator[table.Row]:
    from rich.console import Console
    from rich.progress import track

    return iter(track(rows, "scoring", total=total, console=Console(stderr=True)))


def _for_people(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the files, which the id tells, and without errors where there are none; with the means at the end."""
    left_out = {"image", "reference"} | (set() if any(r["error"] for r in records) else {"error"})
    shown = [{c: v for c, v in r.items() if c not in left_out} for r in records]
    columns = {c: [r[c] for r in shown if isinstance(r[c], float)] for c in shown[0]}
    means = {c: math.fsum(values) / len(values) if values else None for c, values in columns.items()}
    return [*shown, {**means, "id": "mean"}] if len(shown) > 1 else shown
