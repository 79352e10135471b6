"""From entry points to specs. Nothing is imported before its name is asked for, and no plugin can break another.

A metric is one entry point in the group `iqazoo.metrics`: `NAME = "package.module:SPEC"`. The core's own metrics
are entry points of the distribution `iqazoo`, found by the same road.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import functools
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from iqazoo.environment import disabled_by, normalised
from iqazoo.errors import AmbiguousMetric, InputError, PluginError, UnknownMetric
from iqazoo.metric_spec import API, MetricSpec

GROUP = "iqazoo.metrics"
CORE = "iqazoo"
SLOW = 5.0  # seconds that an import may take without a word


@dataclass(frozen=True)
class Entry:
    """One declared metric: an entry point and the distribution that it comes from. Its code is not yet imported."""

    name: str
    distribution: str
    version: str
    target: str
    point: EntryPoint = field(compare=False, repr=False)

    @property
    def is_core(self) -> bool:
        """Whether iqazoo itself declares it."""
        return self.distribution == CORE

    @property
    def disabled_by(self) -> str | None:
        """The environment variable that keeps it from being used, or None; the core is always there."""
        return None if self.is_core else disabled_by(self.distribution)

    @property
    def qualified_name(self) -> str:
        """`name@distribution`, which always reaches this entry."""
        return f"{self.name}@{self.distribution}"

    @property
    def public_name(self) -> str:
        """The shortest name that reaches this entry: `name` where that is its own, else `name@distribution`."""
        owns = {self, *_named(self.name)} == {self} or self.is_core
        return self.name if owns else self.qualified_name

    def spec(self) -> MetricSpec:
        """Import the spec and check it.

        Raises:
            PluginError: it cannot be imported, is no MetricSpec, has another name, or is of a newer contract.
        """
        return _load(self)


def declared() -> tuple[Entry, ...]:
    """Every declared metric, sorted by name and distribution, so that the order of installation never matters."""
    return _declared()


def entries() -> tuple[Entry, ...]:
    """Those of `declared` that no environment variable disables."""
    return tuple(entry for entry in declared() if entry.disabled_by is None)


def refresh() -> None:
    """Look at the installed distributions again, after one was installed or removed in a running process."""
    _declared.cache_clear()
    _load.cache_clear()


def find(name: str) -> Entry:
    """The entry that `name` or `name@distribution` means.

    Raises:
        UnknownMetric: nobody declares it.
        AmbiguousMetric: several plugins do, and none of them is the core.
        PluginError: one distribution declares it more than once.
    """
    bare, _, distribution = name.partition("@")
    rivals = _named(bare)
    if distribution:
        rivals = [e for e in rivals if e.distribution == normalised(distribution)]
    rivals = [e for e in rivals if e.is_core] or rivals
    if not rivals:
        raise UnknownMetric(_unknown(name))
    owners = sorted({e.distribution for e in rivals})
    if len(owners) > 1:
        choices = " or ".join(repr(e.qualified_name) for e in rivals)
        raise AmbiguousMetric(
            f"expected one metric named {bare!r}, got {len(rivals)}, from {', '.join(owners)}; say {choices}"
        )
    if len(rivals) > 1:
        raise PluginError(
            f"{owners[0]} {rivals[0].version} declares the metric {bare!r} {len(rivals)} times "
            f"({', '.join(e.target for e in rivals)}); its author must keep one"
        )
    return rivals[0]


def spec(name: str) -> MetricSpec:
    """The spec of the metric `name` or `name@distribution`. Imports no torch for the core's metrics.

    Raises:
        UnknownMetric, AmbiguousMetric, PluginError: as `find` and `Entry.spec` say.
    """
    return find(name).spec()


def list_metrics(kind: str | None = None, pattern: str = "*") -> list[str]:
    """The names that `create` takes, sorted; broken plugins are left out (`iqazoo plugins` shows them).

    Args:
        kind: "FR", "NR", or None for both.
        pattern: a shell pattern such as "lpips*".

    Raises:
        InputError: there is no such kind.
    """
    if kind not in (None, "FR", "NR"):
        raise InputError(f"kind must be 'FR', 'NR' or None; got {kind!r}")
    names = set()
    for entry in entries():
        try:
            found = entry.spec()
        except PluginError:
            continue
        if kind in (None, found.kind) and fnmatch.fnmatchcase(entry.public_name, pattern):
            names.add(entry.public_name)
    return sorted(names)


@functools.cache
def _declared() -> tuple[Entry, ...]:
    found = {_entry(point) for point in entry_points(group=GROUP)}
    return tuple(sorted(found, key=lambda e: (e.name, e.distribution, e.target)))


def _entry(point: EntryPoint) -> Entry:
    try:
        metadata: Any = point.dist.metadata if point.dist else {}
        name, version = metadata.get("Name"), metadata.get("Version")
    except Exception:  # a half-removed package has entry points and no metadata: what it raises depends on Python
        name = version = None
    return Entry(point.name, normalised(name or "unknown"), version or "?", point.value, point)


def _named(name: str) -> list[Entry]:
    return [e for e in entries() if e.name == name]


@functools.cache
def _load(entry: Entry) -> MetricSpec:
    who = f"metric {entry.name!r} of {entry.distribution} {entry.version} ({entry.target})"
    started = time.perf_counter()
    try:
        # What a plugin prints must not end up in data that a program reads from stdout.
        with contextlib.redirect_stdout(sys.stderr):
            found = entry.point.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a script's sys.exit() must not end the caller either
        raise PluginError(
            f"{who} cannot be imported: {type(error).__name__}: {error}. "
            f"Upgrade or remove {entry.distribution}; the other metrics are not affected"
        ) from error
    seconds = time.perf_counter() - started
    if seconds > SLOW and not entry.is_core:
        sys.stderr.write(
            f"iqazoo: importing {entry.distribution} took {seconds:.1f} s; "
            f"IQAZOO_DISABLE_PLUGINS={entry.distribution} leaves it out\n"
        )
    if not isinstance(found, MetricSpec):
        raise PluginError(f"{who}: expected a MetricSpec, got {type(found).__name__}; its author must export one")
    if found.api > API:
        raise PluginError(f"{who} is written for api {found.api}, this iqazoo has api {API}; upgrade iqazoo")
    if found.name != entry.name:
        raise PluginError(
            f"{who}: the entry point is named {entry.name!r}, its spec {found.name!r}; "
            "its author must give both one name"
        )
    return found


def _unknown(name: str) -> str:
    known = [e.public_name for e in entries()]
    if not any(e.is_core for e in entries()):
        return f"no metric named {name!r}: iqazoo's own metrics are not registered; install it (pip install -e .)"
    for entry in declared():
        if entry.name == name.partition("@")[0] and entry.disabled_by:
            return (
                f"the metric {name!r} is that of {entry.distribution}, which {entry.disabled_by} leaves out; unset it"
            )
    close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
    return (
        f"no metric named {name!r} is installed{meant} `iqazoo list` shows all; "
        "a metric of a plugin needs that plugin: pip install PLUGIN"
    )
