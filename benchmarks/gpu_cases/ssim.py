"""SSIM, its pyramid and the windowed moments on a GPU."""

import math
from functools import partial

import torch
from gpu_case import Case

from iqazoo.ops import ssim, ssim_pyramid, windowed_moments

FULL_HD = (1, 3, 1080, 1920)
SHAPES = [FULL_HD, (1, 3, 256, 256), (16, 3, 512, 512), (64, 3, 64, 64), (1, 1, 2160, 3840), (4, 3, 37, 53)]
HALVES = (torch.bfloat16, torch.float16)
# Of one window of 11 x 11: four moments along rows and columns, a multiplication and an addition for each weight; and
# what is given back, three maps, or four for both images. The formula itself is left out.
MOMENTS = 4 * 2 * 11 * 2
GIVEN_BACK = {1: 3 * 2 * 11 * 2, 2: 4 * 2 * 11 * 2}


def inputs(shape, dtype, wanted, device):
    x, y = torch.rand(2, *shape, device=device).to(dtype)
    return x.detach().requires_grad_(wanted > 0), y.detach().requires_grad_(wanted > 1)


def gradients(scores, *images):
    return torch.autograd.grad(scores.sum(), [image for image in images if image.requires_grad])


def value(x, y, backend, **options):
    return ssim(x, y, backend=backend, **options)


def value_and_gradient(x, y, backend, **options):
    return gradients(ssim(x, y, backend=backend, **options), x, y)


def pyramid(x, y, backend):
    return ssim_pyramid(x, y, backend=backend)


def pyramid_and_gradient(x, y, backend):
    return gradients(ssim_pyramid(x, y, backend=backend), x, y)


def moments(x, y, backend):
    return windowed_moments(x, y, window=11, sigma=1.5, backend=backend)


def case(op, what, function, shape, *, wanted=0, dtype=torch.float32, arrays=2.0, operations=MOMENTS):
    """`arrays` is how many images must be read or written."""
    size = math.prod(shape)
    return Case(
        op=op,
        what=what,
        shape=f"{list(shape)} {str(dtype).removeprefix('torch.')}",
        inputs=partial(inputs, shape, dtype, wanted),
        fused=partial(function, backend="cuda"),
        plain=partial(function, backend="torch"),
        bytes=int(arrays * dtype.itemsize * size),
        operations=operations * size,
    )


def gradient_case(shape, wanted, **options):
    what = "value and gradient" if wanted == 1 else "value and both gradients"
    operations = MOMENTS + GIVEN_BACK[wanted]
    return case(
        "ssim", what, value_and_gradient, shape, wanted=wanted, arrays=2 + wanted, operations=operations, **options
    )


CASES = [case("ssim", "value", value, shape) for shape in SHAPES]
CASES += [case("ssim", "value", value, FULL_HD, dtype=dtype) for dtype in HALVES]
CASES += [gradient_case(shape, 1) for shape in SHAPES]
CASES += [gradient_case(FULL_HD, 2), *(gradient_case(FULL_HD, 1, dtype=dtype) for dtype in HALVES)]
CASES += [
    case("ssim", "map", partial(value, reduction="map"), FULL_HD, arrays=3),
    case("ssim", "value, uniform 7 x 7", partial(value, window=7, sigma=None), FULL_HD, operations=4 * 2 * 7 * 2),
    case("ssim", "value, reflect", partial(value, padding="reflect"), FULL_HD),
]
for shape in (FULL_HD, (1, 1, 176, 176)):
    # Each scale has a quarter of the pixels of the one before; it is written, then read.
    CASES.append(case("ssim_pyramid", "value", pyramid, shape, arrays=2 + 2 * 2 / 3, operations=MOMENTS * 4 // 3))
    CASES.append(
        case(
            "ssim_pyramid", "value and gradient", pyramid_and_gradient, shape, wanted=1, arrays=3 + 3 * 2 / 3,
            operations=(MOMENTS + GIVEN_BACK[1]) * 4 // 3,
        )
    )  # fmt: skip
    CASES.append(case("windowed_moments", "value", moments, shape, arrays=7, operations=5 * 2 * 11 * 2))
