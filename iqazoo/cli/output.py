"""How commands show records on stdout."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from iqazoo.score.table import FORMATS

Format = Literal["table", "json", "csv"]
MUCH = 10_000


def show(records: Sequence[dict[str, Any]], form: Format, titles: Mapping[str, str] | None = None) -> None:
    """Print records, all with the same keys.

    Args:
        records: one mapping from column to value for each row.
        form: "table" for people, "json" and "csv" for programs.
        titles: table headers where they differ from the columns' names.
    """
    if form == "table":
        _show_table(records, titles or {})
    else:
        sys.stdout.write(FORMATS[form](records))


def say(message: str) -> None:
    """Tell people something, on stderr."""
    print(f"iqazoo: {message}", file=sys.stderr)


def _show_table(records: Sequence[dict[str, Any]], titles: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in records[0] if records else ():
        numeric = any(isinstance(r[column], float) for r in records)
        table.add_column(titles.get(column, column), justify="right" if numeric else "left", overflow="fold")
    for record in records:
        table.add_row(*map(_cell, record.values()))
    # A file or a pipe has no width: nothing may be folded or cut there.
    console = Console() if sys.stdout.isatty() else Console(width=MUCH)
    console.print(table, markup=False, highlight=False, soft_wrap=not sys.stdout.isatty())


def _cell(value: Any) -> Any:
    from rich.text import Text

    if value is None:
        return ""
    if isinstance(value, tuple):
        return Text("\n".join(map(str, value)))
    return Text(f"{value:.6g}" if isinstance(value, float) else str(value))
