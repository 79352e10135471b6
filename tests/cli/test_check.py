"""`iqazoo check`: one line for each check, exit code 1 where one fails."""

import json

import pytest
from wrong_metrics import Saturating, spec_of

from iqazoo import registry
from iqazoo.cli import main
from iqazoo.metrics.psnr import PSNR


def test_each_check_is_a_line_on_stdout(capsys):
    assert main(["check", "psnr", "--only", "check_output", "check_map"]) == 0
    shown = capsys.readouterr()
    passed, skipped = shown.out.splitlines()
    assert passed.split()[:2] == ["passed", "check_output"]
    assert skipped.split()[:2] == ["skipped", "check_map"]
    assert shown.err == "iqazoo: psnr: 1 passed, 1 skipped\n"


def test_a_failure_is_told_and_gives_exit_code_1(capsys, monkeypatch):
    monkeypatch.setattr(registry, "spec", lambda name: spec_of(Saturating))
    assert main(["check", "saturating", "--only", "check_output", "check_monotone_jpeg", "--format", "json"]) == 1
    shown = capsys.readouterr()
    passed, failed = json.loads(shown.out)
    assert passed["result"] == "passed"
    assert failed["result"] == "failed"
    assert failed["cause"].startswith("scores must get worse as jpeg grows")
    assert "1 passed, 1 failed" in shown.err


def test_what_a_network_prints_is_no_data(capsys, monkeypatch):
    monkeypatch.setattr(PSNR, "forward", lambda *given, before=PSNR.forward: (print("hello"), before(*given))[1])
    for format in ("table", "json"):
        assert main(["check", "psnr", "--only", "check_output", "--format", format]) == 0
        shown = capsys.readouterr()
        assert "hello" not in shown.out
        assert "hello" in shown.err


@pytest.mark.parametrize(
    "words", [["no-such-metric"], ["ssim", "--only", "check_x"], ["ssim", "--weights", "missing.pt"]]
)
def test_what_it_does_not_understand_is_told_in_one_line(words, capsys):
    assert main(["check", *words]) in (1, 2)
    shown = capsys.readouterr()
    assert (shown.out, len(shown.err.splitlines())) == ("", 1)
