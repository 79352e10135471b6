"""Which files make up a set of judgments: BAPPS as distributed, or a CSV file. No torch here."""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from iqazoo.errors import InputError
from iqazoo.pairing import SUFFIXES

Task = Literal["2afc", "jnd"]
IMAGES: dict[str, tuple[str, ...]] = {"2afc": ("ref", "p0", "p1"), "jnd": ("p0", "p1")}
"""The folders of images in a subset, in the order of `Row.images`."""
JUDGMENT = {"2afc": "judge", "jnd": "same"}
"""The folder with one `.npy` file for each row."""

SUBSETS = ("traditional", "cnn", "mix", "superres", "deblur", "color", "frameinterp")
"""BAPPS's own subsets in the order of its paper; others follow by name."""
SHOWN = 5
"""So many missing files are named in a message."""


class Row(NamedTuple):
    """One judgment: the files of its images, and the judgment itself, a number or the `.npy` file that holds it."""

    subset: str
    images: tuple[str, ...]
    judgment: str | float


@dataclass(frozen=True)
class Listing:
    """The rows of a set.

    Args:
        rows: in a fixed order: by subset, then by stem or by line of the CSV file.
        digest: sha256 of every file's name, length and time of change, and of what is judged. The folder that the
            set lies in is no part.
        missing: the files that rows which were left out would have needed, relative to the set's folder.
    """

    rows: tuple[Row, ...]
    digest: str
    missing: tuple[str, ...] = ()


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether judgments at a path are a table, not folders: a file, or something missing whose name ends in .csv."""
    path = Path(path).expanduser()
    return not path.is_dir() and (path.is_file() or path.suffix.lower() == ".csv")


def list_bapps(
    root: str | os.PathLike[str],
    task: Task,
    split: str,
    subsets: Sequence[str] | None = None,
    *,
    allow_missing: bool = False,
) -> Listing:
    """List `ROOT/TASK/SPLIT/SUBSET/{ref,p0,p1,judge}` (for "jnd": `{p0,p1,same}`), paired by stem.

    Args:
        root: the folder that holds `2afc` and `jnd`.
        task: "2afc" or "jnd".
        split: "train" or "val".
        subsets: the folders to read, in this order; all that are there where None, BAPPS's own first.
        allow_missing: leave out rows that lack a file instead of raising; `Listing.missing` names the files.

    Raises:
        InputError: a folder is not there or holds no complete row, files are missing or cannot be read, or two share a
            stem.
    """
    home = Path(root).expanduser() / task / split
    rows: list[Row] = []
    missing: list[str] = []
    digest = hashlib.sha256()
    for subset in _chosen(home, subsets):
        found, lacking, stamps = _list_subset(home / subset, task)
        missing += [f"{task}/{split}/{subset}/{name}" for name in lacking]
        rows += found
        digest.update("\n".join((subset, *stamps, "")).encode("utf-8", "surrogateescape"))
        if not found:
            folders = ", ".join((*IMAGES[task], JUDGMENT[task]))
            raise InputError(
                f"expected judged images in {home / subset}, got no stem that all of its folders {folders} hold"
                f"{_naming(missing)}; leave the subset out, or unpack it again"
            )
    if missing and not allow_missing:
        raise InputError(
            f"the files in {home} do not pair up by stem{_naming(missing)}; unpack the set again, or evaluate without "
            "what is incomplete: `iqazoo eval` takes --allow-missing, the dataset allow_missing=True"
        )
    return Listing(tuple(rows), digest.hexdigest(), tuple(missing))


def list_table(path: str | os.PathLike[str], subsets: Sequence[str] | None = None) -> Listing:
    """List a CSV file of judgments with the columns reference, a, b, preference, and subset if it has one.

    Files are relative to the table's folder; `preference` is the fraction that preferred b. The subset of a row is
    "all" where the table does not say.

    Args:
        path: the CSV file.
        subsets: the subsets whose rows are taken, in this order; all where None, BAPPS's own first.

    Raises:
        InputError: the table cannot be read, has no row or other columns, a preference is not in [0, 1], no row is of
            a subset, or a file is missing.
    """
    return _list_csv(Path(path).expanduser(), ("reference", "a", "b"), (), "preference", (0, 1), subsets)


def list_ratings(path: str | os.PathLike[str]) -> Listing:
    """List a CSV file of opinions with the columns image, rating, and reference and subset if it has them.

    As `list_table`, but `rating` is any finite number. A row's images are the image, and its reference if there is
    such a column.
    """
    return _list_csv(Path(path).expanduser(), ("image",), ("reference",), "rating", (-math.inf, math.inf))


def _list_csv(
    path: Path,
    files: tuple[str, ...],
    perhaps: tuple[str, ...],
    label: str,
    bounds: tuple[float, float],
    subsets: Sequence[str] | None = None,
) -> Listing:
    """List a table with columns for `files`, a `label` within `bounds`, and `perhaps` further files."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            lines = [(reader.line_num, line) for line in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"expected a CSV file of judgments, got {path}: {error}") from error
    if not lines or not {*files, label} <= set(columns):
        wanted = f"a header with {', '.join((*files, label))} and a row for each judgment"
        raise InputError(f"{path}: expected {wanted}, got {', '.join(columns) or 'no header'} and {len(lines)} rows")
    files = (*files, *(column for column in perhaps if column in columns))
    rows = [_csv_row(path, number, line, files, label, bounds) for number, line in lines]
    rows = _rows_of(_selected({row.subset for row in rows}, subsets, path), rows)
    digest, missing = hashlib.sha256(), []
    for row in rows:
        stamps = []
        for name in row.images:
            try:
                stamps.append(_stamp(os.path.relpath(name, path.parent), os.stat(name)))
            except OSError:
                missing.append(name)
        digest.update(f"{row.subset}\n{stamps}\n{row.judgment!r}\n".encode("utf-8", "surrogateescape"))
    if missing:
        raise InputError(f"{path} names files that are not there{_naming(missing)}")
    return Listing(tuple(rows), digest.hexdigest())


def _chosen(home: Path, subsets: Sequence[str] | None) -> list[str]:
    """The subsets to read, each a folder below `home`."""
    try:
        with os.scandir(home) as entries:
            found = {e.name for e in entries if e.is_dir() and not e.name.startswith(".")}
    except OSError as error:
        raise InputError(
            f"expected a folder {home}, got {error.strerror}; give the folder that holds "
            f"{' and '.join(IMAGES)}, as BAPPS's archives unpack, or make one with `iqazoo data bapps-like`"
        ) from error
    return _selected(found, subsets, home)


def _selected(there: Iterable[str], subsets: Sequence[str] | None, home: Path) -> list[str]:
    """The names in `subsets`, each of which must be `there`; all that are there where None."""
    found = sorted(there, key=_by_paper)
    chosen = list(dict.fromkeys(found if subsets is None else subsets))
    unknown = [name for name in chosen if name not in found]
    if unknown or not chosen:
        wanted = ", ".join(unknown) or "a subset or more"
        raise InputError(f"expected {wanted} in {home}, got {', '.join(found) or 'no folder'}; give some of these")
    return chosen


def _rows_of(subsets: Sequence[str], rows: Iterable[Row]) -> list[Row]:
    """The rows of some subsets; those of one stay together, as subsets follow each other in a folder."""
    places = {subset: place for place, subset in enumerate(subsets)}
    return sorted((row for row in rows if row.subset in places), key=lambda row: places[row.subset])


def _by_paper(subset: str) -> tuple[int, str]:
    return (SUBSETS.index(subset) if subset in SUBSETS else len(SUBSETS), subset)


def _list_subset(folder: Path, task: Task) -> tuple[list[Row], list[str], list[str]]:
    """The complete rows of one subset, the names of missing files without suffix, and what dates all files."""
    parts = {part: _files(folder / part, SUFFIXES) for part in IMAGES[task]}
    parts[JUDGMENT[task]] = _files(folder / JUDGMENT[task], (".npy",))
    stems = sorted(set().union(*parts.values()))
    missing = [f"{part}/{stem}" for stem in stems for part, files in parts.items() if stem not in files]
    complete = [stem for stem in stems if all(stem in files for files in parts.values())]
    rows, stamps = [], []
    for stem in complete:
        *images, judgment = (os.path.join(folder, part, files[stem][0]) for part, files in parts.items())
        rows.append(Row(folder.name, tuple(images), judgment))
        stamps += [*(files[stem][1] for files in parts.values()), _content(judgment)]
    return rows, missing, stamps


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Stem -> (name, stamp) of the visible files of a folder; none where there is no such folder."""
    files: dict[str, tuple[str, str]] = {}
    try:
        for entry in _entries(folder):
            stem, suffix = os.path.splitext(entry.name)
            if suffix.lower() not in suffixes or entry.name.startswith("."):
                continue
            try:
                stamp = _stamp(entry.name, entry.stat())
            except FileNotFoundError:  # a link to nothing: this file is missing, the others are there
                continue
            if stem in files:
                raise InputError(f"{folder} holds both {files[stem][0]} and {entry.name}; keep one of them")
            files[stem] = entry.name, stamp
    except OSError as error:
        raise InputError(f"{folder} cannot be listed: {error.strerror}") from error
    return files


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds; nothing where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []


def _stamp(name: str, stat: os.stat_result) -> str:
    return f"{name} {stat.st_size} {stat.st_mtime_ns}"


def _content(judgment: str) -> str:
    """sha256 of a judgment's file.

    All judgments have one length, and archives may give every file one time of change: the stamps of two sets can be
    equal where people answered otherwise. Reading all 151k of BAPPS's train takes some 3 s more; the place or the inode
    would cost nothing, but have every copy of a set decoded again, which takes minutes and gigabytes.
    """
    try:
        with open(judgment, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError as error:
        raise InputError(f"{judgment} cannot be read: {error.strerror}; unpack it again") from error


def _csv_row(
    path: Path,
    number: int,
    line: dict[str, str | None],
    files: tuple[str, ...],
    label: str,
    bounds: tuple[float, float],
) -> Row:
    images = tuple((line[column] or "").strip() for column in files)
    try:
        judgment = float(line[label] or "")
    except ValueError:
        judgment = math.nan
    low, high = bounds
    if not all(images) or not math.isfinite(judgment) or not low <= judgment <= high:
        raise InputError(
            f"{path}, line {number}: expected a file for each of {', '.join(files)} and a {label} from {low:g} to "
            f"{high:g}, got {', '.join(str(line[column]) for column in (*files, label))}"
        )
    subset = (line.get("subset") or "").strip() or "all"
    return Row(subset, tuple(os.path.join(path.parent, image) for image in images), judgment)


def _naming(missing: Iterable[str]) -> str:
    missing = list(missing)
    if not missing:
        return ""
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return f": missing {', '.join(missing[:SHOWN])}{more}"
