"""Rows of scores, and the files that they are written to."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from iqazoo.atomic import replacing
from iqazoo.errors import InputError


@dataclass(frozen=True)
class Row:
    """The scores of one image.

    Args:
        id: the relative path without suffix, which image and reference share.
        image, reference: the files, None where there is none.
        scores: score by metric name; a metric that failed is absent, one that gave NaN also fills the error.
        error: what went wrong, "" if nothing did.
    """

    id: str
    image: Path | None
    reference: Path | None
    scores: dict[str, float] = field(default_factory=dict)
    error: str = ""

    def cells(self, names: Sequence[str]) -> dict[str, Any]:
        """One value per column: id, image, reference, the metrics in the order of `names`, error."""
        files = {"image": _text(self.image), "reference": _text(self.reference)}
        return {"id": self.id, **files, **{n: self.scores.get(n) for n in names}, "error": self.error}


def to_csv(records: Sequence[dict[str, Any]]) -> str:
    """Comma-separated values with a header; None is an empty field, infinity is `inf`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(records[0]) if records else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows([{k: _plain(v) for k, v in r.items()} for r in records])
    return out.getvalue()


def to_json(records: Sequence[dict[str, Any]]) -> str:
    """A JSON list of objects; as JSON has finite numbers only, NaN is null as what failed, infinity the text "inf"."""
    rounded = [{k: _finite(_number(v)) for k, v in r.items()} for r in records]
    return json.dumps(rounded, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Sequence[dict[str, Any]]], str]] = {"csv": to_csv, "json": to_json}


def check_output(path: Path, formats: Collection[str] = FORMATS.keys()) -> None:
    """Raise InputError unless a file of one of the formats could be written to `path`; call it before hours of work."""
    if path.suffix.removeprefix(".") not in formats:
        raise InputError(f"the output file must end in {' or '.join('.' + f for f in formats)}; got {path}")
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(f"the output must be a file in an existing folder; got {path}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"the output's folder cannot be written to: {path.parent}: {error.strerror}") from error


def write(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the records in the format of the file's suffix, under a temporary name first.

    Raises:
        OSError: the disk is full, or the folder has gone.
    """
    with replacing(path) as temporary:
        # File names are bytes, and those that are not UTF-8 stay what they are; in JSON, which is UTF-8, as an escape.
        errors = "backslashreplace" if path.suffix == ".json" else "surrogateescape"
        temporary.write_text(FORMATS[path.suffix.removeprefix(".")](records), "utf-8", errors)


def _plain(value: Any) -> Any:
    """What a cell of a text file can hold: a tuple becomes its members with spaces between."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else _number(value)


def _number(value: Any) -> Any:
    """Nine digits hold a float32 exactly; the rest would be noise of the conversion."""
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _finite(value: Any) -> Any:
    """What JSON can hold: a score that is infinite is told apart from one that is missing."""
    if isinstance(value, tuple):
        return [_finite(v) for v in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(value)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
