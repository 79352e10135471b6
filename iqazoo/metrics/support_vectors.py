"""Text files of libsvm: a regression by support vectors, and the ranges by which svm-scale scales features."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

REGRESSIONS = ("epsilon_svr", "nu_svr")


def read_model(path: Path, features: int) -> dict[str, Tensor]:
    """A regression with a radial kernel, as svm-train writes it.

    Args:
        path: of the file.
        features: how many a support vector has; those that a line leaves out are 0.

    Returns:
        `support_vectors` `[N, features]`, `coefficients` `[N]`, `gamma` and `rho` `[]`, float64.

    Raises:
        ValueError, OSError: the file cannot be read, or holds something else.
    """
    head, found, body = path.read_text(encoding="ascii").partition("\nSV\n")
    if not found:
        raise ValueError("it is no model of libsvm, which has a line SV")
    fields = dict(line.split(maxsplit=1) for line in head.splitlines() if line.strip())
    if fields.get("svm_type") not in REGRESSIONS or fields.get("kernel_type") != "rbf":
        raise ValueError(
            f"expected a model of libsvm of type {' or '.join(REGRESSIONS)} with the kernel rbf, "
            f"got {fields.get('svm_type')} with {fields.get('kernel_type')}"
        )
    lines = [line.split() for line in body.splitlines() if line.strip()]
    if len(lines) != int(fields["total_sv"]):
        raise ValueError(f"it says that it has {fields['total_sv']} support vectors, and has {len(lines)}")
    vectors = torch.zeros(len(lines), features, dtype=torch.float64)
    for row, (_, *entries) in enumerate(lines):
        for entry in entries:
            index, _, value = entry.partition(":")
            vectors[row, _position(index, features)] = float(value)
    coefficients = torch.tensor([float(line[0]) for line in lines], dtype=torch.float64)
    gamma, rho = (torch.tensor(float(fields[name]), dtype=torch.float64) for name in ("gamma", "rho"))
    return {"support_vectors": vectors, "coefficients": coefficients, "gamma": gamma, "rho": rho}


def read_ranges(path: Path, features: int) -> tuple[Tensor, Tensor]:
    """What svm-scale saved: a factor and an offset for each feature, `[features]` each, float64.

    A feature that the file leaves out, or whose range is empty, is scaled to 0, as svm-scale does.

    Raises:
        ValueError, OSError: the file cannot be read, or holds something else.
    """
    _, found, body = f"\n{path.read_text(encoding='ascii')}".partition("\nx\n")  # before it may be those of targets
    lines = [line.split() for line in body.splitlines() if line.strip()]
    if not found or not lines or len(lines[0]) != 2 or any(len(line) != 3 for line in lines[1:]):
        raise ValueError(f"{path} holds no ranges of svm-scale: a line x, then two numbers, then three to a line")
    lower, upper = map(float, lines[0])
    factor, offset = torch.zeros(2, features, dtype=torch.float64)
    for index, low, high in lines[1:]:
        place, least, greatest = _position(index, features), float(low), float(high)
        if greatest != least:
            factor[place] = (upper - lower) / (greatest - least)
            offset[place] = lower - factor[place] * least
    return factor, offset


def _position(index: str, features: int) -> int:
    """libsvm counts from 1."""
    if not 1 <= int(index) <= features:
        raise ValueError(f"it has a feature number {index}, where {features} are known")
    return int(index) - 1
