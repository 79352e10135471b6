"""`iqazoo train bapps NAME`."""

from __future__ import annotations

import dataclasses
import inspect
import os
import sys
import typing
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import tyro

from iqazoo import registry
from iqazoo.errors import InputError
from iqazoo.metric_spec import MetricSpec
from iqazoo.train.config import TrainConfig

PROGRAM = "iqazoo train bapps"
PLAIN = (bool, int, float, str)  # what a word of the command line can be


def run(data: tyro.conf.Positional[Literal["bapps"]], name: tyro.conf.Positional[str]) -> int:
    """Train a metric on judgments; `iqazoo train bapps NAME --help` lists the options.

    Args:
        data: the kind of judgments: bapps, which of two images is closer to a reference.
        name: the metric; `iqazoo list` shows which are trainable.
    """
    return main([data, name])


def main(arguments: Sequence[str]) -> int:
    """Parse and run; the network's own options are there as --net.OPTION once the metric is named.

    Args:
        arguments: the words after `iqazoo train`.

    Returns:
        The exit code: 0, also where a SIGTERM ended the run after a checkpoint.

    Raises:
        InputError: no kind of judgments or no metric is named.
    """
    words = list(arguments)
    if words[-1:] in (["--help"], ["-h"]) and len(words) < 3:
        tyro.cli(TrainConfig, prog=PROGRAM, args=["--help"])
    if words[:1] != ["bapps"] or len(words) < 2:
        raise InputError(f"expected {PROGRAM} NAME --data DIR, got {' '.join(['iqazoo train', *words])!r}; see --help")
    rest = words[1:]
    if rest[0].startswith("-"):
        raise InputError(f"expected the metric's name before its options, {PROGRAM} NAME {rest[0]} ...; see --help")
    spec = registry.spec(rest[0])
    config, options = parse(spec, rest)
    from iqazoo.train import distributed
    from iqazoo.train.start import bapps_trainer

    try:
        with redirect_stdout(sys.stderr):  # what a network prints is no data
            trainer = bapps_trainer(config, options)
            finished = trainer.fit()
        if trainer.processes.first:
            _tell(config, finished, trainer.at.best)
    finally:
        distributed.leave()
    return 0


def parse(spec: MetricSpec, arguments: Sequence[str]) -> tuple[TrainConfig, dict[str, Any]]:
    """The config, and those options of the metric's network that differ from the spec's.

    Args:
        spec: of the metric.
        arguments: its name first.
    """
    net = _net_class(spec)
    both: Any = dataclasses.make_dataclass(
        "Arguments",
        [
            ("train", Annotated[TrainConfig, tyro.conf.arg(name="")]),
            ("net", net, dataclasses.field(default_factory=net)),
        ],
    )
    parsed = tyro.cli(both, prog=PROGRAM, args=list(arguments), description="Train a metric on judgments.")
    defaults = dataclasses.asdict(net())
    options = {k: v for k, v in dataclasses.asdict(parsed.net).items() if v != defaults[k]}
    return parsed.train, options


def _net_class(spec: MetricSpec) -> Any:
    """A dataclass of the network's options that a word can say, with the spec's values as defaults."""
    from iqazoo.factory import network_class, network_options

    hints, fields = _hints(network_class(spec)), []
    for name, default in network_options(spec).items():
        if default is inspect.Parameter.empty or not _is_plain(default):
            continue
        if name in hints or isinstance(default, PLAIN):  # of None and () the type says nothing
            fields.append((name, hints.get(name, type(default)), dataclasses.field(default=default)))
    return dataclasses.make_dataclass("Net", fields, frozen=True, kw_only=True)


def _hints(target: Any) -> dict[str, Any]:
    """The types of a function's parameters, or of a class's, as far as they are known outside a type checker."""
    call = inspect.unwrap(target.__init__ if inspect.isclass(target) else target)
    hints = {}
    for name, hint in getattr(call, "__annotations__", {}).items():
        with suppress(Exception):  # a name in it is imported for type checkers only
            hints |= typing.get_type_hints(SimpleNamespace(__annotations__={name: hint}), call.__globals__)
    return hints


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, PLAIN)


def _tell(config: TrainConfig, finished: bool, best: float | None) -> None:
    if not finished:
        print(f"iqazoo: stopped; go on with --resume --out {config.folder}", file=sys.stderr)
        return
    path = os.fspath(Path(config.folder) / "best.safetensors")
    print(f"iqazoo: the best 2AFC score was {best:.4f}; use the metric with", file=sys.stderr)
    print(f'iqazoo.create("{config.name}", weights="{path}")')
