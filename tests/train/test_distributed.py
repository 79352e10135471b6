"""Two processes on this machine, by gloo, as torchrun starts them."""

import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import judging
import pytest
import safetensors.torch
import torch
from run_records import check_same_run
from two_processes import Idle, twenty_steps

from iqazoo.errors import InputError
from iqazoo.train import distributed

TESTS = Path(__file__).parents[1]


def run_two(folder, *what):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    shared["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    running = [
        subprocess.Popen(
            [sys.executable, TESTS / "two_processes.py", folder, *what],
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in "01"
    ]
    logs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], "\n".join(logs)
    return logs


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accumulate", "loss", "network"),
    [("1", "auto", judging.Tiny), ("2", "bce", judging.Tiny), ("1", "auto", Idle), ("2", "bce", Idle)],
)
def test_twenty_steps_of_two_processes_are_those_of_one(tmp_path, accumulate, loss, network):
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    one.mkdir()
    run_two(two, "steps", accumulate, loss, network.__name__)
    twenty_steps(one, judging.ALONE, network, loss=loss)
    expected = safetensors.torch.load_file(one / "0.safetensors")
    for rank in "01":
        found = safetensors.torch.load_file(two / f"{rank}.safetensors")
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
        result, wanted = (json.loads((f / n).read_text()) for f, n in ((two, f"{rank}.json"), (one, "0.json")))
        assert result == pytest.approx(wanted, rel=1e-5)  # nine samples over two processes: each counted once
    start = judging.objective(network).state_dict()
    assert not torch.allclose(expected["network.trunk.weight"], start["network.trunk.weight"], rtol=1e-3)
    assert all(torch.equal(t, start[name]) for name, t in expected.items() if "idle" in name)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["Dropped", "Idle", "Normalized"])
def test_two_processes_stop_together_and_resume_bit_for_bit(tmp_path, network):
    logs = run_two(tmp_path, "resume", network)
    check_same_run(tmp_path / "stopped", tmp_path / "straight")
    check_same_run(tmp_path / "killed", tmp_path / "straight")
    assert logs[0].count("epoch 1:") == 3
    assert "epoch" not in logs[1], "the first process alone tells"


@pytest.mark.slow
def test_two_processes_validate_one_network(tmp_path):
    """The moving average has running means of its own, which each process fills from its part of the data."""
    run_two(tmp_path, "normalized")
    first, second = (safetensors.torch.load_file(tmp_path / f"{rank}.safetensors") for rank in "01")
    assert any("running_mean" in name for name in first)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.fixture
def two_gpus(monkeypatch):
    """The second of two processes, as if each had a GPU; gives how they would have been joined."""
    facts = {}
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: facts.update(set=str(device)))
    first = lambda device: "cuda:0" if str(device) == "cuda" else device  # noqa: E731 - as before set_device
    monkeypatch.setattr(torch, "empty", lambda *_, device: SimpleNamespace(device=torch.device(first(device))))
    monkeypatch.setattr(distributed.dist, "init_process_group", lambda kind, **how: facts.update(kind=kind, **how))
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    return facts


@pytest.mark.parametrize("device", [None, "cuda"])
def test_each_process_takes_its_gpu_and_waits_for_hours(two_gpus, device):
    joined = distributed.join(device)
    assert (str(joined.device), joined.rank, joined.count) == ("cuda:1", 1, 2)
    assert (two_gpus["set"], two_gpus["kind"]) == ("cuda:1", "nccl")
    assert two_gpus["timeout"] > timedelta(hours=3)


def test_one_gpu_for_several_processes_is_refused(two_gpus):
    with pytest.raises(InputError, match="each of 2 processes needs a GPU of its own; got 'cuda:0' for all"):
        distributed.join("cuda:0")
    assert two_gpus == {}


def test_one_process_takes_the_gpu_that_is_asked_for(two_gpus, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert str(distributed.join("cuda:3").device) == two_gpus["set"] == "cuda:3"


def test_without_torchrun_there_is_one(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = distributed.join("cpu")
    assert (alone.rank, alone.count, alone.first) == (0, 1, True)
    values = torch.ones(2)
    assert alone.sum(values) is values
    assert list(alone.gather({"a": values})) == ["0.a"]


def test_a_device_that_is_not_there():
    with pytest.raises(InputError, match="the device 'cuda:9' cannot be used"):
        distributed.join("cuda:9")
