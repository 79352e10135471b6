"""A run that is killed again and again ends as if nothing had happened."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_records import check_same_run

TESTS = Path(__file__).parents[1]
KILLS = 20


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(tmp_path):
    done = subprocess.run(
        [sys.executable, TESTS / "killed_run.py", tmp_path, str(KILLS)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(KILLS), "a run ended before it was killed"
    check_same_run(tmp_path / "killed", tmp_path / "straight")
    written = {p.name for p in (tmp_path / "killed" / "run").iterdir() if not p.name.startswith(".")}
    assert written - {"tensorboard"} == {"best.safetensors", "checkpoints", "log.jsonl"}
    left = [p for p in (tmp_path / "killed" / "run" / "checkpoints").iterdir() if p.name.startswith(".")]
    assert left == [], "what kills left is swept"
