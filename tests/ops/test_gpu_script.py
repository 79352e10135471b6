"""benchmarks/gpu.sh, as far as a machine without a GPU can tell."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from iqazoo.errors import InputError

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns("*.so", "__pycache__", "golden_data", "local")
TREE = ("csrc", "iqazoo", "benchmarks", "tests", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def test_its_grammar():
    subprocess.run(["bash", "-n", ROOT / "benchmarks/gpu.sh"], check=True)


@pytest.fixture
def gpu(monkeypatch):
    """benchmarks/gpu.py"""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu")


def test_failures_are_told_as_they_come(tmp_path):
    (tmp_path / "test_some.py").write_text("def test_good(): pass\ndef test_bad(): assert 1 == 2\n")
    environment = os.environ | {"FAILURES": str(tmp_path / "told"), "PYTHONPATH": str(ROOT / "benchmarks")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gpu_failures", "-p", "no:cacheprovider", tmp_path]
    subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True)
    told = (tmp_path / "told").read_text()
    assert told.startswith("== test_some.py::test_bad (call")
    assert "assert 1 == 2" in told
    assert "test_good" not in told.splitlines()[0]


def test_every_case_can_be_made_and_asks_for_the_gpu(gpu):
    cases = gpu.all_cases()
    small = [case for case in cases if case.bytes < 1 << 21 and case.operations < 1 << 26]
    assert {case.op for case in small} == {case.op for case in cases}
    for case in small:
        inputs = case.inputs("cpu")
        if case.plain:
            case.plain(*inputs)
        with pytest.raises(InputError, match="cuda"):
            case.fused(*inputs)


def test_its_table_holds_a_line_per_case(gpu, monkeypatch):
    times = iter([(0.5, 0.6), (2.0, 2.5), (None, 0.6), (None, None)])
    monkeypatch.setattr(gpu, "rotated", lambda case: ([()], True))
    monkeypatch.setattr(gpu, "measure", lambda function, sets: next(times))
    case = gpu.all_cases()[0]
    rows = [gpu.row(case, bandwidth=case.bytes * 4e3, rate=1e12) for _ in range(2)]
    about = dict.fromkeys(("gpu", "date", "driver", "torch", "torch_cuda", "python"), "x")
    text = gpu.table({"machine": about, "copy_GB_per_s": 1.0, "float32_TFLOP_per_s": 1.0, "rows": rows})
    lines = [line for line in text.splitlines() if line.startswith(f"| {case.op}")]
    assert "| 500 | 600 |" in lines[0]
    assert "| 50% memory | 4 | 4.17 |" in lines[0]
    assert "| - | 600 |" in lines[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_benchmarks_without_a_gpu_say_so(tmp_path):
    command = [sys.executable, ROOT / "benchmarks/gpu.py", tmp_path]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 3
    assert "no GPU" in done.stderr


def run(tree, out, **variables):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("IQAZOO_") and k != "PYTHONPATH"}
    environment |= {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", **variables}
    command = ["bash", tree / "benchmarks/gpu.sh", out]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=out.parent)


@pytest.fixture
def tree(tmp_path):
    for name in TREE:
        source, target = ROOT / name, tmp_path / "tree" / name
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=LEFT_OUT)
        else:
            shutil.copy(source, target)
    return tmp_path / "tree"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc")
def test_without_a_gpu_it_builds_and_says_so(tree, tmp_path):
    done = run(tree, tmp_path / "out")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "the kernels are built, but no GPU can be used here: " in done.stdout
    assert list((tree / "iqazoo").glob("_cuda*.so"))


@pytest.mark.slow
def test_a_failing_build_is_an_error_with_the_compilers_words(tree, tmp_path):
    done = run(tree, tmp_path / "out", CXX="no-such-compiler")
    assert done.returncode == 1
    assert "no C++ compiler" in done.stdout
    assert "the build FAILED" in done.stdout
