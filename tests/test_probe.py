"""What importing a plugin does is seen from a process of its own."""

import json
import os
import subprocess
import sys

import plugin_maker
import pytest
from torch.backends.cuda import matmul

from iqazoo.probe import probe

GOOD = plugin_maker.GOOD


def made(monkeypatch, folder, code):
    """Installs a distribution whose module begins with `code`, for children too; its normalised name."""
    project = "iqazoo-probed"
    target = plugin_maker.install(folder, project, code + GOOD.format(name="probed", project=project), "probed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")]))
    return project


def test_a_good_plugin_needs_no_remark(monkeypatch, tmp_path):
    report = probe(made(monkeypatch, tmp_path, ""), 60)
    assert (report.broken, report.remarks) == ("", "")
    assert report.seconds is not None
    assert 0 <= report.seconds < 60


@pytest.mark.parametrize(
    ("code", "remark"),
    [
        ("import os; os.write(1, b'hello')", "prints 'hello'"),
        ("import sys; print('oh', file=sys.stderr)", "prints 'oh'"),
        ("import torch; torch.set_default_dtype(torch.float64)", "changes torch's default dtype"),
        ("import torch; torch.manual_seed(7)", "changes torch's random state"),
        ("import torch; torch.set_grad_enabled(False)", "changes torch's grad mode"),
        ("import torch; torch.set_float32_matmul_precision('high')", "changes torch's precision of float32 products"),
        pytest.param(
            "import torch; torch.backends.cuda.matmul.fp32_precision = 'tf32'",
            "changes torch's precision of float32 products",
            id="newer words of torch",
            marks=pytest.mark.skipif(not hasattr(matmul, "fp32_precision"), reason="torch before 2.9"),
        ),
        ("import random; random.seed(1)", "changes random's state"),
        ("import numpy; numpy.random.seed(1)", "changes numpy's random state"),
        ("import os; os.environ['OMP_NUM_THREADS'] = '1'", "changes the environment"),
    ],
)
@pytest.mark.slow
def test_what_an_import_should_not_do_is_told(monkeypatch, tmp_path, code, remark):
    report = probe(made(monkeypatch, tmp_path, code), 60)
    assert report.broken == ""
    assert report.remarks == f"its import {remark}"


@pytest.mark.parametrize(
    ("code", "limit", "reason"),
    [
        ("raise OSError('undefined symbol')", 60, "OSError: undefined symbol"),
        ("import os; os._exit(9)", 60, "ends the process, with exit code 9"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 60, "exit code -11"),
        ("import time; time.sleep(60)", 1, "takes more than 1 s"),
    ],
)
def test_a_broken_plugin_says_why(monkeypatch, tmp_path, code, limit, reason):
    report = probe(made(monkeypatch, tmp_path, code), limit)
    assert reason in report.broken


def test_the_command_shows_status_cause_and_time(monkeypatch, tmp_path):
    made(monkeypatch, tmp_path, "print('hello')")
    command = [sys.executable, "-m", "iqazoo", "plugins", "--format", "json"]
    rows = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    (row,) = [row for row in rows if row["distribution"] == "iqazoo-probed"]
    assert (row["version"], row["metrics"], row["status"]) == ("1.2", "probed", "warning")
    assert row["cause"] == "its import prints 'hello'"
    assert row["seconds"] >= 0
