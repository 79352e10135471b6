"""`create`: from a name to a metric ready for use."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iqazoo import registry, state_dict
from iqazoo.errors import InputError, IqazooError, PluginError, WeightsError
from iqazoo.metric import Metric
from iqazoo.metric_spec import API, MetricSpec

STATE_DICTS = (".safetensors", ".pth", ".pt")
"""Suffixes of files that are state dicts; in other files are, perhaps, the authors' own parameters."""


def create(
    name: str,
    *,
    device: torch.device | str | None = None,
    weights: str | Path | None = "default",
    **options: Any,
) -> Metric:
    """Make a metric ready for use: its network built, its weights loaded, its parameters frozen.

    Args:
        name: as `list_metrics` gives it, or `name@distribution`.
        device: where it computes; torch's default device where None.
        weights: "default" for the published files (fetched once, then cached), the path of a whole state dict or
            of the file that the metric's authors published, where the network reads such files, or None for fresh
            random parameters (no file, no network access).
        options: keyword arguments of the metric's network; `iqazoo info NAME` lists them.

    Raises:
        UnknownMetric, AmbiguousMetric, PluginError: the name leads to no usable metric.
        InputError: an option is unknown, or contradicts those that the file was saved with.
        WeightsError: the weights cannot be had, or do not fit.
    """
    return create_from(registry.spec(name), device=device, weights=weights, **options)


def create_from(
    spec: MetricSpec,
    *,
    device: torch.device | str | None = None,
    weights: str | Path | None = "default",
    **options: Any,
) -> Metric:
    """`create` for a spec at hand, whether or not it is registered. Arguments and errors as there."""
    path = None if weights in ("default", None) else Path(str(weights)).expanduser()
    state = None
    if path is not None:
        options, state = read_weights(spec, options, path)
    # Parameters that a file fills next must not use up the caller's random numbers.
    with torch.random.fork_rng(devices=[], enabled=weights is not None):
        network = build_network(spec, options)
    if state is not None:
        state_dict.load_state(state, network, str(path))
    elif weights == "default":
        _fill_with_published(spec, network)
    return Metric(spec, network).to(torch.get_default_device() if device is None else device)


def build_network(spec: MetricSpec, options: Mapping[str, Any]) -> nn.Module:
    """The spec's network with fresh parameters, trainable and in training mode.

    Args:
        spec: of the metric.
        options: keyword arguments, which go before those of the spec.

    Raises:
        InputError: an option is unknown, or the spec is of the reserved kind "SET".
        PluginError: the network cannot be imported or built, or is no `nn.Module`.
    """
    if spec.kind == "SET":
        raise InputError(f"{spec.name} judges sets of images, which this iqazoo cannot do; upgrade iqazoo")
    known = network_options(spec)
    unknown = sorted(set(options) - set(known))
    if unknown:
        valid = ", ".join(known) if known else "none"
        raise InputError(f"{spec.name} has no option {', '.join(map(repr, unknown))}; its options: {valid}")
    network = _constructed(spec, {**spec.options, **options})
    if not isinstance(network, nn.Module):
        raise PluginError(f"metric {spec.name!r}: its network must be an nn.Module, got {type(network).__name__}")
    return network


def network_class(spec: MetricSpec) -> Callable[..., Any]:
    """The class behind `spec.network`, imported now if it is given by name.

    Raises:
        PluginError: it cannot be imported.
    """
    if not isinstance(spec.network, str):
        return spec.network
    module, _, attribute = spec.network.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"metric {spec.name!r}: its network {spec.network} cannot be imported: "
            f"{type(error).__name__}: {error}. Install what is missing, or upgrade or remove its distribution"
        ) from error


def network_options(spec: MetricSpec) -> dict[str, Any]:
    """The options of the metric with their defaults (`inspect.Parameter.empty` where there is none)."""
    parameters = inspect.signature(network_class(spec)).parameters.values()
    takes = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: spec.options.get(p.name, p.default) for p in parameters if p.kind in takes}


def read_weights(spec: MetricSpec, options: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a file of weights holds, nothing of it used yet.

    Args:
        spec: of the metric.
        options: of the network, as they are asked for.
        path: of a whole state dict, or of the file that the metric's authors published.

    Returns:
        The options with those that the file asks for, and its state dict.

    Raises:
        InputError: an option contradicts those that the file was saved with.
        WeightsError: the file cannot be read, or is another metric's.
    """
    read_published = getattr(network_class(spec), "read_published", None)
    if read_published is not None and path.suffix not in STATE_DICTS:
        try:
            own, state = read_published(path)
        except IqazooError:
            raise
        except Exception as error:  # a reader of a foreign format may raise anything
            raise WeightsError(
                f"{path} cannot be read as a published file of {spec.name}: {error}. Give {_published(spec)}"
            ) from error
        return _merged(options, own, path), state
    saved = state_dict.read_metadata(path)
    if saved is not None:
        _check(saved, spec, path)
        options = _merged(options, saved.options, path)
    return dict(options), state_dict.read_state_dict(path)


def _constructed(spec: MetricSpec, options: Mapping[str, Any]) -> Any:
    try:
        return network_class(spec)(**options)
    except IqazooError:
        raise
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in options.items()) or "no options"
        raise PluginError(
            f"metric {spec.name!r}: its network cannot be built with {given}: {type(error).__name__}: {error}"
        ) from error


def _check(saved: state_dict.Metadata, spec: MetricSpec, path: Path) -> None:
    if saved.metric != spec.name:
        raise WeightsError(f"{path} was saved from {saved.metric!r}; create that, or give weights of {spec.name!r}")
    if saved.api > API:
        raise WeightsError(f"{path} was saved with api {saved.api}, this iqazoo has api {API}; upgrade iqazoo")


def _merged(options: Mapping[str, Any], saved: Mapping[str, Any], path: Path) -> dict[str, Any]:
    for name in options.keys() & saved.keys():
        if json.loads(json.dumps(options[name], default=repr)) != saved[name]:
            raise InputError(f"{path} was saved with {name}={saved[name]!r}, asked for {options[name]!r}; leave it out")
    return {**saved, **options}


def _published(spec: MetricSpec) -> str:
    """What `weights=PATH` takes, in words."""
    authors = getattr(network_class(spec), "published", "")
    return f"weights=PATH with {authors}" if authors else "weights=PATH for a trained network"


def _fill_with_published(spec: MetricSpec, network: nn.Module) -> None:
    if spec.weights:
        state_dict.fill(network, spec.weights, progress=sys.stderr.isatty())
    elif next(network.parameters(), None) is not None:
        raise WeightsError(
            f"{spec.name} has parameters but no published weights that iqazoo may fetch; give {_published(spec)}, "
            "or weights=None for random parameters"
        )
