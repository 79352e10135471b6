"""Datasets of human judgments: in the layout of BAPPS (Zhang et al., CVPR 2018), or in a table."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset

from iqazoo.data.augment import flipped_axes
from iqazoo.data.listing import Listing, list_bapps, list_ratings, list_table
from iqazoo.data.shards import Shards
from iqazoo.errors import InputError

Split = Literal["train", "val"]


class _Judgments(Dataset[dict[str, Any]]):
    """Rows of images with a judgment, decoded once into a cache (see `shards.Shards`).

    Args:
        listing: the rows.
        size: side of the square that images are resized to; None keeps each image's own size.
        augment: mirror the images of a row, all in the same way, by (seed, epoch, index).
        seed: 0 or more.
    """

    def __init__(self, listing: Listing, size: int | None, augment: bool, seed: int) -> None:
        if size is not None and size < 1:
            raise InputError(f"size must be 1 or more, or None for the images' own size; got {size}")
        if seed < 0:
            raise InputError(f"seed must be 0 or more; got {seed}")
        self._rows = listing.rows
        self._shards = Shards(listing, size)
        self._augment = augment
        self._seed = seed
        # Shared memory: workers that live for many epochs see what the main process sets.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.size = size
        self.missing = listing.missing
        self.subset_names = tuple(dict.fromkeys(row.subset for row in listing.rows))

    def __len__(self) -> int:
        return len(self._rows)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, 0 or more, that augmentation goes by; takes effect in workers that already run."""
        self._epoch.fill_(epoch)

    def subset_of(self, index: int) -> str:
        """The subset that a row belongs to."""
        return self._rows[index].subset

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decode now all that is not in the cache yet; without it each part is decoded when it is first read.

        Args:
            progress: told how many parts of how many are ready, after each.

        Raises:
            InputError: an image or a judgment cannot be read, or the cache cannot be written.
        """
        for number in range(len(self._shards)):
            self._shards.shard(number)
            if progress:
                progress(number + 1, len(self._shards))

    def fingerprint(self) -> str:
        """sha256 of the rows' subsets, decoded images and judgments, wherever they lie. Prepares the cache."""
        subsets = "\n".join(row.subset for row in self._rows)
        return sha256(f"{subsets}\n{self._shards.fingerprint()}".encode("utf-8", "surrogateescape")).hexdigest()

    def _row(self, index: int) -> tuple[list[Tensor], Tensor, str]:
        """Images `[3, H, W]` float32 in [0, 1], the judgment `[1]`, and the file of the first image."""
        index = range(len(self))[index]  # negative ones count from the end; IndexError ends a plain for loop
        images, judgment = self._shards.row(index)
        axes = flipped_axes(self._seed, int(self._epoch), index) if self._augment else ()
        if axes:
            images = [image.flip(axes) for image in images]
        scaled = [image.to(torch.float32).div_(255) for image in images]
        return scaled, torch.tensor([judgment]), self._rows[index].images[0]


class Triplets(_Judgments):
    """Two-alternative forced choices: is A or B closer to the reference?

    An item is what the trainers call a batch, for one row: `ref_img`, `distA_img`, `distB_img`, `[3, H, W]` float32 in
    [0, 1]; `mos_label`, `[1]` float32, the fraction of people who preferred B; `img_path`, the file of the reference.
    Rows are in the order of `subset_names`. Use `TwoAFC` for BAPPS and `TripletTable` for a CSV file.
    """

    def __getitem__(self, index: int) -> dict[str, Any]:
        (reference, a, b), preference, path = self._row(index)
        return {"ref_img": reference, "distA_img": a, "distB_img": b, "mos_label": preference, "img_path": path}


class TwoAFC(Triplets):
    """The 2AFC part of BAPPS: `ROOT/2afc/SPLIT/SUBSET/{ref,p0,p1,judge}`, paired by stem; see `Triplets`.

    Args:
        root: the folder that holds `2afc`.
        split: "train" or "val".
        subsets: folders to read, such as "traditional" and "cnn"; all that are there where None.
        size: side of the square that images are resized to, bilinear, as LPIPS was trained with 64 (a resize, not a
            crop); None keeps each image's own size.
        augment: mirror the three images of a row, all in the same way, by (seed, epoch, index).
        seed: of the augmentation, 0 or more.
        allow_missing: leave out rows that lack a file; `dataset.missing` names the files.

    Raises:
        InputError: a folder is not there or holds no row, or files are missing.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "train",
        subsets: Sequence[str] | None = None,
        size: int | None = 64,
        augment: bool = False,
        seed: int = 0,
        *,
        allow_missing: bool = False,
    ) -> None:
        listing = list_bapps(root, "2afc", split, subsets, allow_missing=allow_missing)
        super().__init__(listing, size, augment, seed)


class TripletTable(Triplets):
    """Judgments of your own: a CSV file with the columns reference, a, b, preference; see `Triplets`.

    Files are relative to the table's folder; `preference` is the fraction that preferred b. A column `subset` may
    divide the rows; without it all are in the subset "all".

    Args:
        path: the CSV file.
        size, augment, seed: as for `TwoAFC`. Images that are not square are squeezed into one.
        subsets: take only rows of these; all where None.

    Raises:
        InputError: the table cannot be read or has no row, a preference is not in [0, 1], no row is of a subset, or a
            file is missing.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: int | None = 64,
        augment: bool = False,
        seed: int = 0,
        *,
        subsets: Sequence[str] | None = None,
    ) -> None:
        super().__init__(list_table(path, subsets), size, augment, seed)


class JND(_Judgments):
    """Just noticeable differences: do people take two images for the same? `ROOT/jnd/SPLIT/SUBSET/{p0,p1,same}`.

    An item holds `ref_img` (p0) and `dist_img` (p1), `[3, H, W]` float32 in [0, 1]; `same_label`, `[1]` float32, the
    fraction of people who said "the same"; `img_path`, the file of p0.

    Args:
        root, split, subsets, size, allow_missing: as for `TwoAFC`; BAPPS has only the split "val".

    Raises:
        InputError: a folder is not there or holds no row, or files are missing.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split = "val",
        subsets: Sequence[str] | None = None,
        size: int | None = 64,
        *,
        allow_missing: bool = False,
    ) -> None:
        listing = list_bapps(root, "jnd", split, subsets, allow_missing=allow_missing)
        super().__init__(listing, size, augment=False, seed=0)

    def __getitem__(self, index: int) -> dict[str, Any]:
        (reference, image), same, path = self._row(index)
        return {"ref_img": reference, "dist_img": image, "same_label": same, "img_path": path}


class RatingTable(_Judgments):
    """Opinions of single images: a CSV file with the columns image, rating, and reference and subset if it has them.

    An item holds `img`, and `ref_img` where the table has references, `[3, H, W]` float32 in [0, 1]; `mos_label`, `[1]`
    float32, the rating, on whatever scale it is; `img_path`, the file of the image.

    Args:
        path, size, augment, seed: as for `TripletTable`.

    Raises:
        InputError: the table cannot be read or has no row, a rating is no finite number, or a file is missing.
    """

    def __init__(
        self, path: str | os.PathLike[str], size: int | None = None, augment: bool = False, seed: int = 0
    ) -> None:
        super().__init__(list_ratings(path), size, augment, seed)

    def __getitem__(self, index: int) -> dict[str, Any]:
        images, rating, path = self._row(index)
        return {**dict(zip(("img", "ref_img"), images, strict=False)), "mos_label": rating, "img_path": path}
