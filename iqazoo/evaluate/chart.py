"""The table of BAPPS as a bar chart. matplotlib is imported only when a chart is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from iqazoo.atomic import replacing
from iqazoo.errors import InputError
from iqazoo.evaluate.bapps import BEST, HUMAN, Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
LABELS = {"2afc": "2AFC agreement (%)", "jnd": "JND average precision (%)"}
BEGIN = {"2afc": 50.0, "jnd": 0.0}
"""Where the bars begin, unless an interval reaches below: half of all triplets are right by chance."""
LIMITS: dict[str, Literal["dashed", "dotted"]] = {HUMAN: "dashed", BEST: "dotted"}


def check_chart(path: Path) -> None:
    """Raise InputError unless `draw` could write to `path`; call it before hours of scoring."""
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"the chart must end in {' or '.join(SUFFIXES)}; got {path}")
    if not path.parent.is_dir() or path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"the chart must be a file in an existing folder that can be written to; got {path}")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise InputError("charts need matplotlib; pip install 'iqazoo[plot]'") from error


def draw(figures: Sequence[Figure], path: Path) -> None:
    """Draw one panel for each measure: a group of bars for each subset, with 95% intervals; limits are lines.

    Args:
        figures: from `evaluate_bapps`.
        path: ends in .png or .svg. Written under a temporary name first.

    Raises:
        InputError: the suffix or the folder is not as above, or matplotlib is not installed.
        OSError: the disk is full.
    """
    check_chart(path)
    # A figure of its own, without pyplot, needs no display and leaves the caller's settings alone.
    from matplotlib.figure import Figure as Drawing

    measures = [measure for measure in LABELS if any(figure.measure == measure for figure in figures)]
    groups = {m: list(dict.fromkeys(f.subset for f in figures if f.measure == m)) for m in measures}
    widest = max(map(len, groups.values()), default=1)
    drawing = Drawing(figsize=(max(6.0, 1.6 * widest), 4.2 * max(1, len(measures))), layout="constrained")
    for axes, measure in zip(drawing.subplots(max(1, len(measures)), squeeze=False)[:, 0], measures, strict=False):
        _panel(axes, measure, groups[measure], [figure for figure in figures if figure.measure == measure])
    with replacing(path) as temporary:
        drawing.savefig(temporary, dpi=150, format=path.suffix[1:].lower())


def _panel(axes: Axes, measure: str, groups: Sequence[str], figures: Sequence[Figure]) -> None:
    names = list(dict.fromkeys(figure.metric for figure in figures))
    metrics = [name for name in names if name not in LIMITS]
    width = 0.8 / max(1, len(metrics))
    for name in names:
        mine = {figure.subset: figure for figure in figures if figure.metric == name}
        values = [100 * mine[group].value for group in groups]
        if name in LIMITS:
            starts = [place - 0.45 for place in range(len(groups))]
            axes.hlines(values, starts, [start + 0.9 for start in starts], "black", LIMITS[name], label=name)
            continue
        offset = (metrics.index(name) - (len(metrics) - 1) / 2) * width
        below = [value - 100 * mine[group].low for value, group in zip(values, groups, strict=True)]
        above = [100 * mine[group].high - value for value, group in zip(values, groups, strict=True)]
        # A percentile interval of few judgments may lie beside its figure.
        spread = [[max(0.0, part) for part in side] for side in (below, above)]
        axes.bar([place + offset for place in range(len(groups))], values, width, yerr=spread, capsize=2, label=name)
    axes.set_xticks(range(len(groups)), [group.replace(" ", "\n") for group in groups])
    axes.set_ylabel(LABELS[measure])
    lowest = min((100 * figure.low for figure in figures), default=0)
    axes.set_ylim(min(BEGIN[measure], 5 * (lowest // 5)), 101)
    axes.legend(ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)
