"""Most apparent distortion: Larson, Chandler, "Most apparent distortion: full-reference image quality assessment and
the role of strategy", Journal of Electronic Imaging 19(1), 2010."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from iqazoo.metrics.block_moments import CELL, Moments, cells, doubled
from iqazoo.metrics.color import Channels, check_channels, to_channels
from iqazoo.metrics.numerics import constant, full_precision, safe_power, safe_sqrt
from iqazoo.metrics.phase_congruency import frequencies

BLOCK = 16  # side of a block in pixels, and of the border that does not count
MIN_SIZE = 2 * BLOCK + 2
LIGHTNESS, GAMMA = 0.02874, 2.2 / 3  # of 8-bit levels: the display, and the cube root of its luminance
NYQUIST = 32  # cycles per degree
DARK = 0.5  # mean lightness below which nothing is detected
THRESHOLD = math.exp(-5)  # contrast below which nothing is detected
UNSEEN = 1e-6  # visibility of what is not detected
DETECTION_SCALE = 200
SCALE_WEIGHTS = (0.5, 0.75, 1.0, 5.0, 6.0)
LEAST_WAVELENGTH, MULTIPLE, BANDWIDTH = 3, 3, 0.55  # pixels; from one scale to the next; deviation / centre
ORIENTATIONS = 4
ANGULAR = math.pi / ORIENTATIONS / 1.5  # standard deviation of a filter's angle in radians
FLAT = 1e-3  # standard deviation in 8-bit levels below which a block of a subband has no shape, only rounding
LEAST_APPEARANCE = 1e-6
AT_ONCE = 2**17  # pixels; of more, one subband of one image is filtered at a time: memory
BETA_1, BETA_2 = math.exp(-2.55 / 3.35), 1 / (3.35 * math.log(10))


@full_precision
def mad(image: Tensor, reference: Tensor, *, channels: Channels = "y") -> Tensor:
    """d_detect^a d_appear^(1 - a), where a falls from 1 as more distortion is detected.

    Where distortions are near the threshold of vision, what can be detected counts; where they are plain, how the
    image appears. The definition is that of the authors' code of 2011 where it differs from the paper: the display's
    factor multiplies the lightness, so that blocks darker than about level 49 of 255 are left out; the masking
    contrast is the least of four blocks of 8 x 8 pixels that are 4 pixels apart, not 8; the statistics of a block
    stand for its first 4 x 4 pixels; frequencies of the contrast sensitivity are half a step off and, along both
    axes, in cycles per width; d_detect is multiplied by 200; 16 pixels along each border do not count.

    Four things are not theirs. Luma is not rounded to 8 bits ("y-8bit" does so). Odd sides have Kovesi's frequencies,
    where the authors' are half a step off. Blocks of a subband that deviate by less than 1e-3 levels have no skewness
    and kurtosis, as theirs that do not deviate. And what is not detected has a visibility of 1e-6 in place of 0, and
    d_appear is at least 1e-6, so that images that differ never score 0 (but along the border).

    Args:
        image, reference: `[B, 1 or 3, H, W]` in [0, 1], at least 34 x 34 pixels.
        channels: see `color.to_channels`; of several channels, the scores are averaged.

    Returns:
        `[B]`, at least 0; 0 for identical images.
    """
    x, y = (255 * to_channels(t, channels).flatten(0, 1)[:, None] for t in (image, reference))  # [B C, 1, H, W]
    return _combined(_detected(x, y), _appearance(x, y)).view(len(image), -1).mean(1)


def _combined(detected: Tensor, appearance: Tensor) -> Tensor:
    """The blend of both distances, with a = 1 / (1 + beta_1 d_detect^beta_2), `[N]`: 0 where nothing is detected."""
    none = detected <= 0  # a NaN is not
    detected, appearance = detected.masked_fill(none, 1), appearance.clamp(min=LEAST_APPEARANCE)
    alpha = 1 / (1 + BETA_1 * detected**BETA_2)
    return (detected**alpha * appearance ** (1 - alpha)).masked_fill(none, 0)


def _detected(x: Tensor, y: Tensor) -> Tensor:
    """d_detect: local errors weighed by how visible they are (equations 1 to 6). `[N, 1, H, W]` twice -> `[N]`."""
    seen = _seen(y)
    errors = _blocks(cells(_counted(_seen(x) - seen)))
    reference = cells(_counted(seen))
    mean, smaller = _blocks(reference).mean, doubled(reference, 1).second
    height, width = mean.shape[2:]
    four = [smaller[..., i : i + height, j : j + width] for i in (0, 1) for j in (0, 1)]
    masking = safe_sqrt(torch.stack(four).amin(0) * (64 / 63))
    # Of the logarithms of contrasts, both for the same mean: the mean cancels but for the threshold.
    least = torch.maximum(masking, THRESHOLD * mean.clamp(min=DARK))
    ratio = safe_sqrt(errors.second * (256 / 255)) / least
    visible = ratio.clamp(min=1).log().masked_fill(mean < DARK, 0).clamp(min=UNSEEN)
    squares = _local_mean((x - y).square())
    return DETECTION_SCALE * _norm(_spread(visible, squares) * squares)


def _seen(planes: Tensor) -> Tensor:
    """Lightness as the eye is sensitive to its frequencies (equations 1 to 3). 8-bit levels, `[N, 1, H, W]`."""
    spectrum = torch.fft.rfft2(LIGHTNESS * safe_power(planes, GAMMA))
    return torch.fft.irfft2(spectrum * constant(planes, _sensitivity, *planes.shape[2:]), s=planes.shape[2:])


def _sensitivity(height: int, width: int) -> np.ndarray:
    """The contrast sensitivity of the frequencies of a real image, `[H, W // 2 + 1]` (equation 3)."""
    y, x = ((np.arange(n) - n / 2 + 0.5) * 2 * NYQUIST / width for n in (height, width))
    x, y = x[None, :], y[:, None]
    frequency = np.hypot(x, y) / (0.15 * np.cos(4 * np.arctan2(y, x)) + 0.85)  # less along the diagonals
    band = 2.6 * (0.0192 + 0.114 * frequency) * np.exp(-((0.114 * frequency) ** 1.1))
    sensitivity = np.fft.ifftshift(np.where(frequency < 7.8909, 0.9809, band))
    # The authors take the real part: of real images, it has the mean of the sensitivities of f and -f.
    opposite = np.roll(sensitivity[::-1, ::-1], 1, axis=(0, 1))
    return ((sensitivity + opposite) / 2)[:, : width // 2 + 1]


def _local_mean(planes: Tensor) -> Tensor:
    """Of the 16 x 16 pixels about each pixel that counts: `[N, 1, H, W]` -> `[N, 1, H - 33, W - 33]`."""
    for dim in (2, 3):
        planes = planes.narrow(dim, BLOCK // 2 + 1, planes.shape[dim] - MIN_SIZE + BLOCK)
        for step in (1, 2, 4, 8):
            count = planes.shape[dim] - step
            planes = planes.narrow(dim, 0, count) + planes.narrow(dim, step, count)
    return planes / BLOCK**2


def _appearance(x: Tensor, y: Tensor) -> Tensor:
    """d_appear: how the statistics of log-Gabor subbands differ. `[N, 1, H, W]` twice -> `[N]`."""
    spectrum = _spectrum(x, y)
    radial, angular = (constant(x, build, *x.shape[2:]) for build in (_radial, _angular))
    images, orientations = (2, ORIENTATIONS) if x.numel() <= AT_ONCE else (1, 1)
    total = x.new_zeros(())
    for weight, scale in zip(SCALE_WEIGHTS, radial, strict=True):
        for some in angular.split(orientations):
            filters = scale * some
            found = [_blocks(cells(_sizes(t, filters))) for t in spectrum.split(images, dim=1)]
            pair = Moments(*(torch.cat(t, 1) for t in zip(*found, strict=True)))
            total = total + weight / sum(SCALE_WEIGHTS) * _difference(pair).sum(2)
    return _norm(_spread(total, x[..., : 1 - MIN_SIZE, : 1 - MIN_SIZE]))


def _spectrum(x: Tensor, y: Tensor) -> Tensor:
    """Of both images, `[N, 2, 1, H, W]`. The mean passes no subband, but its rounding would."""
    pair = torch.stack([x, y], 1)
    return torch.fft.fft2(pair - pair.mean((3, 4), keepdim=True))


def _sizes(spectrum: Tensor, filters: Tensor) -> Tensor:
    """The absolute values of subbands where they count: `[N, P, 1, H, W]`, `[K, H, W]` -> `[N, P, K, H', W']`."""
    responses = _counted(torch.fft.ifft2(spectrum * filters))
    tiny = filters.new_full((), 1e-30)  # the root of 0 has no finite gradient
    for part in (responses.real, responses.imag):
        tiny = torch.addcmul(tiny, part, part)
    return tiny.sqrt()


def _difference(blocks: Moments) -> Tensor:
    """|Delta std| + 2 |Delta skewness| + |Delta kurtosis|: `[N, 2, K, h, w]` -> `[N, 1, K, h, w]`."""
    flat = blocks.second <= FLAT**2
    deviation = blocks.second.masked_fill(flat, 1).sqrt()
    skewness = (blocks.third / deviation**3).masked_fill(flat, 0)
    kurtosis = (blocks.fourth / blocks.second.masked_fill(flat, 1).square()).masked_fill(flat, 0)
    spread = safe_sqrt(blocks.second * (256 / 255))
    parts = [(t[:, :1] - t[:, 1:]).abs() for t in (spread, skewness, kurtosis)]
    return parts[0] + 2 * parts[1] + parts[2]


def _radial(height: int, width: int) -> np.ndarray:
    """Log-Gabor filters of five scales, `[5, H, W]`, all directions alike."""
    radius = np.hypot(frequencies(height)[:, None], frequencies(width)[None, :])
    radius[0, 0] = 1
    octaves = np.log(radius * LEAST_WAVELENGTH)
    filters = np.empty((len(SCALE_WEIGHTS), height, width))
    for scale in range(len(SCALE_WEIGHTS)):
        filters[scale] = np.exp(-((octaves + scale * math.log(MULTIPLE)) ** 2) / (2 * math.log(BANDWIDTH) ** 2))
    filters[:, 0, 0] = 0
    return filters


def _angular(height: int, width: int) -> np.ndarray:
    """How far each frequency belongs to an orientation, `[4, H, W]`, on one side of the origin."""
    angle = np.arctan2(-frequencies(height)[:, None], frequencies(width)[None, :])
    spread = np.empty((ORIENTATIONS, height, width))
    for orientation in range(ORIENTATIONS):
        turned = np.remainder(angle - orientation * math.pi / ORIENTATIONS + math.pi, 2 * math.pi) - math.pi
        spread[orientation] = np.exp(-(turned**2) / (2 * ANGULAR**2))
    return spread


def _counted(planes: Tensor) -> Tensor:
    """What the blocks that count are made of: those that begin 16 pixels or more from all borders."""
    height, width = (BLOCK + (side - BLOCK - 2) // CELL * CELL for side in planes.shape[-2:])
    return planes[..., BLOCK:height, BLOCK:width]


def _blocks(found: Moments) -> Moments:
    """Of blocks of 16 x 16 pixels, 4 pixels apart, from cells of 4 x 4."""
    return doubled(doubled(found, 1), 2)


def _spread(blocks: Tensor, like: Tensor) -> Tensor:
    """`[N, 1, h, w]`, the value of each block for its first 4 x 4 pixels, cut to the height and width of `like`."""
    pixels = blocks.repeat_interleave(CELL, 2).repeat_interleave(CELL, 3)
    return pixels[..., : like.shape[2], : like.shape[3]]


def _norm(planes: Tensor) -> Tensor:
    """The root mean square: `[N, 1, H, W]` -> `[N]`."""
    return safe_sqrt(planes.square().mean((1, 2, 3)))


class MAD(nn.Module):
    """`mad` with its options bound.

    Raises:
        InputError: an option has a value that it cannot have.
    """

    def __init__(self, channels: Channels = "y") -> None:
        super().__init__()
        check_channels(channels)
        self.channels: Channels = channels

    def forward(self, image: Tensor, reference: Tensor) -> Tensor:
        """`[B, C, H, W]` twice -> `[B]`."""
        return mad(image, reference, channels=self.channels)
