"""Scoring in this process: threads decode ahead, equal shapes are scored as a batch."""

from __future__ import annotations

import itertools
import math
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from iqazoo.images import decode
from iqazoo.metric import Metric
from iqazoo.pairing import Pair
from iqazoo.score.table import Row

BATCH_PIXELS = {"cpu": 2**18, "cuda": 2**24}
"""A batch holds no more pixels than this, so that its intermediate maps fit: on a CPU the cache, where a larger batch
gains nothing and is slower, on a GPU its memory. An image that is larger is scored alone."""


@dataclass(frozen=True)
class _Job:
    """A decoded pair: `[C, H, W]` each, or the error that stopped it."""

    pair: Pair
    image: Tensor | None = None
    reference: Tensor | None = None
    error: str = ""

    @property
    def pixels(self) -> int:
        return 0 if self.image is None else self.image[0].numel()

    @property
    def shapes(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(None if t is None else tuple(t.shape) for t in (self.image, self.reference))


def score_pairs(
    pairs: Iterable[Pair],
    metrics: Mapping[str, Metric],
    *,
    device: torch.device | str = "cpu",
    batch_size: int = 16,
    workers: int | None = None,
    background: str | None = None,
) -> Iterator[Row]:
    """Score pairs of files. A file or a metric that fails fills the row's error and stops nothing.

    Args:
        pairs: from `pairing.pair`.
        metrics: the metrics by the name of their column.
        device: where the metrics are.
        batch_size: at most so many images of one shape are scored together.
        workers: threads that decode; the number of processors where None.
        background: the colour behind transparent images, as for `images.decode`.

    Yields:
        One row for each pair, in order.
    """
    workers = workers or os.cpu_count() or 1
    most_pixels = BATCH_PIXELS.get(torch.device(device).type, 2**22)
    with ThreadPoolExecutor(workers) as pool:
        jobs = _decoded(pool, pairs, background, workers, batch_size, most_pixels)
        for _, group in itertools.groupby(jobs, key=lambda job: job.shapes):
            for batch in _batches(group, batch_size, most_pixels):
                yield from _score_batch(batch, metrics, device)


def _decoded(
    pool: ThreadPoolExecutor,
    pairs: Iterable[Pair],
    background: str | None,
    workers: int,
    batch_size: int,
    most_pixels: int,
) -> Iterator[_Job]:
    """Decode in order, ahead of what is needed: one pair for each worker, and the rest of a batch of the last size."""
    waiting: deque[Future[_Job]] = deque()
    rest = 0
    try:
        for pair in pairs:
            waiting.append(pool.submit(_decode, pair, background))
            while len(waiting) >= workers + rest:
                job = waiting.popleft().result()
                rest = min(batch_size, most_pixels // max(job.pixels, 1))
                yield job
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _decode(pair: Pair, background: str | None) -> _Job:
    if pair.error or pair.image is None:
        return _Job(pair, error=pair.error)
    try:
        image = decode(pair.image, background=background)
        reference = None if pair.reference is None else decode(pair.reference, background=background)
    except Exception as error:  # whatever a broken file provokes, it is this row's alone
        return _Job(pair, error=str(error))
    return _Job(pair, image, reference)


def _batches(jobs: Iterable[_Job], batch_size: int, most_pixels: int) -> Iterator[list[_Job]]:
    batch: list[_Job] = []
    for job in jobs:
        batch.append(job)
        if len(batch) >= batch_size or (len(batch) + 1) * job.pixels > most_pixels:
            yield batch
            batch = []
    if batch:
        yield batch


def _score_batch(jobs: list[_Job], metrics: Mapping[str, Metric], device: torch.device | str) -> list[Row]:
    if jobs[0].image is None:
        return [Row(job.pair.id, job.pair.image, job.pair.reference, error=job.error) for job in jobs]
    images = _stack([job.image for job in jobs], device)
    references = _stack([job.reference for job in jobs], device)
    scores: list[dict[str, float]] = [{} for _ in jobs]
    errors: list[str] = []
    for name, metric in metrics.items():
        try:
            for row, score in zip(scores, _apply(metric, images, references), strict=True):
                row[name] = score
        except Exception as error:  # a metric that fails on this shape must not take the others along
            errors.append(f"{name}: {error}")
    return [
        Row(j.pair.id, j.pair.image, j.pair.reference, s, "; ".join(errors + _without_number(s)))
        for j, s in zip(jobs, scores, strict=True)
    ]


def _without_number(scores: Mapping[str, float]) -> list[str]:
    return [f"{name}: its score of this image is NaN, not a number" for name, s in scores.items() if math.isnan(s)]


def _stack(tensors: list[Tensor | None], device: torch.device | str) -> Tensor | None:
    present = [t for t in tensors if t is not None]
    return torch.stack(present).to(device) if present else None


def _apply(metric: Metric, images: Tensor | None, references: Tensor | None) -> list[float]:
    given = [images, references] if metric.spec.takes_reference else [images]
    kinds = {t.shape[1] for t in given if t is not None}
    if len(kinds) > 1 or 1 not in metric.spec.channels:  # gray beside colour is three channels alike
        given = [None if t is None else t.expand(-1, 3, -1, -1) for t in given]
    with torch.inference_mode():
        return metric(*given).tolist()
