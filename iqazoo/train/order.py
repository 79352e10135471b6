"""In which order the data are seen: a function of seed and epoch alone, so that a run can be resumed anywhere."""

from __future__ import annotations

import numpy as np

from iqazoo.errors import InputError


def batches(
    count: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, processes: int = 1
) -> list[list[int]]:
    """The batches of an epoch, full ones only: what is left over comes in another epoch, in another order.

    Args:
        count: samples in the data.
        batch_size: of all processes together.
        seed: of the run.
        epoch: from 0.
        rank: of this process.
        processes: how many there are; each gets an equal part of every batch.

    Raises:
        InputError: there is not one full batch, or it cannot be shared out evenly.
    """
    if count < batch_size:
        raise InputError(
            f"the training set has {count} samples, fewer than one batch of {batch_size}; "
            f"take a --batch-size of {count} or less"
        )
    if batch_size % processes:
        raise InputError(f"a batch of {batch_size} cannot be shared by {processes} processes; take a multiple of them")
    order = np.random.default_rng([seed, epoch]).permutation(count)
    full = order[: count - count % batch_size].reshape(-1, batch_size)
    return full[:, rank::processes].tolist()
