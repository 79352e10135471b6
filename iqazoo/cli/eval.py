"""`iqazoo eval`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from iqazoo import registry
from iqazoo.cli.metrics import create_or_say, usable_device, with_weights
from iqazoo.cli.output import Format, say, show
from iqazoo.errors import InputError, PluginError
from iqazoo.score import table

if TYPE_CHECKING:
    from iqazoo.data import JND, Triplets
    from iqazoo.evaluate.bapps import Comparison, Figure, Report
    from iqazoo.metric import Metric

TITLES = {"2afc": "2AFC agreement with people in %, 95% interval", "jnd": "JND average precision in %, 95% interval"}
COMPARED = "Difference in overall 2AFC in points of %, 95% interval; p of the paired sign-flip test, adjusted by Holm"


def run(
    task: tyro.conf.Positional[Literal["bapps"]],
    names: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="NAME[=FILE]...")],
    data: Annotated[Path, tyro.conf.arg(metavar="DIR|CSV")],
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    split: Literal["train", "val"] = "val",
    subsets: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SUBSET...")] = (),
    size: int = 64,
    jnd: bool = True,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None,
    chart: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    format: Format = "table",
    device: Annotated[str | None, tyro.conf.arg(metavar="DEVICE")] = None,
    batch_size: int = 64,
    resamples: int = 1000,
    allow_missing: bool = False,
) -> int:
    """Compare metrics with human judgments: how often they pick the image that people picked.

    Args:
        task: bapps, that is judgments in the layout of BAPPS, or a CSV file of triplets.
        names: the metrics; NAME=FILE takes the weights of a file, NAME=none random ones, as before any training.
        data: the folder that holds 2afc and jnd, or a CSV file with the columns reference, a, b, preference.
        weights: a file of weights, where one metric is named.
        split: which part of the data; a CSV file has no parts.
        subsets: which folders, or subsets of the CSV file; all that are there if none is given.
        size: images are resized to a square of this side; 0 keeps their own size.
        jnd: also score jnd where the data has it.
        output: also write the figures to this file, .csv or .json.
        chart: draw the figures as bars into this file, .png or .svg; needs the extra iqazoo[plot].
        format: how to print the figures.
        device: where to compute, such as "cuda:1"; the first GPU, or the CPU where there is none.
        batch_size: at most so many rows are scored together.
        resamples: how often judgments are drawn anew for the intervals.
        allow_missing: leave out rows that lack a file instead of stopping; not for a CSV file.
    """
    chosen = _chosen(names, weights)
    _check_options(output, chart, size, batch_size, resamples)
    triplets, pairs = _judgments(data, split, subsets or None, size or None, jnd, allow_missing)
    device = usable_device(device)
    with redirect_stdout(sys.stderr):  # what a network prints is no data
        metrics = _created(chosen, device)
        report = _evaluated(triplets, pairs, metrics, device, batch_size, resamples)
    records = [*map(_figure_record, report.figures), *map(_comparison_record, report.comparisons)]
    written = output is None or _written(lambda: table.write(records, output), output)
    if chart is not None:
        from iqazoo.evaluate.chart import draw

        written = _written(lambda: draw(report.figures, chart), chart) and written
    if format == "table":
        _show_tables(report)
    else:
        show(records, format)
    return 0 if written and not report.errors and len(metrics) == len(chosen) else 1


def _chosen(names: Sequence[str], weights: Path | None) -> dict[str, tuple[str, str | None]]:
    """What the user calls a metric -> its name and weights."""
    if not names:
        raise InputError("name at least one metric; `iqazoo list` shows them")
    if weights is not None and (len(names) != 1 or "=" in names[0]):
        raise InputError(f"--weights serves one NAME, got {' '.join(names)}; write NAME=FILE for each")
    return {label: with_weights(f"{label}={weights}" if weights else label) for label in names}


def _check_options(output: Path | None, chart: Path | None, size: int, batch_size: int, resamples: int) -> None:
    """Refuse now what would otherwise fail after hours."""
    if size < 0 or batch_size < 1 or resamples < 1:
        raise InputError(
            f"--size must be 0 or more, --batch-size and --resamples 1 or more, got {size}, {batch_size}, {resamples}"
        )
    if output is not None:
        table.check_output(output)
    if chart is not None:
        from iqazoo.evaluate.chart import check_chart

        check_chart(chart)


def _judgments(
    data: Path, split: Literal["train", "val"], subsets: Sequence[str] | None, size: int | None, jnd: bool, lax: bool
) -> tuple[Triplets, JND | None]:
    from iqazoo.data import JND, TripletTable, TwoAFC, is_table  # torch comes with it, after all that needs none

    data = data.expanduser()
    if is_table(data):
        _check_table_options(data, split, lax)
        return TripletTable(data, size, subsets=subsets), None
    triplets = TwoAFC(data, split, subsets, size, allow_missing=lax)
    home = data / "jnd" / split
    # BAPPS has fewer subsets in jnd than in 2afc.
    there = None if subsets is None else [name for name in subsets if (home / name).is_dir()]
    pairs = JND(data, split, there, size, allow_missing=lax) if jnd and home.is_dir() and there != [] else None
    for name in (*triplets.missing, *(pairs.missing if pairs else ())):
        say(f"a row is left out for want of {name}")
    return triplets, pairs


def _check_table_options(data: Path, split: str, lax: bool) -> None:
    given = [option for option, named in ((f"--split {split}", split != "val"), ("--allow-missing", lax)) if named]
    if given:
        raise InputError(
            f"expected --split and --allow-missing with a folder only, got {' and '.join(given)} with the CSV file "
            f"{data}; leave that out, and choose rows with --subsets or in the file"
        )


def _created(chosen: Mapping[str, tuple[str, str | None]], device: str) -> dict[str, Metric]:
    """The metrics that can be had; each other one is told on stderr."""
    metrics = {}
    for label, (name, weights) in chosen.items():
        try:
            spec = registry.spec(name)
        except PluginError as error:
            say(f"{label} is left out: {error}")
            continue
        metric = create_or_say(name, spec, device, weights, label)
        if metric is not None:
            metrics[label] = metric
    return metrics


def _evaluated(
    triplets: Triplets, pairs: JND | None, metrics: Mapping[str, Metric], device: str, batch_size: int, resamples: int
) -> Report:
    from rich.console import Console
    from rich.progress import Progress

    from iqazoo.evaluate.bapps import evaluate_bapps

    sets = [judged for judged in (triplets, pairs) if judged is not None]
    with Progress(console=Console(stderr=True)) as progress:
        for judged in sets:
            reading = progress.add_task("reading", total=None)
            judged.prepare(lambda done, of, task=reading: progress.update(task, completed=done, total=of))
        scoring = progress.add_task("scoring", total=sum(map(len, sets)))
        report = evaluate_bapps(
            triplets,
            pairs,
            metrics,
            device=device,
            batch_size=batch_size,
            resamples=resamples,
            progress=lambda rows: progress.advance(scoring, rows),
        )
    for metric, error in report.errors.items():
        say(f"{metric}: left out: {error}")
    return report


def _written(write: Callable[[], None], path: Path) -> bool:
    try:
        write()
    except OSError as error:  # the figures are still printed
        say(f"{path} could not be written: {error}")
        return False
    return True


def _figure_record(figure: Figure) -> dict[str, Any]:
    percent = {"percent": 100 * figure.value, "low": 100 * figure.low, "high": 100 * figure.high}
    names = {"measure": figure.measure, "metric": figure.metric, "other": None, "subset": figure.subset}
    return {**names, **percent, "p": None, "p_holm": None, "rows": figure.count}


def _comparison_record(found: Comparison) -> dict[str, Any]:
    percent = {"percent": 100 * found.difference, "low": 100 * found.low, "high": 100 * found.high}
    names = {"measure": "2afc difference", "metric": found.metric, "other": found.other, "subset": "overall"}
    return {**names, **percent, "p": found.p, "p_holm": found.p_holm, "rows": found.count}


def _show_tables(report: Report) -> None:
    for measure, title in TITLES.items():
        rows: dict[str, dict[str, Any]] = {}
        for figure in report.figures:
            if figure.measure == measure:
                cell = f"{100 * figure.value:.1f} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
                rows.setdefault(figure.metric, {"metric": figure.metric})[figure.subset] = cell
        if rows:
            print(f"{title}\n")
            show(list(rows.values()), "table")
            print()
    if report.comparisons:
        print(f"{COMPARED}\n")
        show([_comparison_cells(found) for found in report.comparisons], "table")


def _comparison_cells(found: Comparison) -> dict[str, Any]:
    cell = f"{100 * found.difference:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return {"metric": found.metric, "minus": found.other, "difference": cell, "p": f"{found.p_holm:.2g}"}
