"""A set of judgments in the layout of BAPPS out of any folder of photographs, with made-up but consistent judges."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from iqazoo.data.distortions import FAMILIES, Distort, Pixels, from_picture, to_picture
from iqazoo.data.listing import IMAGES, JUDGMENT, Task
from iqazoo.errors import InputError
from iqazoo.images import decode_array
from iqazoo.pairing import find_images

PATCH = 64
MARGIN = 8
"""Pixels around a patch, so that borders and shifts show the photograph and no padding."""
SOURCE = PATCH + 2 * MARGIN
LEVELS = 8
"""Severities are 1/8, 2/8 .. 1."""
LONGEST = 512
"""Larger photographs are shrunk, so that a patch shows something."""
HELD_OUT = 0.25
LEAST_CONTRAST = 0.04
"""Standard deviation below which a patch is as good as blank; another place is then tried."""

CHUNK = 90

SHIFT, EXPOSURE, GRAIN = 2, 0.05, 0.012
README = """\
Judgments in the layout of BAPPS, made by `iqazoo data bapps-like`. No person was asked.

Each triplet is a patch of {patch} x {patch} pixels of a photograph (ref) and the same patch twice distorted (p0, p1)
by one family of distortion in two severities. judge is 1 where p1 has the smaller severity, else 0: "same family,
larger severity is worse" is all that the judge knows.

p0 and p1 carry, drawn independently, what the judge does not look at: a shift of up to {shift} pixels, brightness
and gamma within {exposure:.0%}, and grain with a standard deviation of up to {grain} (of a range of 1). Without it PSNR
would be right nearly always, as noise of a larger dose is further away by any measure.

jnd/val: p0 is a patch, p1 the same with that nuisance (same = 1), or distorted as well (same = 0).

Subsets and their families:
{families}
Photographs of train: {train}
Photographs of val, held out: {val}
Seed {seed}; triplets: {counts[0]} train, {counts[1]} val; {counts[2]} pairs in jnd/val.
"""


@dataclass(frozen=True)
class Counts:
    """How many triplets of each split, and pairs of jnd/val, to make."""

    train: int = 3000
    val: int = 1000
    jnd: int = 400


@dataclass(frozen=True)
class _Chunk:
    """Some rows of one split: what one process makes at a time. `rows` holds index and photograph."""

    task: Task
    folder: Path
    rows: tuple[tuple[int, Path], ...]
    seed: tuple[int, int]


def make_bapps_like(
    images: Path,
    out: Path,
    counts: Counts | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Make `OUT/2afc/{train,val}/SUBSET/{ref,p0,p1,judge}`, `OUT/jnd/val/SUBSET/{p0,p1,same}` and `OUT/README.txt`.

    A quarter of the photographs, at least one, is held out for val. The same seed, photographs and versions of numpy
    and Pillow give the same files. The folder appears when all is done.

    Args:
        images: a folder of photographs, two or more, of 80 x 80 pixels or more.
        out: a folder that is empty or does not exist.
        counts: how much to make.
        seed: 0 or more.
        workers: processes to share the work; more than one are started anew, so a script needs its
            `if __name__ == "__main__"`.
        progress: told from time to time how many rows were made since it was last told.

    Raises:
        InputError: fewer than two photographs, one that cannot be read or is too small, fewer rows than families,
            or a folder `out` that holds something.
        OSError: the folder cannot be written.
    """
    counts = counts or Counts()
    least = min(counts.train, counts.val, counts.jnd)
    if least < len(FAMILIES) or seed < 0:
        raise InputError(f"expected a seed of 0 or more and {len(FAMILIES)} rows or more, got {seed} and {least}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"expected a folder that is empty or does not exist, got {out}; choose another, or empty it")
    train, val = _split(images, seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        (making / "README.txt").write_text(_readme(images, train, val, counts, seed), "utf-8", "surrogateescape")
        chunks = [
            *_chunks("2afc", making / "2afc" / "train", train, counts.train, (seed, 0)),
            *_chunks("2afc", making / "2afc" / "val", val, counts.val, (seed, 1)),
            *_chunks("jnd", making / "jnd" / "val", val, counts.jnd, (seed, 2)),
        ]
        for made in _mapped(_write_chunk, chunks, workers):
            if progress:
                progress(made)
        making.chmod(0o755)  # mkdtemp keeps a folder to its owner
        os.replace(making, out)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _split(folder: Path, seed: int) -> tuple[list[Path], list[Path]]:
    """Photographs for train and for val: none is in both."""
    photographs = [path for paths in find_images(folder).values() for path in paths]
    if len(photographs) < 2:
        raise InputError(f"expected two photographs or more in {folder}, one of them to hold out, got one")
    order = np.random.default_rng(seed).permutation(len(photographs))
    held_out = set(order[: max(1, round(HELD_OUT * len(order)))].tolist())
    train = [path for i, path in enumerate(photographs) if i not in held_out]
    return train, [photographs[i] for i in sorted(held_out)]


def _chunks(
    task: Task, folder: Path, photographs: Sequence[Path], count: int, seed: tuple[int, int]
) -> Iterator[_Chunk]:
    """Divide a split into chunks. Families and photographs take turns, each family once with each photograph."""
    for family in FAMILIES.values():
        for part in (*IMAGES[task], JUDGMENT[task]):
            (folder / family.subset / part).mkdir(parents=True, exist_ok=True)
    rows = tuple((i, photographs[i // len(FAMILIES) % len(photographs)]) for i in range(count))
    for start in range(0, count, CHUNK):
        yield _Chunk(task, folder, rows[start : start + CHUNK], seed)


def _mapped(function: Callable[[_Chunk], int], chunks: Sequence[_Chunk], workers: int) -> Iterator[int]:
    if workers == 1:
        yield from map(function, chunks)
        return
    # A fork of a process with threads, as torch starts them, may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, chunks)


def _write_chunk(chunk: _Chunk) -> int:
    for index, path in chunk.rows:
        rng = np.random.default_rng((*chunk.seed, index))
        name = list(FAMILIES)[index % len(FAMILIES)]
        make = _triplet if chunk.task == "2afc" else _pair
        images, judgment = make(FAMILIES[name].distort, _source(_photograph(path), rng), rng)
        home = chunk.folder / FAMILIES[name].subset
        for part, pixels in zip(IMAGES[chunk.task], images, strict=True):
            to_picture(pixels).save(home / part / f"{index:06}.png", compress_level=1)
        np.save(home / JUDGMENT[chunk.task] / f"{index:06}.npy", np.array([judgment], np.float32))
    return len(chunk.rows)


def _triplet(distort: Distort, source: Pixels, rng: np.random.Generator) -> tuple[list[Pixels], float]:
    """The images of a triplet, and its judgment."""
    a, b = (1 + rng.permutation(LEVELS)[:2]).tolist()
    seen = [_seen(distort(source, level / LEVELS, rng), rng) for level in (a, b)]
    return [_centre(source), *seen], float(b < a)


def _pair(distort: Distort, source: Pixels, rng: np.random.Generator) -> tuple[list[Pixels], float]:
    """The images of a pair of jnd, and its judgment."""
    same = rng.random() < 0.5
    level = int(rng.integers(1, LEVELS + 1))
    return [_centre(source), _seen(source if same else distort(source, level / LEVELS, rng), rng)], float(same)


@lru_cache(maxsize=2)
def _photograph(path: Path) -> Pixels:
    """`[H, W, 3]` float32 in [0, 1]; kept, as neighbouring rows share it."""
    planes = decode_array(path, background="white").transpose(1, 2, 0)
    photograph = to_picture(np.broadcast_to(planes, (*planes.shape[:2], 3)))
    photograph.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    if min(photograph.size) < SOURCE:
        raise InputError(
            f"{path}: expected {SOURCE} x {SOURCE} pixels or more once the longer side is {LONGEST} or less, got "
            f"{photograph.height} x {photograph.width}; leave it out"
        )
    return from_picture(photograph)


def _source(photograph: Pixels, rng: np.random.Generator) -> Pixels:
    """A patch with its margin, from a place that is drawn, and drawn again where it is blank."""
    source = photograph
    for _ in range(10):
        y, x = (rng.integers(0, extent - SOURCE + 1) for extent in photograph.shape[:2])
        source = photograph[y : y + SOURCE, x : x + SOURCE]
        if source.std(axis=(0, 1)).mean() > LEAST_CONTRAST:
            break
    return source


def _seen(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """The patch with nuisance: shifted, a little brighter or darker, grainy."""
    dy, dx = rng.integers(-SHIFT, SHIFT + 1, 2)
    brightness, gamma = (1 + EXPOSURE * rng.uniform(-1, 1, 2)).tolist()  # as numpy's numbers they would make float64
    moved = _centre(pixels, dy, dx).clip(0, 1)
    grain = rng.uniform(0, GRAIN) * rng.standard_normal(moved.shape, np.float32)
    return brightness * moved**gamma + grain


def _centre(pixels: Pixels, dy: int = 0, dx: int = 0) -> Pixels:
    return pixels[MARGIN + dy : MARGIN + dy + PATCH, MARGIN + dx : MARGIN + dx + PATCH]


def _readme(images: Path, train: Sequence[Path], val: Sequence[Path], counts: Counts, seed: int) -> str:
    by_subset: dict[str, list[str]] = {}
    for name, family in FAMILIES.items():
        by_subset.setdefault(family.subset, []).append(name)
    return README.format(
        patch=PATCH,
        shift=SHIFT,
        exposure=EXPOSURE,
        grain=GRAIN,
        families="".join(f"  {subset}: {', '.join(names)}\n" for subset, names in by_subset.items()),
        train=", ".join(path.relative_to(images).as_posix() for path in train),
        val=", ".join(path.relative_to(images).as_posix() for path in val),
        seed=seed,
        counts=(counts.train, counts.val, counts.jnd),
    )
