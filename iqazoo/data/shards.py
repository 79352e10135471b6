"""Decoded images on disk: each is decoded once, and read ever after by mapping a file into memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from iqazoo.atomic import replacing
from iqazoo.data.listing import Listing, Row
from iqazoo.environment import cache_folder
from iqazoo.errors import InputError
from iqazoo.images import decode

FORMAT = 1
"""Part of every key: a higher one makes older caches invisible."""
ROWS = 1024
SHARD_BYTES = 2**26
"""A shard holds `ROWS` rows, or fewer where images keep a larger size of their own."""


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
        key = hashlib.sha256(json.dumps([FORMAT, listing.digest, size]).encode()).hexdigest()
        self._folder = cache_folder() / "judgments" / key[:32]
        self._per_shard = ROWS if size is not None else _rows_that_fit(listing.rows[0])
        self._open: dict[int, _Shard] = {}

    def __len__(self) -> int:
        return -(-len(self._rows) // self._per_shard)

    def row(self, index: int) -> tuple[list[Tensor], float]:
        """The images of one row, `[3, H, W]` uint8 each, and its judgment. The images must not be written to."""
        number, place = divmod(index, self._per_shard)
        return self.shard(number).row(place)

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

    def _opened(self, number: int) -> _Shard:
        path = self._folder / f"{number:05}.safetensors"
        rows = self._rows[number * self._per_shard : (number + 1) * self._per_shard]
        with contextlib.suppress(OSError, safetensors.SafetensorError):
            return _Shard(path, rows)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(path.with_suffix(".lock")):
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


def _rows_that_fit(row: Row) -> int:
    """How many rows of images like the first fill a shard."""
    needed = sum(decode(path)[0].numel() * 3 for path in row.images)
    return max(1, min(ROWS, SHARD_BYTES // needed))


@contextlib.contextmanager
def _one_at_a_time(lock: Path) -> Iterator[None]:
    """Let one process at a time through, where the system and the file system can."""
    try:
        import fcntl
    except ImportError:  # on Windows two processes may do the same work twice, which harms nothing
        yield
        return
    with open(lock, "w") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
