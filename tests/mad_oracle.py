"""A slow transcription of the authors' definition of mad, in loops: images are [H, W] in [0, 255]."""

import functools

import numpy as np


def block_starts(side):
    """Of blocks of 16 x 16 pixels, 4 pixels apart."""
    return range(0, side - 15, 4)


def map_of_blocks(shape, of_block):
    """What `of_block` says of the block at each place, for the 4 x 4 pixels that the block begins with."""
    found = np.zeros(shape)
    for i in block_starts(shape[0]):
        for j in block_starts(shape[1]):
            found[i : i + 4, j : j + 4] = of_block(i, j)
    return found


def without_border(found):
    return found[16:-17, 16:-17]


def slow_sensitivity(height, width):
    found = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y, x = (i - height / 2 + 0.5) / width * 64, (j - width / 2 + 0.5) / width * 64
            frequency = np.sqrt(x * x + y * y) / (0.3 / 2 * np.cos(4 * np.arctan2(y, x)) + 1.7 / 2)
            peak = 2.6 * (0.0192 + 0.114 * frequency) * np.exp(-((0.114 * frequency) ** 1.1))
            found[i, j] = 0.9809 if frequency < 7.8909 else peak
    return found


def slow_seen(plane):
    lightness = 0.02874 * plane ** (2.2 / 3)
    spectrum = np.fft.fftshift(np.fft.fft2(lightness)) * slow_sensitivity(*plane.shape)
    return np.fft.ifft2(np.fft.ifftshift(spectrum)).real


def slow_visibility(x, y):
    seen = slow_seen(y)
    error = slow_seen(x) - seen

    def of_block(i, j):
        mean = seen[i : i + 16, j : j + 16].mean()
        smaller = [seen[i + a : i + a + 8, j + b : j + b + 8].std(ddof=1) for a in (0, 4) for b in (0, 4)]
        contrast = error[i : i + 16, j : j + 16].std(ddof=1)
        if mean < 0.5 or contrast == 0:
            return 1e-6
        masking = np.log(min(smaller) / mean) if min(smaller) > 0 else -np.inf
        return max(np.log(contrast / mean) - max(masking, -5), 1e-6)

    return map_of_blocks(x.shape, of_block)


def slow_detected(x, y):
    wide = np.pad((x - y) ** 2, 8, mode="symmetric")
    errors = np.zeros(x.shape)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            errors[i, j] = wide[i + 1 : i + 17, j + 1 : j + 17].mean()
    found = without_border(slow_visibility(x, y) * errors)
    return 200 * np.sqrt((found**2).mean())


def slow_frequencies(side):
    return [k / (side - side % 2) for k in (*range((side + 1) // 2), *range(-(side // 2), 0))]


@functools.cache
def slow_filter(height, width, wavelength, direction):
    found = np.zeros((height, width))
    for i, v in enumerate(slow_frequencies(height)):
        for j, u in enumerate(slow_frequencies(width)):
            if u or v:
                angle = np.arctan2(-v, u) - direction
                angle = abs(np.arctan2(np.sin(angle), np.cos(angle)))
                radius = np.log(np.sqrt(u * u + v * v) * wavelength)
                found[i, j] = np.exp(-(radius**2) / (2 * np.log(0.55) ** 2) - angle**2 / (2 * (np.pi / 6) ** 2))
    return found


def slow_subband(plane, wavelength, direction):
    return np.abs(np.fft.ifft2(np.fft.fft2(plane) * slow_filter(*plane.shape, wavelength, direction)))


def slow_statistics(band, i, j):
    block = band[i : i + 16, j : j + 16]
    away = block - block.mean()
    deviation = np.sqrt((away**2).mean())
    if deviation < 1e-3:
        return np.array([block.std(ddof=1), 0, 0])
    return np.array([block.std(ddof=1), (away**3).mean() / deviation**3, (away**4).mean() / deviation**4])


def slow_appearance(x, y):
    found = 0
    for scale, weight in enumerate((0.5, 0.75, 1, 5, 6)):
        for orientation in range(4):
            a, b = (slow_subband(t, 3 * 3**scale, orientation * np.pi / 4) for t in (x, y))

            def of_block(i, j, a=a, b=b):
                return np.abs(slow_statistics(a, i, j) - slow_statistics(b, i, j)) @ [1, 2, 1]

            found = found + weight / 13.25 * map_of_blocks(x.shape, of_block)
    return np.sqrt((without_border(found) ** 2).mean())


def slow_mad(x, y):
    detected, appearance = slow_detected(x, y), slow_appearance(x, y)
    alpha = 1 / (1 + np.exp(-2.55 / 3.35) * detected ** (1 / (np.log(10) * 3.35)))
    return detected**alpha * appearance ** (1 - alpha)
