"""Optimizers, their learning rate, their state without pickle, and the moving average of a network."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from iqazoo.errors import InputError
from iqazoo.train.config import TrainConfig

FUSED = ("cpu", "cuda")
FEW = 2**20  # numbers


def make_optimizer(config: TrainConfig, network: Any, others: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of the network's trainable parameters and of `others`, those of the loss.

    A network may have `param_groups()`, which gives what torch's optimizers take, such as learning rates of its own.

    Raises:
        InputError: nothing in the network is trainable.
    """
    own: Any = network.param_groups() if hasattr(network, "param_groups") else [{"params": list(network.parameters())}]
    groups = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in own]
    groups = [group for group in groups if group["params"]]
    if not groups:
        raise InputError(f"{type(network).__name__} has no parameter to train; take another metric or variant")
    if config.weight_decay or len(groups) > 1 or len(groups[0]) > 1:
        groups.append({"params": [*others], "weight_decay": 0.0})
    else:
        groups[0]["params"] += others  # a step costs by the group
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.betas[0], weight_decay=config.weight_decay)
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    fused = all(p.device.type in FUSED for group in groups for p in group["params"])
    return kind(groups, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay, fused=fused)


def decay(config: TrainConfig, epoch: int) -> float:
    """What the learning rate is multiplied by in an epoch, counted from 0.

    As LPIPS's recipe, which lowers it at the end of an epoch: with 5 + 5 epochs 1 in the first six, then 0.8, 0.6,
    0.4 and 0.2.
    """
    return 1.0 - max(0, epoch - config.epochs) / max(1, config.decay_epochs)


def set_decay(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Multiply every group's first learning rate by `factor`; returns that of the first group."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])
        group["lr"] = group["initial_lr"] * factor
    return optimizer.param_groups[0]["lr"]


def step(optimizer: torch.optim.Optimizer) -> None:
    """The optimizer's step without torch's hooks around it, none of which is used here.

    Their mark for the profiler takes 0.1 ms, a step on cached features 0.7 in all.
    """
    hooked = type(optimizer).step
    getattr(hooked, "__wrapped__", hooked)(optimizer)


def norm(gradients: Sequence[Tensor]) -> Tensor:
    """The 2-norm of all together, `[]`; not finite where one of them is not."""
    if 0 < sum(g.numel() for g in gradients) <= FEW:  # a copy takes less time than a call for each
        return torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))
    return nn.utils.get_total_norm(gradients)


def pack(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's state as tensors by "PARAMETER.NAME", and the rest as JSON holds it."""
    state = optimizer.state_dict()
    tensors, plain = {}, {}
    for index, values in state["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{index}.{name}"] = value
    return tensors, {"values": plain, "groups": state["param_groups"]}


def unpack(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], rest: Mapping[str, Any]) -> None:
    """Give the optimizer the state that `pack` gave."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **rest["values"]}.items():
        index, _, name = key.partition(".")
        like = parameters[int(index)]
        if isinstance(value, Tensor) and value.shape == like.shape:  # a fused step goes through memory, not by strides
            value = torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": rest["groups"]})


class MovingAverage:
    """An exponential moving average of a module's parameters, with a copy of its buffers.

    Args:
        module: what is averaged.
        decay: the weight of the past in each update; less in the first steps, (1 + n) / (10 + n) after n of them, so
            that the initial values are soon forgotten.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the module's present values."""
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for mine, other in zip(self.module.parameters(), module.parameters(), strict=True):
            if other.requires_grad:
                mine.lerp_(other, weight)
        for mine, other in zip(self.module.buffers(), module.buffers(), strict=True):
            mine.copy_(other)
