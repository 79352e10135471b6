"""State dicts: read without running what a file holds, loaded into networks, written with metadata."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from iqazoo.atomic import replacing
from iqazoo.errors import InputError, WeightsError
from iqazoo.metric_spec import API, Weights
from iqazoo.weights import fetch


@dataclass(frozen=True)
class Metadata:
    """What a file written by `save` says of itself.

    Args:
        metric: the name of the metric.
        options: the keyword arguments of its network, as JSON keeps them (a tuple is read as a list).
        api: the version of the contract that it was written under.
    """

    metric: str
    options: dict[str, Any]
    api: int


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict onto the CPU: `.safetensors`, or any other suffix as torch's format, tensors only.

    Raises:
        WeightsError: the file cannot be read, holds anything that `torch.load(weights_only=True)` refuses
            (and so does not run), or is not a flat dict of names and tensors.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file makes both readers raise almost anything
        raise _unreadable(path, error) from error
    return _checked(found, path)


def fill(network: nn.Module, weights: Sequence[Weights], progress: bool = False) -> None:
    """Fetch published files and load each into the sub-module that its `prefix` names.

    A file may hold more than the network has (a trunk's file carries its classifier); the network may have no
    parameter that no file holds. All files are fetched before the first is read.

    Args:
        network: left as it was if anything fails.
        weights: where two files fill one parameter, the later wins.
        progress: draw progress bars on standard error.

    Raises:
        WeightsError: a file cannot be had or read, a parameter or persistent buffer has another shape than in
            the file, or is in none.
    """
    paths = [fetch(file, progress) for file in weights]
    state = {}
    for file, path in zip(weights, paths, strict=True):
        prefix = f"{file.prefix}." if file.prefix else ""
        state |= {prefix + name: tensor for name, tensor in read_state_dict(path).items()}
    with _all_or_nothing(network, ", ".join(map(str, paths))):
        missing = network.load_state_dict(state, strict=False).missing_keys
        if missing:
            raise ValueError(f"Missing: {_some(missing)}\nFound: {_some(state) or 'nothing'}")


def load(path: str | Path, network: nn.Module) -> None:
    """Load a whole state dict: every parameter and persistent buffer of the network, and nothing else.

    Args:
        path: as for `read_state_dict`.
        network: left as it was if anything fails.

    Raises:
        WeightsError: the file cannot be read, or lacks names, has others or other shapes; all are listed.
    """
    load_state(read_state_dict(path), network, str(path))


def load_state(state: Mapping[str, Tensor], network: nn.Module, source: str) -> None:
    """`load` for a state dict that has been read; `source` is where from, for the error."""
    with _all_or_nothing(network, source):
        network.load_state_dict(state)


def save(path: str | Path, network: nn.Module, *, metric: str, options: Mapping[str, Any]) -> None:
    """Write the network's state dict with what `create` needs to build the network again.

    Args:
        path: ends in `.safetensors`. A file that is there stays whole until the new one is complete.
        network: on any device.
        metric: the name of the metric.
        options: the keyword arguments that the network was built with; JSON must be able to hold them.

    Raises:
        InputError: another suffix, or options that JSON cannot hold.
        WeightsError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InputError(f"weights are saved as .safetensors; got the path {str(path)!r}")
    metadata = _to_strings(Metadata(metric, dict(options), API))
    # Copies: safetensors takes neither two names for one memory nor gaps between elements.
    contiguous = torch.contiguous_format
    state = {
        name: tensor.detach().to("cpu", copy=True, memory_format=contiguous)
        for name, tensor in network.state_dict().items()
    }
    try:
        with replacing(path) as written:
            # Not save_file, whose files only their owner can read.
            written.write_bytes(safetensors.torch.save(state, metadata))
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error}. Make room or choose another place") from error


def read_metadata(path: str | Path) -> Metadata | None:
    """What `save` wrote beside the tensors; None for other formats and for files that others wrote.

    Raises:
        WeightsError: the file cannot be read, or the metadata is damaged.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            fields = file.metadata() or {}
    except Exception as error:
        raise _unreadable(path, error) from error
    if not any(name.startswith("iqazoo.") for name in fields):
        return None
    try:
        return _from_strings(fields)
    except (KeyError, ValueError) as error:
        raise WeightsError(
            f"{path}: expected the metadata iqazoo.metric, iqazoo.options (a JSON object) and iqazoo.api (a "
            f"whole number), got {fields}; save the weights again"
        ) from error


def check_options(options: Mapping[str, Any]) -> None:
    """Raise InputError unless `save` could write these options; worth asking before hours of training."""
    _to_strings(Metadata("", dict(options), API))


def _to_strings(metadata: Metadata) -> dict[str, str]:
    try:
        options = json.dumps(metadata.options, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InputError(f"options must be what JSON can hold; got {metadata.options}: {error}") from error
    return {"iqazoo.metric": metadata.metric, "iqazoo.options": options, "iqazoo.api": str(metadata.api)}


def _from_strings(fields: Mapping[str, str]) -> Metadata:
    options = json.loads(fields["iqazoo.options"])
    if not isinstance(options, dict):
        raise ValueError("iqazoo.options is no JSON object")
    return Metadata(fields["iqazoo.metric"], options, int(fields["iqazoo.api"]))


def _checked(found: Any, path: Path) -> dict[str, Tensor]:
    """`found` if it maps names to tensors. No guessing which part of anything else might be meant."""
    if not isinstance(found, dict):
        raise WeightsError(f"{path} is no state dict: expected names and tensors, found {_kind(found)}")
    for name, value in found.items():
        if not (isinstance(name, str) and isinstance(value, Tensor)):
            raise WeightsError(
                f"{path} is no flat state dict: expected names and tensors, found {name!r}: {_kind(value)}; "
                "save the part that holds the tensors as a file of its own"
            )
    return dict(found)


@contextmanager
def _all_or_nothing(network: nn.Module, source: str) -> Iterator[None]:
    """Undo what the block did to the network's tensors if it fails, and say which file did not fit.

    torch itself loads what fits before it complains of the rest.
    """
    tensors = [*network.parameters(), *network.buffers()]
    before = [tensor.detach().clone() for tensor in tensors]
    try:
        yield
    except Exception as error:
        with torch.no_grad():
            for tensor, value in zip(tensors, before, strict=True):
                tensor.copy_(value)
        raise WeightsError(
            f"{source} does not fit {type(network).__name__}:\n{error}\n"
            "Was it made for other options of the metric, or for another metric?"
        ) from error


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _some(names: Collection[str], limit: int = 20) -> str:
    """The first names and how many more there are; a deep network has thousands."""
    rest = len(names) - limit
    return ", ".join(islice(names, limit)) + (f" and {rest} more" if rest > 0 else "")


def _unreadable(path: Path, error: Exception) -> WeightsError:
    if isinstance(error, OSError):
        return WeightsError(f"{path} cannot be read: {error}. Give the path of a .safetensors or .pth file")
    # Without torch's own words, which recommend weights_only=False: that would run what the file holds.
    return WeightsError(
        f"{path} is damaged, or holds more than tensors, which is never run ({type(error).__name__}). "
        "Fetch it again, or have its author save the tensors alone as .safetensors"
    )
