"""Time every fused op on this GPU beside its torch expression: python benchmarks/gpu.py OUT

Writes OUT/results.json and OUT/table.md. The work of one call is timed in a CUDA graph, so that Python's launches do
not count; `eager` is a call from Python, as users see it. Inputs rotate among sets that together exceed the L2 cache.
"""

import json
import platform
import statistics
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import torch
from gpu_case import all_cases

DEVICE = "cuda:0"
ROUNDS = 15
PATIENCE = 500  # milliseconds that the rounds may take together, though there are at least three
SETS = 16  # at most, where inputs are small
MEMORY = 8 << 30  # bytes that all sets of one case may take
NOTE = """\
`work` is the time of the kernels alone (in a CUDA graph), `eager` that of a call from Python. The share is of the
larger limit: bytes that must move over the bandwidth of a device-to-device copy measured here (read plus written), or
operations over the rate of a float32 matrix product measured here. `torch / fused` compares the kernels alone.
"""


def milliseconds(function, rounds=ROUNDS):
    """The median over rounds, by CUDA events, after warm-up."""
    for _ in range(2):
        function()
    rounds = max(3, min(rounds, int(PATIENCE / once(function))))
    return statistics.median([once(function) for _ in range(rounds)])


def once(function):
    """Milliseconds of one call."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    function()
    end.record()
    end.synchronize()
    return max(start.elapsed_time(end), 1e-6)


def copy_bandwidth():
    """Bytes per second of a large copy, read plus written."""
    source = torch.rand(1 << 28, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.nbytes / milliseconds(lambda: target.copy_(source)) * 1e3


def float32_rate():
    """Floating-point operations per second of a large float32 matrix product, without tf32."""
    torch.set_float32_matmul_precision("highest")
    a, b = torch.randn(2, 8192, 8192, device=DEVICE)
    return 2 * 8192**3 / milliseconds(lambda: a @ b, 5) * 1e3


def rotated(case):
    """Input sets that together are twice the L2 cache, where that takes not too many."""
    cache = torch.cuda.get_device_properties(DEVICE).L2_cache_size
    one = case.inputs(DEVICE)
    size = max(1, sum(tensor.nbytes for tensor in one))
    count = min(SETS, max(2, -(-2 * cache // size)), max(1, MEMORY // (8 * size)))
    return [one, *(case.inputs(DEVICE) for _ in range(count - 1))], count * size > cache


def graphed(function, sets):
    """One replay runs the function on every set."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for inputs in sets[:3]:
            function(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for inputs in sets:
            function(*inputs)
    return graph.replay


def measure(function, sets):
    """(milliseconds of the work of a call, of an eager call). The first is None where no graph can be captured."""

    def eager():
        for inputs in sets:
            function(*inputs)

    plain = milliseconds(eager) / len(sets)
    try:
        work = milliseconds(graphed(function, sets)) / len(sets)
    except RuntimeError as error:
        print(f"no graph: {error}".splitlines()[0], file=sys.stderr)
        torch.cuda.synchronize()
        work = None
    return work, plain


def kernels(function, sets):
    """Microseconds that each kernel of a call takes, by its name, the slowest first."""
    activity = torch.profiler.ProfilerActivity.CUDA
    with torch.profiler.profile(activities=[activity], acc_events=True) as profiler:
        for inputs in sets:
            function(*inputs)
        torch.cuda.synchronize()
    found = {event.key: event.self_device_time_total / len(sets) for event in profiler.key_averages()}
    return {name: time for name, time in sorted(found.items(), key=lambda item: -item[1]) if time}


def attempt(function, sets):
    """The same, or nothing where there is no function or its memory does not suffice."""
    try:
        return measure(function, sets) if function else (None, None)
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None, None


def row(case, bandwidth, rate):
    """One line of the table, as numbers."""
    sets, beyond_cache = rotated(case)
    work, eager = measure(case.fused, sets)
    plain_work, plain_eager = attempt(case.plain, sets)  # none where it would need too much memory
    seconds = (work or eager) / 1e3
    memory, arithmetic = case.bytes / bandwidth / seconds, case.operations / rate / seconds
    return {
        "op": case.op,
        "what": case.what,
        "shape": case.shape,
        "sets": len(sets),
        "beyond_L2": beyond_cache,
        "work_ms": work,
        "eager_ms": eager,
        "torch_work_ms": plain_work,
        "torch_eager_ms": plain_eager,
        "bytes": case.bytes,
        "operations": case.operations,
        "GB_per_s": case.bytes / seconds / 1e9,
        "share": max(memory, arithmetic),
        "limit": "memory" if memory >= arithmetic else "arithmetic",
        "torch_over_fused": plain_work / work if work and plain_work else None,
        "torch_over_fused_eager": plain_eager / eager if plain_eager else None,
    }


def said_by(*command):
    """The last line that a command prints, or why there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"unknown ({type(error).__name__})"
    return (done.stdout.strip().splitlines() or ["unknown"])[-1]


def machine():
    """Where and when this was measured."""
    properties = torch.cuda.get_device_properties(DEVICE)
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "gpu": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "L2_bytes": properties.L2_cache_size,
        "driver": said_by("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "nvcc": said_by("nvcc", "--version"),
        "torch": torch.__version__,
        "torch_cuda": torch.version.cuda,
        "python": platform.python_version(),
    }


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}g}"


def table(found):
    """Markdown for people."""
    about = found["machine"]
    lines = [
        f"# {about['gpu']}, {about['date']}",
        f"driver {about['driver']}, torch {about['torch']} (CUDA {about['torch_cuda']}), Python {about['python']}; "
        f"copy {found['copy_GB_per_s']:.0f} GB/s, float32 {found['float32_TFLOP_per_s']:.1f} TFLOP/s",
        "",
        NOTE,
        "| op | what | shape | work µs | eager µs | GB/s | share of limit | torch / fused | eager torch / fused |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for r in found["rows"]:
        times = [None if r[key] is None else 1e3 * r[key] for key in ("work_ms", "eager_ms")]
        where = "" if r["beyond_L2"] else " (in L2)"
        cells = [r["op"], r["what"], r["shape"], *map(number, times), f"{r['GB_per_s']:.0f}"]
        cells += [f"{100 * r['share']:.0f}% {r['limit']}{where}"]
        cells += [number(r["torch_over_fused"]), number(r["torch_over_fused_eager"])]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def save(out, found):
    """Write what has been found so far: little time may be left."""
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    failures = "".join(f"\nfailed: {failure}\n" for failure in found["failures"])
    (out / "table.md").write_text(table(found) + failures)


def main(out):
    """Measure everything; a case that fails is named, and the exit code is 1."""
    found = {
        "machine": machine(),
        "copy_GB_per_s": copy_bandwidth() / 1e9,
        "float32_TFLOP_per_s": float32_rate() / 1e12,
        "rows": [],
        "failures": [],
    }
    for case in sorted(all_cases(), key=lambda case: "compile" in case.what):  # the compiler takes longest
        try:
            found["rows"].append(row(case, found["copy_GB_per_s"] * 1e9, found["float32_TFLOP_per_s"] * 1e12))
        except Exception as error:  # the other cases are still worth having
            found["failures"].append(f"{case.op}, {case.what}, {case.shape}: {type(error).__name__}: {error}")
        torch.cuda.empty_cache()
        save(out, found)
    found["kernels_us"] = {}  # last, as a profiler that is on slows what comes after
    for case in all_cases():
        try:
            took = kernels(case.fused, rotated(case)[0][:4])
        except Exception as error:  # such as a profiler that may not look
            took = {"error": str(error)}
        found["kernels_us"][f"{case.op}, {case.what}, {case.shape}"] = took
        save(out, found)
    return 1 if found["failures"] else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    if not torch.cuda.is_available():
        print("no GPU that torch can use", file=sys.stderr)
        sys.exit(3)
    sys.exit(main(Path(sys.argv[1])))
