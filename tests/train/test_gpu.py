"""Runs on a GPU: that they learn, and that one which stops resumes bit for bit."""

import functools

import judging
import pytest
import torch
from judging import trainer
from run_records import check_same_run, records

from iqazoo.train.distributed import join

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="cuda: torch finds no GPU")]


@pytest.fixture(autouse=True)
def the_same_every_time(monkeypatch):
    """cuDNN may else sum a filter's gradient in any order."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


def on_the_gpu(folder, network=judging.Tiny, **facts):
    processes = join()
    assert processes.device.type == "cuda"
    return trainer(folder, network, processes=processes, device=None, **facts)


@pytest.mark.parametrize("facts", [{}, {"bf16": True}, {"channels_last": True}, {"ema": 0.9}])
def test_a_run_learns(tmp_path, facts):
    made = on_the_gpu(tmp_path, train=judging.Judgments(400), val=judging.Judgments(40, seed=1), epochs=4, **facts)
    assert made.fit()
    assert made.at.best == max(r["2afc"] for r in records(tmp_path, "val")) > 0.85
    assert all(p.device.type == "cuda" for p in made.objective.parameters())


@pytest.mark.parametrize("facts", [{}, {"ema": 0.9}, {"optimizer": "sgd"}, {"accumulate": 2}, {"bf16": True}])
def test_a_run_that_stops_resumes_bit_for_bit(tmp_path, facts):
    """The GPU's own generator, which dropout asks, goes on where it was."""
    on_the_gpu(tmp_path / "straight", judging.Dropped, save_every=4, **facts).fit()
    make = functools.partial(on_the_gpu, tmp_path / "parts", judging.Dropped, save_every=4, **facts)
    judging.fit_in_parts(make, tmp_path / "parts" / "run", (3, 8))
    check_same_run(tmp_path / "parts", tmp_path / "straight")
