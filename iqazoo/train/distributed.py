"""The processes of one run: torchrun starts them, DistributedDataParallel keeps their gradients equal."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from iqazoo.errors import InputError

PATIENCE = timedelta(hours=24)
"""How long a process waits for another, such as the first while it computes cached features. torchrun itself ends
those that wait for one that died."""


@dataclass(frozen=True)
class Processes:
    """This process among those of the run.

    Args:
        device: where it computes.
        rank: its number.
        count: how many there are; 1 where torchrun is not used.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, which each of them gets; `values` may lie anywhere."""
        if self.count == 1:
            return values
        total = values.to(self.device, copy=True)
        dist.all_reduce(total)
        return total.to(values.device)

    def gather(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Everybody's tensors as "RANK.name"; complete on all processes."""
        if self.count == 1:
            return {f"0.{name}": tensor for name, tensor in tensors.items()}
        gathered: list[dict[str, Tensor]] = [{} for _ in range(self.count)]
        dist.all_gather_object(gathered, tensors)
        return {f"{rank}.{name}": t for rank, theirs in enumerate(gathered) for name, t in theirs.items()}

    def wait(self) -> None:
        """Return when all processes are here."""
        if self.count > 1:
            dist.barrier()

    @torch.no_grad()
    def share_buffers(self, module: nn.Module) -> None:
        """Give all processes the first one's buffers, such as the running means of a normalisation."""
        if self.count > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


def join(device: str | None = None) -> Processes:
    """Become one of the processes that torchrun started, or the only one.

    Args:
        device: such as "cuda:1"; "cuda" is this process's GPU, which None takes too, or the CPU where there is none.

    Raises:
        InputError: the device cannot be used, or it is one GPU for several processes.
    """
    count, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if count > 1 and device.startswith("cuda:"):
        raise InputError(
            f"each of {count} processes needs a GPU of its own; got {device!r} for all. Give the device 'cuda' or none"
        )
    if device == "cuda":  # to torch that is the first GPU, in every process
        device = f"cuda:{local}"
    try:
        chosen = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built with CUDA
        raise InputError(f"the device {device!r} cannot be used: {error}") from error
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if count == 1:
        return Processes(chosen)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    return Processes(chosen, dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """End what `join` began."""
    if dist.is_initialized():
        dist.destroy_process_group()
