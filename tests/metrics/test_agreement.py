"""Metrics beside public libraries on real photographs, and the page that tells of it."""

import functools
import json
import math
import re
from pathlib import Path

import golden_data
import pytest
import torch
from agreement import ROWS

import iqazoo
from iqazoo.cli.info import AGREEMENT
from iqazoo.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "agreement.md"


def theirs(row, name):
    """What the library computes, or None where it raised or is at fault."""
    value = golden_data.VALUES[row.source].get(name)
    if value is None or name in row.faulty or (isinstance(value, str) and value.startswith("error")):
        return None
    return float(value)


def ours(row, name, dtype):
    image, reference = (t.to(dtype) for t in golden_data.pair(name))
    weights = golden_data.FOLDER / row.weights if row.weights else "default"
    metric = iqazoo.create(row.metric, weights=weights, **row.options).to(dtype)
    return (metric(image, reference) if metric.spec.takes_reference else metric(image)).item()


@pytest.mark.parametrize("name", golden_data.NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("row", ROWS, ids=[f"{row.metric}-{row.source}" for row in ROWS])
def test_it_agrees(row, dtype, name):
    expected = theirs(row, name)
    if expected is None:
        return
    try:
        found = ours(row, name, dtype)
    except InputError:
        pytest.skip("we need a larger image, or a colour one")
    if row.bound is None:
        assert math.isfinite(found)
    else:
        assert found == pytest.approx(expected, rel=row.bound, abs=1e-6)


@functools.cache
def difference(row):
    """The largest relative difference over all pairs, in float64: that does not change from machine to machine."""
    found = 0.0
    for name in golden_data.NAMES:
        expected = theirs(row, name)
        if expected is None or math.isinf(expected):
            continue
        try:
            score = ours(row, name, torch.float64)
        except InputError:
            continue
        if abs(expected) > 1e-6:
            found = max(found, abs(score - expected) / abs(expected))
    return f"{found:.0e}" if found >= 1e-8 else "< 1e-08"


def options(row):
    return ", ".join(f"{key}={value!r}" for key, value in row.options.items())


def table():
    lines = ["| metric | library | options of ours | largest difference | note |", "|---|---|---|---|---|"]
    for row in ROWS:
        library, theirs_name = row.source.split(":")
        given = f"`{options(row)}`" if row.options else ""
        note = row.note if row.bound is not None else f"**shown, not reproduced**: {row.note}"
        cells = f"`{row.metric}`", f"{library.replace('-', ' ', 1)} `{theirs_name}`", given, difference(row), note
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines)


def facts():
    """What `iqazoo info` shows: agreement.json."""
    found = {}
    for row in ROWS:
        library = row.source.replace("-", " ", 1).replace(":", " ")
        line = {"library": library, "options": options(row), "difference": difference(row)}
        found.setdefault(row.metric, []).append(line)
    return json.dumps(found, indent=1) + "\n"


def with_table(text):
    return re.sub(
        r"(<!-- agreement:.*?-->\n).*?(<!-- end of agreement -->)",
        lambda match: f"{match[1]}{table()}\n{match[2]}",
        text,
        flags=re.S,
    )


def test_the_page_shows_what_was_measured():
    text = PAGE.read_text(encoding="utf-8")
    assert "skimage" in with_table(text)
    assert with_table(text) == text, "run `PYTHONPATH=tests python tests/metrics/test_agreement.py`"


def test_what_info_shows_was_measured():
    assert facts() == AGREEMENT.read_text(encoding="utf-8"), (
        "run `PYTHONPATH=tests python tests/metrics/test_agreement.py`"
    )


def test_every_golden_value_of_a_listed_metric_is_in_the_table():
    """A new golden value cannot be forgotten."""
    told = {row.source for row in ROWS}
    learned = {"lpips", "dists", "alex", "vgg", "squeeze"}
    not_ours = {"piq-0.8.0:ssim", "torchmetrics-1.9.0:rase", "torchmetrics-1.9.0:rmse_sw"}
    missing = {key for key in golden_data.VALUES if key.split(":")[1] not in learned} - told - not_ours
    assert not missing


if __name__ == "__main__":
    AGREEMENT.write_text(facts(), encoding="utf-8")
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
