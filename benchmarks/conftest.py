"""Options of the benchmarks, and what their JSON says besides times."""

import pytest
import torch

from iqazoo import registry
from iqazoo.errors import AmbiguousMetric, PluginError, UnknownMetric

LEFT_OUT = pytest.StashKey[list]()


def pytest_addoption(parser):
    group = parser.getgroup("iqazoo")
    group.addoption("--metric", action="append", default=[], help="only this metric (may be given again)")
    group.addoption("--device", default="cpu", help="where metrics compute, for example cuda (default: cpu)")
    group.addoption("--budget", type=float, default=5.0, help="seconds that one call of a metric may take (default: 5)")


def pytest_configure(config):
    config.stash[LEFT_OUT] = []
    for name in config.getoption("metric"):
        try:
            registry.find(name)
        except (AmbiguousMetric, PluginError, UnknownMetric) as error:
            raise pytest.UsageError(str(error)) from None
    device = config.getoption("device")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch built without CUDA asserts
        raise pytest.UsageError(f"--device {device} cannot be used: {str(error).splitlines()[0]}") from None


def pytest_collection_modifyitems(config, items):
    """With --metric, only what times those metrics."""
    if not config.getoption("metric"):
        return
    kept = [item for item in items if hasattr(item, "callspec") and "zoo_case" in item.callspec.params]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.excinfo is not None and "zoo_case" in getattr(getattr(item, "callspec", None), "params", {}):
        reason = str(call.excinfo.value)
        item.config.stash[LEFT_OUT].append({"name": item.name, "outcome": report.outcome, "reason": reason})
    return report


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Which metrics have no time, and why."""
    output_json["left_out"] = config.stash[LEFT_OUT]
