"""What a frozen trunk says of the data, kept in a file: a metric that is linear in it trains in seconds.

LPIPS is sum over c of w_c m_c, m_c being the spatial mean of channel c's squared differences. With a frozen trunk m
never changes, so the trunk runs once over the data, and an epoch is a few small matrix products.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from iqazoo.atomic import one_at_a_time, replacing_folder, sweep
from iqazoo.environment import cache_folder
from iqazoo.errors import InputError
from iqazoo.metric_spec import MetricSpec
from iqazoo.train.collate import collate
from iqazoo.train.config import TrainConfig
from iqazoo.train.distributed import Processes
from iqazoo.train.judgment import triplet_scores

FORMAT = 2
MEANS, LABELS = "means.npy", "labels.npy"


class ChannelMeans(Dataset[dict[str, Any]]):
    """The channel means of A and of B, each against the reference, in place of the images.

    A batch has them together as `ref_img`, `[B, 2, C]`, for `combined_scores`, and nothing as `distA_img` and
    `distB_img`; a single item is that of the images.

    Args:
        data: the judgments.
        folder: of the files that `cached` wrote: `[N, 2, C]` float16 of the square roots, and `[N]` float32.
    """

    def __init__(self, data: Any, folder: Path) -> None:
        self.data = data
        self.subset_names, self.subset_of = data.subset_names, data.subset_of
        self._key = folder.name
        self._means = np.load(folder / MEANS, mmap_mode="r").view(np.ndarray)  # which is quicker to index
        self._labels = np.load(folder / LABELS)

    def __len__(self) -> int:
        return len(self.data)

    def fingerprint(self) -> str:
        """sha256 of the trunk, the data and the settings that the means are of."""
        return self._key

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.data[index]

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Any]:
        """A batch at once, which is what a loader asks for."""
        rows = np.asarray(indices)  # torch takes longer to index by a list
        means = torch.from_numpy(self._means[rows]).float().square_()  # [B, 2, C]
        none, labels = means.new_empty(len(rows), 0), torch.from_numpy(self._labels[rows])
        return {"ref_img": means, "distA_img": none, "distB_img": none, "mos_label": labels}

    @staticmethod
    def collate(batch: dict[str, Any]) -> dict[str, Any]:
        """It is one already."""
        return batch


def cached(
    network: Any,
    data: Any,
    spec: MetricSpec,
    options: Mapping[str, Any],
    processes: Processes,
    config: TrainConfig,
) -> ChannelMeans:
    """The data as channel means, computed now unless a file of the same trunk, data and settings is there.

    Args:
        network: with `channel_means(f_image, f_reference)` and `combine(means)`, and all that the former depends on
            frozen.
        data: the judgments.
        spec: of the metric.
        options: of the network, where they are not the spec's.
        processes: the first one computes, the others wait.
        config: of the run.

    Raises:
        InputError: the network has no channel means, what they depend on is trained, or they cannot be kept.
    """
    if not (hasattr(network, "channel_means") and hasattr(network, "combine")):
        raise InputError(f"{spec.name} is no weighted sum over channels, which --cache-features needs; leave it out")
    folder = cache_folder() / "features" / _key(network, data, spec, options, config)
    if processes.first:
        _make(folder, network, data, processes.device, config)
    processes.wait()
    _make(folder, network, data, processes.device, config)  # a process on another machine has another cache
    return ChannelMeans(data, folder)


def combined_scores(network: Any, means: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
    """The scores of A and B, `[B]` each, from the channel means of both, `[B, 2, C]`."""
    score_a, score_b = network.combine(means).unbind(1)
    return score_a, score_b


def _make(folder: Path, network: Any, data: Any, device: torch.device, config: TrainConfig) -> None:
    """Compute the files of `folder`, unless it is there."""
    if folder.is_dir():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder.with_suffix(".lock")):
            if folder.is_dir():  # another run was quicker
                return
            sweep(folder.parent, folder.name)
            with replacing_folder(folder) as written:
                _compute(network, data, device, config, written)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}; make room, or set IQAZOO_CACHE elsewhere") from error


@torch.no_grad()
def _compute(network: Any, data: Any, device: torch.device, config: TrainConfig, folder: Path) -> None:
    loader = DataLoader(
        data, config.batch_size, num_workers=config.workers, collate_fn=collate, generator=torch.Generator()
    )
    layout = torch.channels_last if config.channels_last else torch.preserve_format
    network.eval()
    means, labels, done = None, np.empty(len(data), np.float32), 0
    for batch in loader:
        images = [batch[n].to(device, memory_format=layout) for n in ("ref_img", "distA_img", "distB_img")]
        if done == 0:
            _check_frozen(network, [x[:1] for x in images])
        with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
            both = torch.stack(triplet_scores(_Means(network), *images), 1)  # [B, 2, C]
        roots = both.sqrt().half().cpu().numpy()
        if means is None:
            means = np.lib.format.open_memmap(folder / MEANS, "w+", np.float16, (len(data), *roots.shape[1:]))
        rows = slice(done, done + len(roots))
        means[rows], labels[rows] = roots, batch["mos_label"].flatten().numpy()
        done += len(roots)
    if means is not None:
        means.flush()
    np.save(folder / LABELS, labels)


@torch.enable_grad()
def _check_frozen(network: Any, images: Sequence[Tensor]) -> None:
    """What is trained must not change the means: they would be those of its first step for ever."""
    if any(means.requires_grad for means in triplet_scores(_Means(network), *images)):
        raise InputError("--cache-features needs features that training leaves as they are; take --variant lin")


class _Means:
    """The network, but its distance is that of each channel."""

    def __init__(self, network: Any) -> None:
        self.features, self.distance = network.features, network.channel_means


def _key(network: nn.Module, data: Any, spec: MetricSpec, options: Mapping[str, Any], config: TrainConfig) -> str:
    """sha256 of all that the means depend on."""
    digest = hashlib.sha256()
    trained = {name for name, p in network.named_parameters() if p.requires_grad}
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name in sorted(tensors.keys() - trained):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    # Some options change what is computed, but no tensor: a stride, a number of groups, a step of diffusion.
    made = [spec.name, type(network).__qualname__, {**spec.options, **options}, getattr(network, "eps", None)]
    settings = [FORMAT, made, config.bf16, config.size, data.fingerprint()]
    digest.update(json.dumps(settings, sort_keys=True, default=repr).encode())
    return digest.hexdigest()
