"""Which backends there are, why others are not, and which one a call takes."""

import functools
import os
import shutil
import sys
import sysconfig
import types
from pathlib import Path

import pytest
import torch

from iqazoo.errors import InputError
from iqazoo.ops import available, backend, mse

PAIR = (torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8))


@pytest.fixture(autouse=True)
def _fresh():
    """Each test looks for the modules anew."""
    backend.forget()
    yield
    backend.forget()


@pytest.fixture
def without_kernels(monkeypatch):
    monkeypatch.setattr(backend, "MODULES", {"cpu": "iqazoo._no_cpu", "cuda": "iqazoo._no_cuda"})


@pytest.fixture
def broken_module(monkeypatch, tmp_path):
    """Puts a file in the place of iqazoo._cpu."""

    def put(file_name, content):
        (tmp_path / file_name).write_bytes(content)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(backend.MODULES, "cpu", file_name.split(".")[0])

    return put


def test_kernels_are_built_where_they_can_be():
    """A kernel that stopped compiling must not hide behind the skips of the other tests."""
    compiler = any(shutil.which(name) for name in ("c++", "g++", "clang++"))
    header = Path(sysconfig.get_path("include"), "Python.h").exists()
    forbidden = os.environ.get("IQAZOO_BUILD_EXT") == "0"
    if forbidden or not (compiler and header and sys.platform == "linux"):
        pytest.skip("no kernels can be built here")
    assert available()["cpu"] is None


def test_available_names_every_backend_and_torch_always_works():
    found = available()
    assert list(found) == ["torch", "cpu", "cuda"]
    assert found["torch"] is None


def test_a_missing_module_is_a_reason(without_kernels):
    found = available()
    assert "IQAZOO_BUILD_EXT=1" in str(found["cpu"])
    assert "IQAZOO_BUILD_CUDA=1" in str(found["cuda"])
    torch.testing.assert_close(mse(*PAIR), mse(*PAIR, backend="torch"))
    with pytest.raises(InputError, match=r'backend="cpu".*not built.*IQAZOO_BUILD_EXT=1'):
        mse(*PAIR, backend="cpu")


@pytest.mark.parametrize(
    ("file_name", "content", "reason"),
    [
        ("truncated" + sysconfig.get_config_var("EXT_SUFFIX"), b"\x7fELF", "ImportError"),
        ("raising.py", b"raise OSError('cannot be loaded')", "cannot be loaded"),
        ("needing.py", b"import no_such_module", "no_such_module"),
    ],
)
def test_a_broken_module_is_a_reason(broken_module, file_name, content, reason):
    broken_module(file_name, content)
    assert reason in str(available()["cpu"])
    assert "broken" in str(available()["cpu"])
    torch.testing.assert_close(mse(*PAIR), mse(*PAIR, backend="torch"))
    with pytest.raises(InputError, match="broken"):
        mse(*PAIR, backend="cpu")


def test_a_cuda_module_without_a_device_is_a_reason(monkeypatch):
    module = types.ModuleType("driverless")
    module.device_count_error = lambda: "no driver"  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "driverless", module)
    monkeypatch.setitem(backend.MODULES, "cuda", "driverless")
    assert available()["cuda"] == "no driver"


def test_auto_takes_the_kernels_where_they_fit(monkeypatch):
    monkeypatch.setattr(backend, "_load", functools.cache(types.ModuleType))
    assert backend.choose("auto", *PAIR) == "cpu"
    assert backend.choose("auto", *(x.double() for x in PAIR)) == "cpu"
    assert backend.choose("auto", *(torch.nn.Parameter(x) for x in PAIR)) == "cpu"
    assert backend.choose("torch", *PAIR) == "torch"
    assert backend.choose("cpu", *PAIR) == "cpu"


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: x.half(), "float32 or all float64, got torch.float16"),
        (lambda x: x.to("meta"), "on cpu, got tensors on meta"),
        (lambda x: x.as_subclass(Subclass), "plain tensors"),
        (lambda x: x.to_sparse(), "plain tensors"),
    ],
)
def test_auto_takes_torch_where_kernels_do_not_fit(monkeypatch, change, reason):
    monkeypatch.setattr(backend, "_load", functools.cache(types.ModuleType))
    tensors = [change(x) for x in PAIR]
    assert backend.choose("auto", *tensors) == "torch"
    assert backend.choose("torch", *tensors) == "torch"
    with pytest.raises(InputError, match=reason):
        backend.choose("cpu", *tensors)


def test_dtypes_that_differ_are_left_to_torch(monkeypatch):
    monkeypatch.setattr(backend, "_load", functools.cache(types.ModuleType))
    assert backend.choose("auto", PAIR[0], PAIR[1].double()) == "torch"


def test_the_gpus_kernels_do_not_take_cpu_tensors():
    with pytest.raises(InputError, match="on cuda, got tensors on cpu"):
        mse(*PAIR, backend="cuda")


def test_an_unknown_backend_names_the_known_ones():
    with pytest.raises(InputError, match=r'"auto", "torch", "cpu" or "cuda"; got \'triton\''):
        mse(*PAIR, backend="triton")  # pyright: ignore[reportArgumentType]


@pytest.fixture
def old_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    backend._too_old_for.cache_clear()
    yield
    backend._too_old_for.cache_clear()


def test_an_old_gpu_is_left_to_torch(old_gpu):
    assert "8.0" in str(backend._too_old(torch.device("cuda", 0)))


@pytest.mark.filterwarnings("error:.*lru_cache")  # that dynamo sees through one
def test_the_age_of_a_gpu_is_a_constant_while_compiling(old_gpu):
    torch._dynamo.reset()
    doubled = torch.compile(lambda x: 2 * x if backend._too_old(x.device) else x, fullgraph=True, backend="eager")
    assert doubled(torch.ones(1)).item() == 2
