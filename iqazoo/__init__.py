"""A zoo of image-quality metrics in PyTorch.

    metric = iqazoo.create("ssim")
    scores = metric(image, reference)  # [B, C, H, W] in [0, 1] -> [B]

Everything is loaded on first use: importing iqazoo imports neither torch nor any plugin.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` finds, for editors and type checkers
    from iqazoo import images as images
    from iqazoo import ops as ops
    from iqazoo.errors import AmbiguousMetric as AmbiguousMetric
    from iqazoo.errors import CheckpointError as CheckpointError
    from iqazoo.errors import InputError as InputError
    from iqazoo.errors import IqazooError as IqazooError
    from iqazoo.errors import PluginError as PluginError
    from iqazoo.errors import TrainingError as TrainingError
    from iqazoo.errors import UnknownMetric as UnknownMetric
    from iqazoo.errors import WeightsError as WeightsError
    from iqazoo.factory import create as create
    from iqazoo.metric import Metric as Metric
    from iqazoo.metric_spec import MetricSpec as MetricSpec
    from iqazoo.metric_spec import Weights as Weights
    from iqazoo.registry import list_metrics as list_metrics
    from iqazoo.registry import refresh as refresh
    from iqazoo.registry import spec as spec

_HOME = {
    "AmbiguousMetric": "errors",
    "CheckpointError": "errors",
    "InputError": "errors",
    "IqazooError": "errors",
    "PluginError": "errors",
    "TrainingError": "errors",
    "UnknownMetric": "errors",
    "WeightsError": "errors",
    "create": "factory",
    "Metric": "metric",
    "MetricSpec": "metric_spec",
    "Weights": "metric_spec",
    "list_metrics": "registry",
    "refresh": "registry",
    "spec": "registry",
}
_MODULES = ("images", "ops")


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"iqazoo.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"iqazoo.{name}")
    elif name == "__version__":
        from importlib.metadata import version

        value = version("iqazoo")
    else:
        raise AttributeError(f"module 'iqazoo' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted((*_HOME, *_MODULES, "__version__"))
