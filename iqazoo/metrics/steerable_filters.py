"""The steerable pyramid of six orientations: Simoncelli, Freeman, "The steerable pyramid: a flexible architecture for
multi-scale derivative computation", IEEE ICIP 1995.

The taps are those of matlabPyrTools' sp5Filters, as pyrtools 1.1.1 has them (MIT licence, Copyright (c) 2016
LabForComputationalVision). Filters are symmetric: a quarter of each is given, from its corner to its centre.
"""

import numpy as np

FIRST_LOW = (
    (0.00341614, -0.01551246, -0.03848215),
    (-0.01551246, 0.05586982, 0.1592557),
    (-0.03848215, 0.1592557, 0.40304148),
)
LOW = (
    (0.00170808, -0.00489834, -0.00775624, -0.01888864, -0.01924108),
    (-0.00489834, -0.01046562, -0.01322234, 0.008212, 0.02005976),
    (-0.00775624, -0.01322234, 0.02793492, 0.06554076, 0.07962786),
    (-0.01888864, 0.008212, 0.06554076, 0.12852666, 0.16339236),
    (-0.01924108, 0.02005976, 0.07962786, 0.16339236, 0.2019308),
)
BAND = (  # of vertical derivatives: the rows below the middle are the negative of those above
    (0.00277643, 0.00496194, 0.01026699, 0.01455399),
    (-0.00986904, -0.00893064, 0.01189859, 0.02755155),
    (-0.01021852, -0.03075356, -0.08226445, -0.11732297),
    (0.0, 0.0, 0.0, 0.0),
)


def first_low() -> np.ndarray:
    """The low-pass before the first level, `[1, 1, 5, 5]`."""
    return _whole(FIRST_LOW, 1)


def low() -> np.ndarray:
    """The low-pass between levels, `[1, 1, 9, 9]`."""
    return _whole(LOW, 1)


def bands() -> np.ndarray:
    """The vertical and the horizontal band, `[2, 1, 7, 7]`."""
    vertical = _whole(BAND, -1)
    return np.concatenate([vertical, -vertical.transpose(0, 1, 3, 2)])


def _whole(quarter: tuple[tuple[float, ...], ...], below: int) -> np.ndarray:
    half = np.array(quarter)
    # Not by slices with a step of -1, which torch.compile takes for others without a word.
    half = np.concatenate([half, np.flip(half[:, :-1], 1)], axis=1)
    return np.concatenate([half, below * np.flip(half[:-1], 0)])[None, None]
