"""Which image belongs to which reference: by relative path without suffix, never by position in a listing."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iqazoo.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


@dataclass(frozen=True)
class Pair:
    """One row to score.

    Args:
        id: the stem that both files share: the relative path without suffix, as in "night/0001".
        image: the image under test; None in an error row whose image is not unique.
        reference: its reference; None without references, and in an error row whose reference is not unique.
        error: why the row cannot be scored, "" where it can.
    """

    id: str
    image: Path | None
    reference: Path | None
    error: str = ""


@dataclass(frozen=True)
class Pairing:
    """Every file found, each exactly once: in a pair (or named in its error), or left over on its side."""

    pairs: tuple[Pair, ...]
    unmatched_images: tuple[Path, ...]
    unmatched_references: tuple[Path, ...]


def find_images(path: Path) -> dict[str, tuple[Path, ...]]:
    """Lists the image files of a folder and of the folders in it, by stem.

    Files and folders whose name starts with a dot are skipped. Links to folders are followed, except back
    into a folder that is being listed.

    Args:
        path: a folder, or a file, which stands for itself whatever its suffix.

    Returns:
        Stem -> files, both sorted. A stem is the path relative to the folder without its last suffix, with
        "/" between folders, in Unicode form NFC (macOS writes NFD). Files that differ only in suffix or in
        Unicode form share a stem.

    Raises:
        InputError: the path does not exist or cannot be listed, or the folder holds no image file.
    """
    looked_for = f"looked for {', '.join(SUFFIXES)} in either case, in the folders below too"
    try:
        if path.is_file():
            return {_stem(path.name): (path,)}
        files = sorted(_walk(path, above=frozenset()))
    except OSError as error:
        raise InputError(
            f"expected an image file or a folder, got {error.filename}: {error.strerror}; {looked_for}"
        ) from error
    if not files:
        raise InputError(f"expected image files in {path}, got none that is not hidden; {looked_for}")
    by_stem: dict[str, tuple[Path, ...]] = {}
    for file in files:
        stem = _stem(file.relative_to(path).as_posix())
        by_stem[stem] = (*by_stem.get(stem, ()), file)
    return dict(sorted(by_stem.items()))


def pair(images: Path, references: Path | None) -> Pairing:
    """Pairs images with references of the same stem (see `find_images`).

    Two files pair with each other whatever their names. Several files of one stem on a side make one pair
    with an error, since any choice among them would be a guess.

    Args:
        images: a folder or a file.
        references: the same kind of path; None leaves every image alone.

    Returns:
        The pairs and the left-over files, sorted by stem. It may hold no pair at all.

    Raises:
        InputError: a path does not exist, a folder holds no image file, or one path is a file and the other
            a folder.
    """
    found = find_images(images)
    if references is None:
        return Pairing(tuple(_join(stem, files, ()) for stem, files in found.items()), (), ())
    wanted = find_images(references)
    if images.is_file() != references.is_file():
        raise InputError(
            f"expected two files or two folders, got {_kind(images)} for the images and {_kind(references)} "
            "for the references; give the same kind on both sides"
        )
    if images.is_file():
        wanted = dict(zip(found, wanted.values(), strict=True))
    return _match(found, wanted)


def _match(found: dict[str, tuple[Path, ...]], wanted: dict[str, tuple[Path, ...]]) -> Pairing:
    """Joins both sides stem by stem; a stem that is ambiguous on one side is an error even if alone."""
    pairs: list[Pair] = []
    alone: tuple[list[Path], list[Path]] = ([], [])
    for stem in sorted(found.keys() | wanted.keys()):
        sides = found.get(stem, ()), wanted.get(stem, ())
        if sum(map(len, sides)) == 1:
            for files, left_over in zip(sides, alone, strict=True):
                left_over.extend(files)
        else:
            pairs.append(_join(stem, *sides))
    return Pairing(tuple(pairs), tuple(alone[0]), tuple(alone[1]))


def _join(stem: str, images: tuple[Path, ...], references: tuple[Path, ...]) -> Pair:
    """The pair of a stem; a side of several files is left out and named in the error."""
    errors = [
        f"expected one {role} named {stem}, got {', '.join(map(str, files))}; keep one of them"
        for role, files in (("image", images), ("reference", references))
        if len(files) > 1
    ]
    image, reference = (files[0] if len(files) == 1 else None for files in (images, references))
    return Pair(stem, image, reference, "; ".join(errors))


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Yields the visible image files below a folder, in no order; `above` holds the folders that led here."""
    here = os.path.realpath(folder)
    if here in above:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _walk(folder / entry.name, above | {here})
            elif entry.name.lower().endswith(SUFFIXES):
                yield folder / entry.name


def _stem(relative: str) -> str:
    """A relative path with "/" between folders, without its last suffix, in Unicode form NFC."""
    return unicodedata.normalize("NFC", os.path.splitext(relative)[0])


def _kind(path: Path) -> str:
    return "a file" if path.is_file() else "a folder"
