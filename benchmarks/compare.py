"""Compare the JSON files of two runs: python benchmarks/compare.py OLD NEW

Prints a Markdown table, matched by metric, what, shape, dtype and device. "slower" and "faster" are said only where the
medians are 10% apart and the middle halves of the rounds do not overlap. Exit code: 0 where nothing is slower, 1 where
something is, 2 where the files cannot be compared.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

APART = 1.1
KEY = ("metric", "what", "shape", "dtype", "device")
HEAD = "| metric | what | shape | dtype | device | backend | old ms | new ms | new / old | |"


class Unfit(Exception):
    """The files cannot be compared; the message says why."""


@dataclass(frozen=True)
class Run:
    """A file's times by key, each a benchmark of pytest-benchmark, and what it ran on."""

    times: dict
    machine: dict


def read(path):
    """A file that `make bench` wrote."""
    try:
        content = json.loads(Path(path).read_text())
        found = [b for b in content["benchmarks"] if all(name in b["extra_info"] for name in KEY)]
        times = {tuple(str(b["extra_info"][name]) for name in KEY): b for b in found}
        machine = machine_of(content["machine_info"], found)
        for b in found:
            {name: b["stats"][name] for name in ("median", "q1", "q3")}
    except OSError as error:
        raise Unfit(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unfit(f"{path} is no result of `make bench`: {type(error).__name__}: {error}") from error
    if not times:
        raise Unfit(f"{path} holds no times of metrics; `make bench` writes them")
    return Run(times, machine)


def machine_of(info, found):
    """What must be the same for times to be comparable. Versions may differ: they may be what is compared."""
    cpu = info["cpu"]
    devices = {b["extra_info"].get("device_name", "?") for b in found}
    threads = {b["extra_info"].get("threads", "?") for b in found}
    return {
        "processor": cpu.get("brand_raw", info.get("machine", "?")),
        "cores": cpu.get("count", "?"),
        "devices": ", ".join(sorted(devices)),
        "threads": ", ".join(sorted(map(str, threads))),
    }


def check_alike(old, new):
    """Raise Unfit where a comparison would mean nothing."""
    for name, value in old.machine.items():
        if new.machine[name] != value:
            raise Unfit(f"not made on one machine: {name} {value!r} in OLD, {new.machine[name]!r} in NEW")
    if not old.times.keys() & new.times.keys():
        raise Unfit("the files have no case in common")


def verdict(old, new):
    """Of the stats of one case."""
    ratio = new["median"] / old["median"]
    if ratio > APART and new["q1"] > old["q3"]:
        return "slower"
    return "faster" if ratio < 1 / APART and new["q3"] < old["q1"] else ""


def row(key, old, new):
    """One line of the table, and its verdict."""
    before, after = old["stats"], new["stats"]
    ran = list(dict.fromkeys(b["extra_info"].get("backend", "?") for b in (old, new)))
    said = verdict(before, after)
    times = [f"{1e3 * before['median']:.3g}", f"{1e3 * after['median']:.3g}"]
    cells = [*key, " -> ".join(ran), *times, f"{after['median'] / before['median']:.2f}", said]
    return f"| {' | '.join(cells)} |", said


def compare(old, new):
    """The table, what one file lacks, and whether something is slower."""
    lines, slower = [HEAD, "|---" * HEAD.count(" |") + "|"], False
    for key in sorted(old.times.keys() & new.times.keys()):
        line, said = row(key, old.times[key], new.times[key])
        lines.append(line)
        slower = slower or said == "slower"
    for name, ours, others in (("OLD", old, new), ("NEW", new, old)):
        lines += [f"only in {name}: {', '.join(key)}" for key in sorted(ours.times.keys() - others.times.keys())]
    return "\n".join(lines), slower


def main(arguments):
    """The exit code."""
    if len(arguments) != 2:
        sys.stderr.write(__doc__)
        return 2
    try:
        old, new = map(read, arguments)
        check_alike(old, new)
    except Unfit as error:
        sys.stderr.write(f"{error}\n")
        return 2
    table, slower = compare(old, new)
    print(table)
    return int(slower)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
