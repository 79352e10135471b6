"""What the papers of BRISQUE and NIQE compute, slowly, in numpy and float64."""

import math

import numpy as np
from scipy.ndimage import correlate

SHAPES = np.arange(200, 10001) / 1000
GAMMA = np.vectorize(math.gamma)
RATIOS = GAMMA(2 / SHAPES) ** 2 / (GAMMA(1 / SHAPES) * GAMMA(3 / SHAPES))


def contrast(plane, mode):
    """`[H, W]` in [0, 255]; `mode`: of scipy's border. Normalized contrast and the local deviation."""
    across = np.exp(-0.5 * (np.arange(-3, 4) / (7 / 6)) ** 2)
    window = np.outer(across, across) / across.sum() ** 2
    mean = correlate(plane, window, mode=mode, cval=0)
    deviation = np.sqrt(np.abs(correlate(plane**2, window, mode=mode, cval=0) - mean**2))
    return (plane - mean) / (deviation + 1), deviation


def asymmetric(values):
    """The shape nearest to the moments, and the deviation on each side."""
    negative, positive = values[values < 0], values[values > 0]
    left, right = np.sqrt(np.mean(negative**2)), np.sqrt(np.mean(positive**2))
    lopsided = left / right
    ratio = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
    ratio *= (lopsided**3 + 1) * (lopsided + 1) / (lopsided**2 + 1) ** 2
    return SHAPES[np.argmin((RATIOS - ratio) ** 2)], left, right


def symmetric(values):
    """The shape nearest to the moments."""
    return SHAPES[np.argmin(np.abs(1 / RATIOS - np.mean(values**2) / np.mean(np.abs(values)) ** 2))]


def products(values):
    """`[H, W]` with its neighbours to the left, above, and on both diagonals; what is beyond comes from the other
    side."""
    height, width = values.shape
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        product = np.empty_like(values)
        for i in range(height):
            for j in range(width):
                product[i, j] = values[i, j] * values[(i - down) % height, (j - right) % width]
        yield product


def halved(plane):
    """Keys' cubic kernel, stretched to twice its width, about every second gap; mirrored beyond the border."""

    def weight(x):
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0

    taps = np.array([weight((k - 3.5) / 2) for k in range(8)])
    taps /= taps.sum()
    for axis in (0, 1):
        size = plane.shape[axis]
        wide = np.pad(plane, [(4, 4) if a == axis else (0, 0) for a in (0, 1)], mode="symmetric")
        rows = [np.tensordot(taps, wide.take(range(i + 1, i + 9), axis), (0, axis)) for i in range(0, size, 2)]
        plane = np.stack(rows, axis)
    return plane


def niqe_features(values):
    """18 of the normalized contrast of a block."""
    shape, left, right = asymmetric(values)
    scale = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
    found = [shape, (left * scale + right * scale) / 2]
    for product in products(values):
        shape, left, right = asymmetric(product)
        scale = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
        left, right = left * scale, right * scale
        found += [shape, (right - left) * math.gamma(2 / shape) / math.gamma(1 / shape), left, right]
    return found


def brisque_features(plane):
    """36 of an image `[H, W]` in [0, 255]."""
    found = []
    for scale in range(2):
        plane = halved(plane) if scale else plane
        values, _ = contrast(plane, "constant")
        found += [symmetric(values), np.mean(values**2)]
        for product in products(values):
            shape, left, right = asymmetric(product)
            scaled = math.sqrt(math.gamma(1 / shape) / math.gamma(3 / shape))
            mean = (right - left) * scaled * math.gamma(2 / shape) / math.gamma(1 / shape)
            found += [shape, mean, left**2, right**2]
    return np.array(found)


def niqe_blocks(plane, side=96):
    """Features `[K, 36]` and sharpness `[K]` of the blocks of an image `[H, W]` in [0, 255]."""
    rows, columns = (size // side for size in plane.shape)
    plane = plane[: rows * side, : columns * side]
    features, sharpness = [[] for _ in range(rows * columns)], []
    for scale in (1, 2):
        plane = halved(plane) if scale == 2 else plane
        values, deviation = contrast(plane, "nearest")
        part = side // scale
        for k in range(rows * columns):
            top, left = k // columns * part, k % columns * part
            features[k] += niqe_features(values[top : top + part, left : left + part])
            if scale == 1:
                sharpness.append(deviation[top : top + part, left : left + part].mean())
    return np.array(features), np.array(sharpness)


def niqe(plane, mean, covariance):
    """The distance of an image `[H, W]` in [0, 255] from a model."""
    features, _ = niqe_blocks(plane)
    own = np.cov(features.T) if len(features) > 1 else np.zeros((36, 36))
    difference = features.mean(0) - mean
    return math.sqrt(difference @ np.linalg.pinv((own + covariance) / 2) @ difference)
