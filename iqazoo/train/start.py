"""From a config to a trainer: the network, what it starts from, the data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn
from torch.nn.modules.dropout import _DropoutNd  # what all kinds of dropout are

from iqazoo import registry, state_dict
from iqazoo.data import TripletTable, TwoAFC, is_table
from iqazoo.errors import InputError
from iqazoo.factory import build_network, read_weights
from iqazoo.metric_spec import MetricSpec
from iqazoo.train import checkpoint, distributed, rng
from iqazoo.train.bapps import BAPPSTrainer
from iqazoo.train.channel_means import cached, combined_scores
from iqazoo.train.config import TrainConfig, Variant
from iqazoo.train.judgment import Judgment
from iqazoo.train.losses import make_loss


def bapps_trainer(config: TrainConfig, options: Mapping[str, Any] | None = None) -> BAPPSTrainer:
    """A trainer at the start of a run, or where it stopped if `config.resume` and there is a checkpoint.

    Args:
        config: what to do.
        options: keyword arguments of the metric's network.

    Raises:
        InputError: the metric cannot be trained so, the data are not there, or the folder holds another run.
        CheckpointError: the run cannot be resumed.
        WeightsError: what the network starts from cannot be had.
    """
    spec = registry.spec(config.name)
    if not spec.trainable:
        raise InputError(f"{spec.name} has nothing to train; `iqazoo list` shows which metrics are trainable")
    before = checkpoint.latest(config.folder)
    if before is not None and not config.resume:
        raise InputError(f"{config.folder} holds a run; go on with --resume, or choose another --out")
    processes = distributed.join(config.device)
    rng.seed_all(config.seed)
    given = dict(options or {})
    if before is not None and _file(config) is not None:  # it may be gone by now, but its options are kept
        given = {**checkpoint.read_state(before)["options"], **given}
    # Cached features are those of the trunk as it was filled, before a checkpoint is read.
    network, own = prepared_network(spec, given, config, restart=before is None or config.cache_features)
    least = getattr(network, "min_size", spec.min_size)
    if 0 < config.size < least:
        raise InputError(f"{spec.name} takes images of {least} x {least} pixels or more; got --size {config.size}")
    train, val = datasets(config)
    scores = None
    if config.cache_features:
        network.to(processes.device)
        train, val = (cached(network, data, spec, own, processes, config) for data in (train, val))
        scores = combined_scores
    objective = Judgment(spec, network, make_loss(config.loss, spec, config.margin), scores)
    trainer = BAPPSTrainer(config, spec, objective, train, val, processes=processes, options=own)
    if before is None:
        trainer.prepare()
    else:
        trainer.resume(before)
    return trainer


def prepared_network(
    spec: MetricSpec, options: Mapping[str, Any], config: TrainConfig, restart: bool = True
) -> tuple[nn.Module, dict[str, Any]]:
    """The network with what the variant starts from, its trunk frozen for "lin"; and its options.

    A trunk is the network's sub-module of that name. Where the start is a file, the options are also those that it was
    saved with.

    Args:
        spec: of the metric.
        options: of the network.
        config: for variant, weights and dropout.
        restart: False leaves the parameters random, for a checkpoint fills them.

    Raises:
        InputError: the variant needs a trunk, and there is none; an option contradicts the file's.
        WeightsError: the weights cannot be had, or are another metric's.
    """
    file, state, own = _file(config), None, dict(options)
    if file is not None and restart:
        own, state = read_weights(spec, options, file)
    network = build_network(spec, own)
    variant = _variant(config, network, spec)
    trunk = getattr(network, "trunk", None)
    if variant == "lin" and not isinstance(trunk, nn.Module):
        raise InputError(f"{spec.name} has no trunk to keep as it is; take --variant tune or scratch")
    if state is not None:
        state_dict.load_state(state, network, str(file))
    elif variant != "scratch" and config.weights == "default" and restart:
        _begin_with_published(network, spec)
    if variant == "lin" and trunk is not None:
        trunk.requires_grad_(False)
    if config.dropout is not None or config.cache_features:
        for module in network.modules():
            if isinstance(module, _DropoutNd):
                module.p = config.dropout or 0.0
    constrain_ = getattr(network, "constrain_", None)
    if callable(constrain_):
        constrain_()  # the calibrated loss divides by d, which must not be negative in the first step either
    return network, own


def datasets(config: TrainConfig) -> tuple[Any, Any]:
    """The training and the validation data that the config names.

    Raises:
        InputError: they are not there, or a table comes without another to validate on.
    """
    options = {"size": config.size or None, "seed": config.seed}
    if config.val_data is None and is_table(config.data):
        raise InputError(f"{config.data} is a table for training; give another with --val-data")
    train = _judgments(config.data, "train", config.train_subsets, augment=config.augment, **options)
    return train, _judgments(config.val_data or config.data, "val", config.val_subsets, **options)


def _judgments(path: Path, split: Literal["train", "val"], subsets: tuple[str, ...] | None, **options: Any) -> Any:
    if is_table(path):
        return TripletTable(path, subsets=subsets, **options)
    return TwoAFC(path, split, subsets, **options)


def _file(config: TrainConfig) -> Path | None:
    """The file that the network starts from, if there is one."""
    return None if config.weights in ("default", "none") else Path(config.weights).expanduser()


def _variant(config: TrainConfig, network: Any, spec: MetricSpec) -> Variant:
    if config.variant != "auto":
        return config.variant
    if hasattr(network, "trunk") and spec.weights:
        return "lin"
    return "scratch" if _file(config) is None else "tune"


def _begin_with_published(network: Any, spec: MetricSpec) -> None:
    """The published trunk, as the recipe has it, or all that is published where there is no trunk."""
    trunks = [w for w in spec.weights if w.prefix == "trunk"]
    if trunks:
        state_dict.fill(network.trunk, [dataclasses.replace(w, prefix="") for w in trunks])
    elif spec.weights:
        state_dict.fill(network, spec.weights)
    else:
        raise InputError(f"{spec.name} publishes no weights to start from; take --variant scratch or --weights PATH")
