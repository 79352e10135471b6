"""What a training run left behind, for comparing two of them."""

import json

import safetensors.torch
import torch

from iqazoo.train import checkpoint


def records(folder, kind):
    """Without what depends on the clock."""
    lines = map(json.loads, (folder / "run" / "log.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k != "samples/s"} for line in lines if line["kind"] == kind]


def final_state(folder):
    """All that a run left: the tensors of its last checkpoint and of its best network, the state, the log."""
    parts, state = checkpoint.read(checkpoint.latest(folder / "run"))
    best = safetensors.torch.load_file(folder / "run" / "best.safetensors")
    tensors = {f"{part}/{name}": t for part, named in parts.items() for name, t in named.items()}
    progress = {k: v for k, v in state["progress"].items() if k != "logged"}  # the log has speeds in it
    logs = records(folder, "train"), records(folder, "val")
    return {**tensors, **best}, (progress, state["step"], state["epoch"], state["optimizer"], logs)


def _same(tensor, other):
    """Bit for bit; a NaN, as in the state of a generator, equals itself."""
    return torch.equal(tensor.nan_to_num(7.0), other.nan_to_num(7.0))


def check_same_run(folder, other):
    tensors, rest = final_state(folder)
    expected, expected_rest = final_state(other)
    assert rest == expected_rest
    assert tensors.keys() == expected.keys()
    assert [name for name in tensors if not _same(tensors[name], expected[name])] == []
