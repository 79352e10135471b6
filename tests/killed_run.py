"""Trains in child processes, and kills each at a random moment but the last.

    python killed_run.py FOLDER KILLS

leaves an undisturbed run in FOLDER/straight, one of many parts in FOLDER/killed, and prints how many were killed.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from judging import Judgments, Tiny, trainer

from iqazoo.train import checkpoint


class Dropped(Tiny):
    """Its dropout needs the generators' states."""

    def __init__(self) -> None:
        super().__init__(dropout=0.5)


def train(folder: Path) -> None:
    """Begin, or go on."""
    made = trainer(folder, Dropped, train=Judgments(200), val=Judgments(16, seed=1), epochs=7, save_every=3, ema=0.9)
    before = checkpoint.latest(folder / "run")
    if before is not None:
        made.resume(before)
    made.fit()


def child(folder: Path) -> int:
    """Start a process that trains. Python and torch are there already, so all its time is the run's."""
    number = os.fork()
    if number == 0:
        try:
            train(folder)
            os._exit(0)
        finally:
            os._exit(1)
    return number


def main(folder: Path, kills: int) -> None:
    """Train straight, then in parts."""
    torch.set_num_threads(1)
    started = time.monotonic()
    assert os.waitpid(child(folder / "straight"), 0)[1] == 0
    longest = 1.2 * (time.monotonic() - started) / kills
    draw, killed = random.Random(5), 0
    for _ in range(kills):
        number = child(folder / "killed")
        time.sleep(draw.uniform(0, longest))
        os.kill(number, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(number, 0)[1])
    assert os.waitpid(child(folder / "killed"), 0)[1] == 0
    print(killed)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
