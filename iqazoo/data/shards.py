"""Decoded images on disk: each is decoded once, and read ever after by mapping a file into memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from iqazoo.atomic import one_at_a_time, replacing
from iqazoo.data.listing import Listing, Row
from iqazoo.environment import cache_folder
from iqazoo.errors import InputError
from iqazoo.images import FORMATS, decode

FORMAT = 2
"""Part of every key: a higher one makes older caches invisible."""
ROWS = 1024
SHARD_BYTES = 2**26
"""A shard holds `ROWS` rows, or fewer where their pixels would take more bytes; one at least."""


class Shards:
    """The images and judgments of a listing, decoded to 8 bits, in memory-mapped files.

    The files lie in `cache_folder()/judgments/KEY`, where KEY is the sha256 of the listing's digest and the size, so
    another size or a changed file never meets an old shard. A shard is made when it is first asked for, appears whole
    or not at all, and is made again where it cannot be read. Processes that ask for one shard at once make it once.

    Args:
        listing: the rows.
        size: side of the square that every image is resized to, or None to keep its own size.
    """

    def __init__(self, listing: Listing, size: int | None) -> None:
        self._rows = listing.rows
        self._size = size
        self._rows_per_shard = _rows_per_shard(listing.rows, size)
        parts = [FORMAT, self._rows_per_shard, SHARD_BYTES, listing.digest, size]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        self._folder = cache_folder() / "judgments" / key[:32]
        self._open: dict[int, _Shard] = {}

    def __len__(self) -> int:
        return len(self._firsts)

    def row(self, index: int) -> tuple[list[Tensor], float]:
        """The images of one row, `[3, H, W]` uint8 each, and its judgment. The images must not be written to."""
        number = bisect_right(self._firsts, index) - 1
        return self.shard(number).row(index - self._firsts[number])

    def shard(self, number: int) -> _Shard:
        """A shard, made first if need be.

        Raises:
            InputError: an image or a judgment cannot be read, or the shard cannot be written.
        """
        if number not in self._open:
            self._open[number] = self._opened(number)
        return self._open[number]

    def fingerprint(self) -> str:
        """sha256 of all decoded pixels and judgments; makes what is not made yet."""
        digest = hashlib.sha256()
        for number in range(len(self)):
            digest.update(self.shard(number).digest.encode())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}  # a worker maps the files itself; pickling would copy them

    @cached_property
    def _firsts(self) -> list[int]:
        """The first row of each shard."""
        if self._size is not None:
            return list(range(0, len(self._rows), self._rows_per_shard))
        path = self._folder / "firsts.json"
        with contextlib.suppress(OSError, ValueError):  # opening every file takes long
            return json.loads(path.read_text())
        firsts = _cut([sum(map(_byte_count, row.images)) for row in self._rows])
        with contextlib.suppress(OSError):  # a shard that cannot be written either will tell
            self._folder.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(firsts))
        return firsts

    def _opened(self, number: int) -> _Shard:
        path = self._folder / f"{number:05}.safetensors"
        bounds = [*self._firsts, len(self._rows)]
        rows = self._rows[bounds[number] : bounds[number + 1]]
        with contextlib.suppress(OSError, safetensors.SafetensorError):
            return _Shard(path, rows)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(path.with_suffix(".lock")):
                with contextlib.suppress(OSError, safetensors.SafetensorError):  # another process was quicker
                    return _Shard(path, rows)
                content = _decoded(rows, self._size)
                with replacing(path) as temporary:
                    temporary.write_bytes(content)
                return _Shard(path, rows)
        except OSError as error:
            raise InputError(
                f"decoded images cannot be kept in {self._folder}: {error.strerror}; make room, or set IQAZOO_CACHE "
                "to another folder"
            ) from error


class _Shard:
    """One file, mapped.

    Raises:
        OSError: there is no such file.
        safetensors.SafetensorError: it is torn, or another kind of file.
    """

    def __init__(self, path: Path, rows: Sequence[Row]) -> None:
        if not path.is_file():
            raise FileNotFoundError(path)
        with safetensors.safe_open(path, "pt") as file:
            self.digest: str = (file.metadata() or {}).get("sha256", "")
            self._pixels: Tensor = file.get_tensor("pixels")  # a view of the mapped file: nothing is read yet
            self._sizes: Tensor = file.get_tensor("sizes")  # [rows, images, 2], height and width
            self._judgments: list[float] = file.get_tensor("judgments").tolist()
        counts = 3 * self._sizes.prod(2).flatten()
        if self._sizes.shape[:2] != (len(rows), len(rows[0].images)) or counts.sum() != len(self._pixels):
            raise safetensors.SafetensorError(f"{path} holds other rows")
        self._starts: list[int] = (counts.cumsum(0) - counts).tolist()

    def row(self, place: int) -> tuple[list[Tensor], float]:
        sizes: list[list[int]] = self._sizes[place].tolist()
        starts = self._starts[place * len(sizes) :]
        images = [
            self._pixels[start : start + 3 * height * width].view(3, height, width)
            for start, (height, width) in zip(starts, sizes, strict=False)
        ]
        return images, self._judgments[place]


def _decoded(rows: Sequence[Row], size: int | None) -> bytes:
    """The bytes of a shard."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        images = list(pool.map(lambda file: _image(file, size), (file for row in rows for file in row.images)))
    judgments = torch.tensor([_judgment(row.judgment) for row in rows], dtype=torch.float32)
    pixels = torch.cat([image.flatten() for image in images])
    sizes = torch.tensor([image.shape[1:] for image in images]).view(len(rows), -1, 2)
    digest = hashlib.sha256()
    for tensor in (pixels, sizes, judgments):
        digest.update(tensor.numpy().data)
    return safetensors.torch.save(
        {"pixels": pixels, "sizes": sizes, "judgments": judgments}, {"sha256": digest.hexdigest()}
    )


def _image(path: str, size: int | None) -> Tensor:
    """`[3, H, W]` uint8. Resized as the recipe of LPIPS does: bilinear by Pillow, which also smooths as it shrinks."""
    planes = decode(path).mul_(255).round_().to(torch.uint8).expand(3, -1, -1)
    if size is None or planes.shape[1:] == (size, size):
        return planes.contiguous()
    picture = Image.fromarray(np.ascontiguousarray(planes.permute(1, 2, 0).numpy()))
    resized = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(resized.copy()).permute(2, 0, 1).contiguous()


def _judgment(value: str | float) -> float:
    """The number itself, or the one number in [0, 1] that a `.npy` file holds."""
    if not isinstance(value, str):
        return value
    try:
        found = np.load(value, allow_pickle=False)
        number = float(found.item())
    except (OSError, ValueError, TypeError, EOFError, AttributeError) as error:
        raise InputError(f"{value}: expected a .npy file with one number, got {error}; unpack it again") from error
    if not 0 <= number <= 1:
        raise InputError(f"{value}: expected a fraction of people, from 0 to 1, got {number}")
    return number


def _byte_count(path: str) -> int:
    """Of an image's three planes, from the head of its file; 0 if it is broken, which decoding it will tell."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return 3 * image.width * image.height
    except Exception:  # decoders answer broken bytes with anything
        return 0


def _rows_per_shard(rows: Sequence[Row], size: int | None) -> int:
    """At most so many rows make a shard; where images keep their own size, `_cut` sees to their bytes."""
    if size is None or not rows:
        return ROWS
    row_bytes = 3 * size * size * len(rows[0].images)
    return max(1, min(ROWS, SHARD_BYTES // row_bytes))


def _cut(sizes: Sequence[int]) -> list[int]:
    """The first row of each shard, where the rows take `sizes` bytes."""
    firsts, held = [0], 0
    for row, size in enumerate(sizes):
        if row > firsts[-1] and (row - firsts[-1] == ROWS or held + size > SHARD_BYTES):
            firsts.append(row)
            held = 0
        held += size
    return firsts
