"""Gaussian scale mixtures: a Gaussian vector at every place, times how busy the place is."""

import torch
from torch import Tensor


def finite_covariance(covariance: Tensor) -> Tensor:
    """`[B, N, N]`, with the identity in place of what has NaN or infinity and so no eigenvalues: the scores of such
    images must keep it elsewhere."""
    finite = covariance.isfinite().all(2, keepdim=True).all(1, keepdim=True)
    return covariance.where(finite, torch.eye(covariance.shape[1], dtype=covariance.dtype, device=covariance.device))


def multiplier(vectors: Tensor, covariance: Tensor) -> Tensor:
    """The most likely square of the multiplier, v' C^-1 v / N.

    Args:
        vectors: `[B, N, K]`, for images in [0, 255].
        covariance: C, `[B, N, N]`, finite; one that has no inverse, as of a flat image, is taken a little larger.

    Returns:
        `[B, K]`.
    """
    number = covariance.shape[-1]
    identity = torch.eye(number, dtype=vectors.dtype, device=vectors.device)
    factor = torch.linalg.cholesky(covariance + _ridge(covariance, identity) * identity)
    whitened = torch.linalg.solve_triangular(factor, identity.expand_as(factor), upper=False) @ vectors
    return whitened.square().sum(1) / number


@torch.no_grad()
def _ridge(covariance: Tensor, identity: Tensor) -> Tensor:
    """What the least eigenvalue lacks, `[B, 1, 1]`: more than rounding usually takes from it, and tenfold where that is
    not enough, as in large images, whose sums round more."""
    share = 10 * torch.finfo(covariance.dtype).eps
    ridge = (share * covariance.diagonal(dim1=1, dim2=2).mean(1) + 1e-6)[:, None, None]
    for _ in range(3):
        failed = torch.linalg.cholesky_ex(covariance + ridge * identity).info > 0
        ridge = torch.where(failed[:, None, None], 10 * ridge, ridge)
    return ridge


def eigenvalues(covariance: Tensor) -> Tensor:
    """At least 0, `[N, B]`."""
    return torch.linalg.eigvalsh(covariance).clamp(min=0).mT
