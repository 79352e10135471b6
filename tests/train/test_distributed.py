"""Two processes on this machine, by gloo, as torchrun starts them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import judging
import pytest
import safetensors.torch
import torch
from run_records import check_same_run
from two_processes import twenty_steps

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
@pytest.mark.parametrize(("accumulate", "loss"), [("1", "auto"), ("2", "bce")])
def test_twenty_steps_of_two_processes_are_those_of_one(tmp_path, accumulate, loss):
    two, one = tmp_path / "two", tmp_path / "one"
    two.mkdir()
    one.mkdir()
    run_two(two, "steps", accumulate, loss)
    twenty_steps(one, judging.ALONE, loss=loss)
    expected = safetensors.torch.load_file(one / "0.safetensors")
    for rank in "01":
        found = safetensors.torch.load_file(two / f"{rank}.safetensors")
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
        result, wanted = (json.loads((f / n).read_text()) for f, n in ((two, f"{rank}.json"), (one, "0.json")))
        assert result == pytest.approx(wanted, rel=1e-5)  # nine samples over two processes: each counted once
    start = judging.objective().state_dict()
    assert not torch.allclose(expected["network.trunk.weight"], start["network.trunk.weight"], rtol=1e-3)


@pytest.mark.slow
def test_two_processes_stop_together_and_resume_bit_for_bit(tmp_path):
    logs = run_two(tmp_path, "resume")
    check_same_run(tmp_path / "stopped", tmp_path / "straight")
    check_same_run(tmp_path / "killed", tmp_path / "straight")
    assert logs[0].count("epoch 1:") == 3
    assert "epoch" not in logs[1], "the first process alone tells"


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
