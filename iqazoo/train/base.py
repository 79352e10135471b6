"""The loop of every trainer, and what surrounds it: devices, optimizer, schedule, checkpoints, log."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from iqazoo import state_dict
from iqazoo.errors import CheckpointError, InputError, TrainingError
from iqazoo.metric_spec import MetricSpec
from iqazoo.train import checkpoint, optimization, order, rng
from iqazoo.train.collate import collate
from iqazoo.train.config import TrainConfig, check_same
from iqazoo.train.distributed import Processes
from iqazoo.train.log import Log
from iqazoo.train.memory import keep_freed
from iqazoo.train.progress import Progress, versions
from iqazoo.train.stop import StopSignal


class BaseTrainer(ABC):
    """A run: `fit` trains from where it stands to the end.

    The steps have the names that this field's toolboxes use; a trainer for other data defines `feed_data`,
    `test` and `summary`.

    Args:
        config: what to do.
        spec: of the metric.
        objective: the module of a step; its `network` is the metric's, and its result has `loss` and `agreement`.
        train: data with `subset_names`, `subset_of(index)` and `fingerprint()`.
        val: likewise.
        options: the keyword arguments that the network was built with.
        processes: from `distributed.join`.
    """

    key = ""
    """Which number of `summary` says which network is the best; larger is better."""
    columns = 1
    """How many numbers `test` gives for each sample."""
    smallest_part = 1
    """How many samples the objective needs at once."""

    def __init__(
        self,
        config: TrainConfig,
        spec: MetricSpec,
        objective: Any,
        train: Any,
        val: Any,
        *,
        processes: Processes,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.config, self.spec, self.options = config, spec, dict(options or {})
        self.train_data, self.val_data = train, val
        self.processes, self.device = processes, processes.device
        self.layout = torch.channels_last if config.channels_last else torch.preserve_format
        self.objective = objective.to(self.device, memory_format=self.layout)
        self.optimizer = optimization.make_optimizer(config, objective.network, objective.loss.parameters())
        self.ema = optimization.MovingAverage(objective, config.ema) if config.ema else None
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.frozen = [m for m in objective.modules() if _is_frozen(m)]
        if config.compile:
            objective.compile()  # in place: the names in a checkpoint stay
        self.inputs: tuple[Tensor, ...] = ()
        self.paths: list[str] = []
        self.outputs = torch.empty(0, self.columns)
        self.at = Progress()
        self.batches_per_epoch = len(self._order(0))
        self.log = Log(config.folder, config.total_epochs * self.batches_per_epoch, processes.first)
        self.stop = StopSignal()
        self._stopping = False
        self._told = time.perf_counter()
        self._fingerprints = [train.fingerprint(), val.fingerprint()]
        state_dict.check_options(self.options)
        rng.seed_all(config.seed, 1 + processes.rank)
        keep_freed()

    def fit(self) -> bool:
        """Train to the end; False if a SIGTERM ended it before, after a checkpoint was saved."""
        try:
            with self.stop:
                self.log.open(self.at.step, self.at.logged)
                return self._fit()
        finally:
            self.log.close()

    def _fit(self) -> bool:
        while self.at.epoch < self.config.total_epochs:
            self.start_epoch()
            for batch in self.train_loader():
                self.feed_data(batch)
                self.optimize_parameters(self.at.step + 1)
                self.tell()
                if self._stopping:
                    return not self.save(self.at.epoch, self.at.step)
                if self.at.step % self.config.save_every == 0 and self.at.position < self.batches_per_epoch:
                    self.save(self.at.epoch, self.at.step)
            if self.processes.count > 1:  # these cannot leave validation early, and may be killed soon after SIGTERM
                self.save(self.at.epoch, self.at.step)
            result = self.validation(self.val_loader(), self.at.step, self.log.board, self.config.save_images)
            if result is None:
                return not self.save(self.at.epoch, self.at.step)
            self.keep_best(result)
            self.at.epoch, self.at.position = self.at.epoch + 1, 0
            self.save(self.at.epoch, self.at.step)
        return True

    def start_epoch(self) -> None:
        """Set what depends on the epoch: learning rate, augmentation, train mode."""
        self.at.lr = optimization.set_decay(self.optimizer, optimization.decay(self.config, self.at.epoch))
        if hasattr(self.train_data, "set_epoch"):
            self.train_data.set_epoch(self.at.epoch)
        self.train_mode()
        self._told = time.perf_counter()

    def train_mode(self) -> None:
        """Dropout drops, normalisations learn; but what is frozen stays as it is when the metric scores."""
        self.objective.train()
        for module in self.frozen:
            module.eval()

    @abstractmethod
    def feed_data(self, batch: Mapping[str, Any]) -> None:
        """Take a batch to the device, as `inputs` for the objective."""

    def optimize_parameters(self, step: int) -> None:
        """One step of the optimizer on the batch that was fed.

        Raises:
            TrainingError: the loss or the norm of its gradients is NaN or infinite; the batch was saved, the
                parameters were not changed.
        """
        for parameter in self.trained:  # as optimizer.zero_grad, which asks a profiler first
            parameter.grad = None
        model, parts, shares = self.model, self.config.accumulate, []
        chunks = zip(*(t.chunk(parts) for t in self.inputs), strict=True) if parts > 1 else (self.inputs,)
        for part, inputs in enumerate(chunks):
            with self._synchronized(part == parts - 1):
                with self.autocast():
                    result = model(*inputs)
                (result.loss / parts if parts > 1 else result.loss).backward()  # a division by 1 takes its time
            shares.append((result.loss.detach(), result.agreement))
        parameters = [p for p in self.trained if p.grad is not None]
        norm = optimization.norm([p.grad for p in parameters])
        stopping = torch.full((), float(self.stop.received), device=self.device)
        totals = torch.stack([*(_mean(of, parts) for of in zip(*shares, strict=True)), stopping, norm])
        loss, agreement, told, mean_norm = (x / self.processes.count for x in self.processes.sum(totals).tolist())
        if not (math.isfinite(loss) and math.isfinite(mean_norm)):
            raise TrainingError(self._batch_saved(step, loss, mean_norm))
        if self.config.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.config.clip, norm)
        optimization.step(self.optimizer)
        if hasattr(self.objective.network, "constrain_"):
            self.objective.network.constrain_()
        if self.ema is not None:
            self.ema.update(self.objective)
        self._stopping = told > 0
        self.at.advance(loss, agreement)

    @abstractmethod
    def test(self) -> None:
        """Score the batch that was fed with the network as it will be used: `outputs` `[B, columns]`."""

    @torch.no_grad()
    def validation(
        self, loader: DataLoader[Any], step: int, tb_logger: Any = None, save_img: bool = False
    ) -> dict[str, float] | None:
        """Test every sample of the loader once, shared out over the processes.

        Args:
            loader: from `loader`.
            step: for the log.
            tb_logger: a TensorBoard writer, or None.
            save_img: also write a picture of the samples that the metric gets most wrong, if the trainer has one.

        Returns:
            What `summary` makes of the results; None if SIGTERM came meanwhile.

        Raises:
            InputError: a sample comes twice or not at all.
        """
        data: Any = loader.dataset
        indices, seen = list(loader.sampler), 0
        table = torch.zeros(len(data), 1 + self.columns, dtype=torch.float64)  # how often it was seen, outputs
        self.processes.share_buffers(self.objective)
        if self.ema is not None:  # has buffers of its own
            self.processes.share_buffers(self.ema.module)
        self.evaluated.eval()
        for batch in loader:
            self.feed_data(batch)
            self.test()
            rows = torch.tensor(indices[seen : seen + len(self.outputs)])
            table[rows] += torch.cat([torch.ones(len(rows), 1), self.outputs.cpu()], 1).double()
            seen += len(rows)
            if self.stop.received and self.processes.count == 1:
                return None
        table = self.processes.sum(table)
        if not bool((table[:, 0] == 1).all()):
            raise InputError("validation must see each sample once; take the loader from trainer.loader(data)")
        result = self.summary(data, table[:, 1:])
        self.log.record("val", step, result, tb_logger)
        self.log.say(f"epoch {self.at.epoch + 1}: " + ", ".join(f"{k} {v:.4f}" for k, v in result.items()))
        if save_img and self.processes.first:
            path = self.config.folder / "images" / f"step-{step:08d}.png"
            try:
                self.write_images(data, table[:, 1:], path)
            except OSError as error:  # a picture is not worth an epoch
                self.log.say(f"{path} could not be written: {error}")
        return result

    @abstractmethod
    def summary(self, data: Any, outputs: Tensor) -> dict[str, float]:
        """The numbers of a validation, `key` among them, from the outputs of all samples `[N, columns]`."""

    def write_images(self, data: Any, outputs: Tensor, path: Path) -> None:  # noqa: B027 - a hook, not a duty
        """Write a picture of the worst samples; nothing by default."""

    def tell(self) -> None:
        """Show how the run stands, and record it every `log_every` steps."""
        at, every = self.at, self.config.log_every
        before, self._told = self._told, time.perf_counter()
        speed = self.config.batch_size / (self._told - before)
        self.log.step(at.step, at.loss, at.agreement, speed, f"epoch {at.epoch + 1}/{self.config.total_epochs}")
        if at.step % every == 0:
            self.log.record(
                "train", at.step, {"epoch": at.epoch, **at.means(), "lr": at.lr, "samples/s": speed}, self.log.board
            )

    def keep_best(self, result: Mapping[str, float]) -> None:
        """Export the network to best.safetensors if it is better than all before it, or the first; NaN is the worst."""
        value, best = result[self.key], self.at.best
        if best is None or math.isnan(best) or value > best:
            self.at.best = value
            if self.processes.first:
                path = self.config.folder / "best.safetensors"
                path.parent.mkdir(parents=True, exist_ok=True)
                state_dict.save(path, self.evaluated.network, metric=self.spec.name, options=self.options)

    def save(self, epoch: int, step: int) -> bool:
        """Write a checkpoint from which `resume` goes on exactly as if nothing had happened; True."""
        states = self.processes.gather(rng.states(self.device))
        if self.processes.first:
            tensors, rest = optimization.pack(self.optimizer)
            parts = {"model": self.objective.state_dict(), "optimizer": tensors, "rng": states}
            if self.ema is not None:
                parts["ema"] = self.ema.module.state_dict()
            self.at.logged = self.log.size
            state = {"epoch": epoch, "step": step, "progress": self.at.to_json(), "optimizer": rest, **self._identity()}
            state["ema_updates"] = self.ema.updates if self.ema else 0
            checkpoint.write(self.config.folder / "checkpoints", step, parts, state)
            checkpoint.prune(self.config.folder / "checkpoints", self.config.keep)
        self.processes.wait()
        return True

    def resume(self, path: str | Path) -> None:
        """Take over the state of a checkpoint, or of the newest one of a run.

        Raises:
            CheckpointError: there is none, it cannot be read, or it is of another run; the message names what differs.
        """
        found = checkpoint.latest(Path(path))
        if found is None:
            raise CheckpointError(f"there is no checkpoint in {path}; give the folder of a run or of a checkpoint")
        parts, state = checkpoint.read(found)
        now = json.loads(json.dumps(self._identity()))
        names = ("options", "judgments", "processes", "metric")
        saved, present = ({**made["config"], **{name: made[name] for name in names}} for made in (state, now))
        check_same(saved, present, found)
        self.objective.load_state_dict(parts["model"])
        optimization.unpack(self.optimizer, parts["optimizer"], state["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(parts["ema"])
            self.ema.updates = state["ema_updates"]
        self.at = Progress.from_json(state["progress"])
        mine = f"{self.processes.rank}."
        rng.restore({k[len(mine) :]: v for k, v in parts["rng"].items() if k.startswith(mine)}, self.device)

    @property
    def evaluated(self) -> Any:
        """The objective whose network is validated and exported: the moving average where one is kept."""
        return self.ema.module if self.ema is not None else self.objective

    @property
    def part_size(self) -> int:
        """Samples that a process has in memory at once, in training, in validation and before."""
        return self.config.batch_size // (self.processes.count * self.config.accumulate)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 for the network if asked for; cached features were computed in it already."""
        if not self.config.bf16 or self.config.cache_features:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def train_loader(self) -> Iterable[Any]:
        """What is left of the epoch."""
        batches = self._order(self.at.epoch)[self.at.position :]
        if self.config.cache_features:  # a loader takes longer than it takes to read them
            return map(self.train_data.__getitems__, batches)
        return self._loader(self.train_data, batch_sampler=batches)

    def val_loader(self) -> DataLoader[Any]:
        """The validation data."""
        return self.loader(self.val_data)

    def loader(self, data: Any) -> DataLoader[Any]:
        """This process's share of the data, in order and in batches of `part_size`."""
        share = range(self.processes.rank, len(data), self.processes.count)
        return self._loader(data, sampler=share, batch_size=self.part_size)

    def _loader(self, data: Any, **how: Any) -> DataLoader[Any]:
        return DataLoader(
            data,
            num_workers=self.config.workers,
            pin_memory=self.device.type == "cuda",
            collate_fn=getattr(data, "collate", collate),
            generator=torch.Generator(),  # else it would draw from the generator that dropout uses
            **how,
        )

    def _order(self, epoch: int) -> list[list[int]]:
        config, count = self.config, self.processes.count
        if config.batch_size % (count * config.accumulate):
            raise InputError(
                f"a batch of {config.batch_size} cannot be shared evenly by {count} processes in {config.accumulate} "
                "parts each; change --batch-size or --accumulate"
            )
        if self.part_size < self.smallest_part:
            raise InputError(
                f"a step of {type(self).__name__} needs {self.smallest_part} or more samples at once; got a batch of "
                f"{config.batch_size} for {count} processes in {config.accumulate} parts each, which is "
                f"{self.part_size}; raise --batch-size or lower --accumulate"
            )
        size, rank = len(self.train_data), self.processes.rank
        return order.batches(size, config.batch_size, seed=config.seed, epoch=epoch, rank=rank, processes=count)

    @functools.cached_property
    def model(self) -> nn.Module:
        """What a step calls; several processes make it in their first step, from the batch that was fed."""
        if self.processes.count == 1:
            return self.objective
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(self.objective, device_ids=devices, find_unused_parameters=self._leaves_out())

    def _leaves_out(self) -> bool:
        """Whether the loss uses some parameters only, in any process, for a few samples of the batch in eval mode.

        DistributedDataParallel waits for the gradients of the others unless it looks for them, which slows every step.
        """
        parameters = [p for p in self.objective.parameters() if p.requires_grad]
        states = rng.states(self.device)
        self.objective.eval()  # a normalisation must not learn twice from a batch
        # Not by a call of the objective, which --compile would compile for this.
        loss = self.objective.forward(*(t[: self.smallest_part] for t in self.inputs)).loss
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        self.train_mode()
        rng.restore(states, self.device)
        left_out = torch.tensor(float(any(gradient is None for gradient in found)))
        return self.processes.sum(left_out).item() > 0

    def _synchronized(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients travel between processes with the last part of a batch only."""
        if last or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a run to go on, and the versions that it was made with."""
        return {
            "config": self.config.to_json(),
            "options": self.options,
            "judgments": self._fingerprints,
            "processes": self.processes.count,
            "metric": self.spec.name,
            "versions": versions(self.config.name),
        }

    def _batch_saved(self, step: int, loss: float, norm: float) -> str:
        """Write the batch that was fed, and say so."""
        path = self.config.folder / f"bad-batch-step-{step:08d}-rank-{self.processes.rank}.safetensors"
        tensors = {f"input{i}": t.detach().cpu().contiguous() for i, t in enumerate(self.inputs)}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(safetensors.torch.save(tensors, {"img_path": json.dumps(self.paths)}))
            kept = f"its batch is in {path}"
        except OSError as error:
            kept = f"its batch could not be saved: {error}"
        return (
            f"the loss of step {step} is {loss}, the norm of its gradients {norm}; {kept}. The parameters are those "
            "before the step: look for images that are constant or not finite, or begin anew with less --lr or a --clip"
        )


def _mean(values: Sequence[Tensor], parts: int) -> Tensor:
    """Of the parts of a batch, `[]`; an operation of torch is no small part of a step on cached features."""
    return values[0] if len(values) == parts == 1 else torch.stack([*values]).sum() / parts


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(p.requires_grad for p in parameters)
