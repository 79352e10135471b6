"""A checkpoint: one folder of safetensors and JSON, complete or not there, readable without pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from iqazoo.atomic import remove_folder, replacing_folder, sweep
from iqazoo.errors import CheckpointError

PREFIX = "step-"
NAME = re.compile(rf"{PREFIX}(\d+)(?:-(\d+))?")
Parts = Mapping[str, Mapping[str, Tensor]]


def write(folder: Path, step: int, parts: Parts, state: Mapping[str, Any]) -> Path:
    """Write `FOLDER/step-N`: a file `PART.safetensors` for each part, and `state.json`.

    Where there is one of that step, the new one is `step-N-2` and so on: no call puts a folder in place of another, so
    a kill in between could leave neither. `prune` removes the old one.

    Args:
        folder: of the run's checkpoints; made if it is not there.
        step: the number in the name.
        parts: tensors on any device.
        state: what JSON can hold.

    Returns:
        The checkpoint's path.

    Raises:
        CheckpointError: it cannot be written. Those that are there stay whole.
    """
    before = max((number for (found, number), _ in _named(folder) if found == step), default=0)
    target = folder / (f"{PREFIX}{step:08d}" + (f"-{before + 1}" if before else ""))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing_folder(target) as written:
            for part, tensors in parts.items():
                (written / f"{part}.safetensors").write_bytes(_serialised(tensors))
            (written / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(
            f"{target} cannot be written: {error}. The checkpoints before it are whole: make room, then resume"
        ) from error
    return target


def read(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """The parts, on the CPU, and the state of a checkpoint.

    Raises:
        CheckpointError: it cannot be read.
    """
    state = read_state(path)
    with _readable(path):
        parts = {file.stem: safetensors.torch.load_file(file) for file in sorted(path.glob("*.safetensors"))}
    return parts, state


def read_state(path: Path) -> dict[str, Any]:
    """The state of a checkpoint without its tensors.

    Raises:
        CheckpointError: it cannot be read.
    """
    with _readable(path):
        return json.loads((path / "state.json").read_text(encoding="utf-8"))


def steps(folder: Path) -> dict[int, Path]:
    """The complete checkpoints of a run by their step, oldest first; of one step that which was written last."""
    return {step: path for (step, _), path in _named(folder)}


def latest(path: Path) -> Path | None:
    """The checkpoint that `path` is, or the newest of the run or folder of checkpoints that it is; or None."""
    if NAME.fullmatch(path.name) and (path / "state.json").is_file():  # else a run of such a name
        return path
    found = steps(path / "checkpoints") or steps(path)
    return list(found.values())[-1] if found else None


def prune(folder: Path, keep: int) -> None:
    """Remove all but the checkpoints of the newest `keep` steps, one each, and what killed processes left."""
    sweep(folder, PREFIX)
    kept = list(steps(folder).values())[-keep:]
    for _, path in _named(folder):
        if path not in kept:
            remove_folder(path)


def _named(folder: Path) -> list[tuple[tuple[int, int], Path]]:
    """All checkpoints by their step and their number among those of that step, from 1; oldest first."""
    named = ((NAME.fullmatch(path.name), path) for path in folder.glob(f"{PREFIX}*"))
    return sorted(((int(match[1]), int(match[2] or 1)), path) for match, path in named if match)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say which checkpoint it was that the block could not read."""
    try:
        yield
    except Exception as error:  # a damaged file makes safetensors raise its own kinds
        raise CheckpointError(
            f"{path} is no readable checkpoint: {type(error).__name__}: {error}. Give another one of the run"
        ) from error


def _serialised(tensors: Mapping[str, Tensor]) -> bytes:
    # Copies: safetensors takes neither two names for one memory nor gaps between elements.
    dense = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    return safetensors.torch.save(dense)
