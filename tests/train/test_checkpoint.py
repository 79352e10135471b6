import os
import pickletools
import signal

import pytest
import torch
from failing_disk import files_no_larger_than, full_disk

from iqazoo.errors import CheckpointError
from iqazoo.train import checkpoint

PARTS = {"model": {"a.b": torch.arange(6.0).view(2, 3).T, "n": torch.tensor(3)}, "empty": {}}
STATE = {"best": 0.1 + 0.2, "none": None, "list": [1, "x"]}


def test_what_is_written_is_read(tmp_path):
    path = checkpoint.write(tmp_path / "checkpoints", 12, PARTS, STATE)
    assert path.name == "step-00000012"
    parts, state = checkpoint.read(path)
    assert state == STATE
    assert parts.keys() == PARTS.keys()
    assert torch.equal(parts["model"]["a.b"], PARTS["model"]["a.b"])
    assert {p.name for p in path.iterdir()} == {"model.safetensors", "empty.safetensors", "state.json"}
    for file in path.iterdir():
        with pytest.raises(ValueError):  # noqa: PT011 - pickle's own words do not matter
            list(pickletools.genops(file.read_bytes()))


def test_tensors_that_share_memory_are_written(tmp_path):
    one = torch.rand(3)
    parts, _ = checkpoint.read(checkpoint.write(tmp_path, 0, {"model": {"a": one, "b": one[1:]}}, {}))
    assert torch.equal(parts["model"]["b"], one[1:])


def test_the_latest_of_a_run_of_a_folder_and_itself(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    folder = tmp_path / "checkpoints"
    for step in (9, 10, 100):
        checkpoint.write(folder, step, PARTS, STATE)
    newest = folder / "step-00000100"
    assert checkpoint.latest(tmp_path) == checkpoint.latest(folder) == checkpoint.latest(newest) == newest
    checkpoint.prune(folder, keep=2)
    assert list(checkpoint.steps(folder)) == [10, 100]


def test_half_a_checkpoint_is_never_seen(tmp_path, monkeypatch):
    checkpoint.write(tmp_path, 1, PARTS, STATE)
    monkeypatch.setattr(os, "rename", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        checkpoint.write(tmp_path, 2, PARTS, STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_a_full_disk_leaves_the_checkpoints_before_it(tmp_path):
    checkpoint.write(tmp_path, 1, PARTS, STATE)
    with files_no_larger_than(1000), pytest.raises(CheckpointError, match="are whole: make room, then resume"):
        checkpoint.write(tmp_path, 2, {"model": {"a": torch.zeros(10_000)}}, STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.read(tmp_path / "step-00000001")[1] == STATE


def test_a_folder_of_a_run_may_have_a_checkpoints_name(tmp_path):
    run = tmp_path / "step-5"
    run.mkdir()
    assert checkpoint.latest(run) is None
    path = checkpoint.write(run / "checkpoints", 1, PARTS, STATE)
    assert checkpoint.latest(run) == path


def test_the_same_step_again_replaces_it(tmp_path):
    checkpoint.write(tmp_path, 0, PARTS, STATE)
    for n in range(1, 12):
        path = checkpoint.write(tmp_path, 1, PARTS, {"n": n})
        assert checkpoint.latest(tmp_path) == path
    assert checkpoint.read(path)[1] == {"n": 11}
    checkpoint.prune(tmp_path, keep=2)
    assert list(checkpoint.steps(tmp_path)) == [0, 1]
    assert {p.name for p in tmp_path.iterdir()} == {"step-00000000", path.name}


def write_and_prune(folder, n):
    checkpoint.write(folder, 1, PARTS, {"n": n})
    checkpoint.prune(folder, keep=1)


def killed_before_rename(number, work):
    """Do it in another process, which is killed before its call of `os.rename` of that number, from 1."""
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    rename, calls = os.rename, []

    def dies(source, target):
        calls.append(target)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, target)

    os.rename = dies
    try:
        work()
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("rename", "left"), [(1, 1), (2, 2)])
def test_a_kill_while_the_only_checkpoint_is_replaced(tmp_path, rename, left):
    write_and_prune(tmp_path, 1)
    assert killed_before_rename(rename, lambda: write_and_prune(tmp_path, 2))
    assert checkpoint.read(checkpoint.latest(tmp_path))[1] == {"n": left}
    write_and_prune(tmp_path, 3)
    assert checkpoint.read(checkpoint.latest(tmp_path))[1] == {"n": 3}
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("failing", [1, 2])
def test_a_rename_that_fails_leaves_a_checkpoint(tmp_path, monkeypatch, failing):
    write_and_prune(tmp_path, 1)
    rename, calls = os.rename, []

    def fails(source, target):
        calls.append(target)
        return full_disk() if len(calls) == failing else rename(source, target)

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises((CheckpointError, OSError)):
        write_and_prune(tmp_path, 2)
    assert checkpoint.read(checkpoint.latest(tmp_path))[1] == {"n": failing}


def test_pruning_sweeps_what_kills_left(tmp_path):
    (tmp_path / ".step-00000003.abc" / "step-00000003").mkdir(parents=True)
    checkpoint.write(tmp_path, 1, PARTS, STATE)
    checkpoint.prune(tmp_path, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("damage", ["state.json", "model.safetensors"])
def test_damage_is_named(tmp_path, damage):
    path = checkpoint.write(tmp_path, 1, PARTS, STATE)
    (path / damage).write_bytes(b"{")
    with pytest.raises(CheckpointError, match=r"step-00000001 is no readable checkpoint"):
        checkpoint.read(path)


def test_files_and_folders_are_flushed_before_they_are_named(tmp_path, monkeypatch):
    events = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (events.append("rename"), rename(a, b)))
    checkpoint.write(tmp_path, 1, PARTS, STATE)
    assert events == ["fsync"] * 4 + ["rename", "fsync"]  # three files, their folder; the folder around it
