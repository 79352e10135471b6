"""What docs/agreement.md says of pyiqa's mad, held to its values: what differs from ours is found in its results alone.

With these differences, and no others, the definition gives what pyiqa computes.
"""

import golden_data
import numpy as np
import pytest
from mad_oracle import slow_sensitivity

SCALE_WEIGHTS = np.array([0.5, 0.75, 1, 5]) / 13.25  # of 0.5, 0.75, 1, 5, 6: its orientations get what scales should


def blocks(planes):
    """`[C, H, W]` -> `[C, h, w, 256]`."""
    return np.lib.stride_tricks.sliding_window_view(planes, (16, 16), (1, 2))[:, ::4, ::4].reshape(
        len(planes), (planes.shape[1] - 12) // 4, (planes.shape[2] - 12) // 4, 256
    )


def mixed(statistic):
    """`[C, h, w]` in the order of `[h, w, C]`, as if it were that of `[C, h, w]`."""
    return statistic.transpose(1, 2, 0).reshape(statistic.shape)


def statistics(planes):
    """Mean, deviation, skewness and kurtosis of each block."""
    found = blocks(planes)
    mean = found.mean(3)
    away = found - mean[..., None]
    squares = away * away
    deviation = np.sqrt(squares.mean(3))
    shape = [(squares * t).mean(3) / np.maximum(deviation, 1e-9) ** power for t, power in ((away, 3), (squares, 4))]
    return [mixed(t) for t in (mean, deviation, *shape)]


def seen(planes):
    height, width = planes.shape[1:]
    sensitivity = slow_sensitivity(height, width).T.reshape(height, width)  # transposed, but read as if it were not
    spectrum = np.fft.fftshift(np.fft.fft2(0.02874 * planes ** (2.2 / 3)), (1, 2)) * sensitivity
    return np.fft.ifft2(np.fft.ifftshift(spectrum, (1, 2))).real


def detected(x, y):
    mean, deviation, *_ = statistics(seen(y))
    error = statistics(seen(x) - seen(y))[1]
    wide = np.pad(deviation, [(0, 0), (1, 0), (1, 0)], mode="edge")
    height, width = mean.shape[1:]
    least = np.min([wide[:, i : i + height, j : j + width] for i in (0, 1) for j in (0, 1)], axis=0)  # whole blocks
    with np.errstate(divide="ignore", invalid="ignore"):
        visible = np.log(error / mean) - np.maximum(np.log(least / 2 / mean), -5)
    visible = np.where(mean > 0.5, np.maximum(visible, 0), 0)
    return 200 * np.sqrt(((visible * blocks((x - y) ** 2).mean(3)) ** 2).mean((1, 2)))


def gabor(height, width, scale, orientation):
    v, u = np.meshgrid((np.arange(height) - height / 2) / height, (np.arange(width) - width / 2) / width, indexing="ij")
    radius = np.hypot(u, v)
    radius[round(height / 2 + 1), round(width / 2 + 1)] = 0.5  # beside the mean, which it is meant for
    away = np.arctan2(-v, u) - orientation * np.pi / 4
    away = np.arctan2(np.sin(away), np.cos(away))
    with np.errstate(divide="ignore"):
        radial = np.exp(-(np.log(radius * 3 * 3**scale) ** 2) / (2 * np.log(0.55) ** 2))
    radial[round(height / 2), round(width / 2)] = 0
    return np.fft.fftshift(radial * np.exp(-(away**2) / (2 * (np.pi / 6) ** 2)))


def appearance(x, y):
    found = 0
    for orientation, weight in enumerate(SCALE_WEIGHTS):
        for scale in range(5):
            subband = gabor(*x.shape[1:], scale, orientation)
            a, b = (statistics(np.abs(np.fft.ifft2(np.fft.fft2(t) * subband)))[1:] for t in (x, y))
            found = found + weight * sum(c * np.abs(s - t) for c, s, t in zip((1, 2, 1), a, b, strict=True))
    return np.sqrt((found**2).mean((1, 2)))


@pytest.mark.parametrize("name", golden_data.NAMES)
def test_what_differs_from_pyiqa(name):
    x, y = (255 * t[0].double().numpy() for t in golden_data.pair(name))
    found = detected(x, y)
    alpha = 1 / (1 + np.exp(-2.55 / 3.35) * found ** (1 / (np.log(10) * 3.35)))
    score = (found**alpha * appearance(x, y) ** (1 - alpha)).mean()
    assert score == pytest.approx(golden_data.value("pyiqa-0.1.16:mad", name), rel=1e-5, abs=1e-9)
