import json
import sys
from types import SimpleNamespace

import pytest

from iqazoo.errors import InputError
from iqazoo.train.log import Log


class Terminal:
    """A stderr that says it is one."""

    encoding = "utf-8"

    def __init__(self) -> None:
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self): ...

    def isatty(self):
        return True


def lines(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path):
    log = Log(tmp_path, 10)
    log.open(0, 0)
    log.record("train", 1, {"loss": 0.5})
    kept = log.size
    log.record("train", 2, {"loss": 0.25})
    log.close()
    again = Log(tmp_path, 10)
    again.open(1, kept)
    again.record("train", 2, {"loss": 0.125})
    again.close()
    assert [(r["step"], r["loss"]) for r in lines(tmp_path)] == [(1, 0.5), (2, 0.125)]


def test_a_new_run_begins_a_new_log(tmp_path):
    (tmp_path / "log.jsonl").write_text("old\n")
    log = Log(tmp_path, 10)
    log.open(0, 0)
    log.record("val", 1, {"2afc": 1.0})
    log.close()
    assert lines(tmp_path) == [{"kind": "val", "step": 1, "2afc": 1.0}]


def test_other_processes_write_nothing(tmp_path, capsys):
    log = Log(tmp_path / "run", 10, active=False)
    log.open(0, 0)
    log.record("train", 1, {"loss": 1.0})
    log.say("hello")
    log.close()
    assert not (tmp_path / "run").exists()
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_loss_agreement_speed_and_time_left(tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    log = Log(tmp_path, 10)
    log.open(0, 0)
    log.step(4, 0.25, 0.75, 321.0, "epoch 1/2")
    log.say("[half] done")
    log.close()
    for shown in ("epoch 1/2", "4/10", "loss 0.2500", "2AFC 75.0%", "321 samples/s", "[half] done"):
        assert shown in terminal.text
    assert "-:--:--" in terminal.text or "0:00:" in terminal.text


def test_no_bar_where_nobody_looks(tmp_path, capsys):
    log = Log(tmp_path, 10)
    log.open(0, 0)
    log.step(4, 0.25, 0.75, 321.0, "epoch 1/2")
    log.say("epoch 1: good")
    log.close()
    assert capsys.readouterr().err == "epoch 1: good\n"


def test_numbers_go_to_tensorboard(tmp_path):
    seen = []
    board = SimpleNamespace(add_scalar=lambda *given: seen.append(given))
    log = Log(tmp_path, 10)
    log.open(0, 0)
    log.record("val", 3, {"2afc": 0.75, "overall": 0.5}, board)
    log.close()
    assert seen == [("val/2afc", 0.75, 3), ("val/overall", 0.5, 3)]


def test_tensorboard_writes_where_it_is_installed(tmp_path):
    pytest.importorskip("tensorboard")
    log = Log(tmp_path, 10)
    log.open(0, 0)
    log.record("val", 3, {"2afc": 0.75}, log.board)
    log.close()
    assert list((tmp_path / "tensorboard").glob("events.*"))


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(InputError, match=r"cannot be written: .*; choose another folder for the run"):
        Log(tmp_path / "run", 1).open(0, 0)
