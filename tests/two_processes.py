"""One of two processes of a run, started with torchrun's environment.

    python two_processes.py FOLDER steps PARTS LOSS NETWORK
    python two_processes.py FOLDER resume NETWORK
    python two_processes.py FOLDER normalized

The first does 20 steps and a validation; the second a run, one that is stopped by SIGTERM to the second process alone
and goes on, and one that dies in its first validation and goes on; the third validates the moving average of a network
with BatchNorm.
"""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import safetensors.torch
import torch
from judging import Judgments, Tiny, trainer

from iqazoo.train import distributed


class Dropped(Tiny):
    """Its dropout draws other numbers in each process."""

    def __init__(self) -> None:
        super().__init__(dropout=0.5)


class Idle(Tiny):
    """Has parameters that its score does not use, and draws random numbers also when it is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = torch.nn.Linear(2, 3)

    def features(self, image: torch.Tensor) -> torch.Tensor:
        torch.rand(())
        return super().features(image)


class Normalized(Tiny):
    """Its running means are those of the images that a process saw."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Sequential(self.trunk, torch.nn.BatchNorm2d(4))


def validated_average(folder: Path, processes: distributed.Processes) -> None:
    """Leave what was validated, by rank."""
    made = trainer(folder, Normalized, processes=processes, ema=0.9)
    made.start_epoch()
    for batch in made.train_loader():
        made.feed_data(batch)
        made.optimize_parameters(made.at.step + 1)
    made.validation(made.val_loader(), made.at.step)
    safetensors.torch.save_file(made.evaluated.state_dict(), folder / f"{processes.rank}.safetensors")


def twenty_steps(folder: Path, processes: distributed.Processes, network: type[Tiny] = Tiny, **facts: object) -> None:
    """Leave the parameters and the validation's result, by rank."""
    facts = {"optimizer": "sgd", "weight_decay": 0.1, **facts}
    made = trainer(folder, network, train=Judgments(160), processes=processes, **facts)
    made.start_epoch()
    for batch in made.train_loader():
        made.feed_data(batch)
        made.optimize_parameters(made.at.step + 1)
    assert made.at.step == 20
    result = made.validation(made.val_loader(), 20)
    facts = {"loss": made.at.loss, "agreement": made.at.agreement, **result}
    (folder / f"{processes.rank}.json").write_text(json.dumps(facts))
    safetensors.torch.save_file(made.objective.state_dict(), folder / f"{processes.rank}.safetensors")


def straight_and_stopped(folder: Path, processes: distributed.Processes, network: type[Tiny]) -> None:
    """A run, one that is told to stop and goes on, and one that dies in its first validation and goes on."""
    made = trainer(folder / "straight", network, processes=processes)
    assert made.fit()
    made = trainer(folder / "stopped", network, processes=processes)
    step = made.optimize_parameters

    def told(number: int) -> None:
        if number == 5 and processes.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        step(number)

    made.optimize_parameters = told
    assert not made.fit()
    assert made.at.step == 5
    made = trainer(folder / "stopped", network, processes=processes)
    made.resume(folder / "stopped" / "run")
    assert made.fit()
    made = trainer(folder / "killed", network, processes=processes)
    made.test = lambda: sys.exit("killed")
    with contextlib.suppress(SystemExit):
        made.fit()
    made = trainer(folder / "killed", network, processes=processes)
    made.resume(folder / "killed" / "run")
    assert (made.at.step, made.at.epoch, made.at.position) == (3, 0, 3)
    assert made.fit()


if __name__ == "__main__":
    torch.set_num_threads(1)
    process = distributed.join("cpu")
    try:
        if sys.argv[2] == "resume":
            straight_and_stopped(Path(sys.argv[1]), process, globals()[sys.argv[3]])
        elif sys.argv[2] == "normalized":
            validated_average(Path(sys.argv[1]), process)
        else:
            facts = {"accumulate": int(sys.argv[3]), "loss": sys.argv[4], "network": globals()[sys.argv[5]]}
            twenty_steps(Path(sys.argv[1]), process, **facts)
    finally:
        distributed.leave()
