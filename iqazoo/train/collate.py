"""From samples to a batch."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils.data import default_collate

from iqazoo.errors import InputError


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """As torch's own.

    Raises:
        InputError: images are of several sizes.
    """
    try:
        return default_collate(items)
    except RuntimeError as error:
        shapes = {tuple(v.shape) for item in items for v in item.values() if isinstance(v, Tensor) and v.ndim == 3}
        raise InputError(f"images of a batch must be of one size, got {sorted(shapes)}; give --size") from error
