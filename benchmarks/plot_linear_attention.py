"""Measures linear attention beside others over N, and draws time and memory: docs/linear-attention.svg.

    python benchmarks/plot_linear_attention.py [--draw]

writes benchmarks/local/linear_attention.json, then the plot; `--draw` only draws. Memory is by what the resident set
grows in a forward pass, in a process where freed memory goes back at once.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from test_linear_attention import in_turns, inputs, resident, unfused

from iqazoo.ops import linear_attention

ROOT = Path(__file__).parent
RESULTS, PLOT = ROOT / "local/linear_attention.json", ROOT.parent / "docs/linear-attention.svg"
SIZES = [256, 1024, 4096, 16384, 65536]
COLORS = {"fused": "#0072b2", "einsum": "#d55e00", "compiled": "#009e73", "softmax": "#777777"}
LABELS = {
    "fused": "iqazoo.ops.linear_attention",
    "einsum": "torch, einsum form",
    "compiled": "torch.compile of it",
    "softmax": "scaled_dot_product_attention",
}
SOFTMAX_UP_TO = 16384  # beyond, a call takes longer than all others together


def runs():
    compiled = torch.compile(lambda q, k, v: unfused(q, k, v, "bhnd"), dynamic=True)
    return {
        "fused": lambda q, k, v: linear_attention(q, k, v),
        "einsum": lambda q, k, v: unfused(q, k, v, "bhnd"),
        "compiled": compiled,
        "softmax": F.scaled_dot_product_attention,
    }


def growth(run, tensors):
    """Bytes, at the most, of one call."""
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = resident("VmRSS")
    run(*tensors)
    return max(resident("VmHWM") - before, 0)


def measure(memory):
    """{name: {N: seconds or bytes}}."""
    torch.set_num_threads(2)
    found = {name: {} for name in LABELS}
    named = runs()
    with torch.no_grad():
        for size in SIZES:
            tensors = inputs(1, 4, size, 32, "bhnd")
            chosen = {n: run for n, run in named.items() if n != "softmax" or size <= SOFTMAX_UP_TO}
            if memory:
                for name, run in chosen.items():
                    run(*tensors)
                    found[name][size] = growth(run, tensors)
                continue
            times = in_turns(
                {n: lambda run=run, x=tensors: run(*x) for n, run in chosen.items()}, 0.4 if size < 9000 else 1.5
            )
            for name, seconds in times.items():
                found[name][size] = seconds
    return found


def axis(low, high, first, length, value):
    """Where a value lies on a logarithmic axis."""
    return first + length * (math.log10(value) - low) / (high - low)


def panel(left, title, series, low, high, unit, sizes=SIZES, colors=COLORS):
    """One log-log plot of 330 x 260 as SVG. `low` and `high` are powers of ten of the ordinate."""

    def place(n, value):
        x = axis(math.log10(sizes[0]), math.log10(sizes[-1]), left, 330, n)
        return f"{x:.1f},{300 - axis(low, high, 0, 260, max(value, 10**low)):.1f}"

    parts = [f'<text x="{left}" y="28" font-weight="bold">{title}</text>']
    for power in range(low, high + 1):
        y = 300 - 260 * (power - low) / (high - low)
        parts.append(f'<path d="M{left} {y:.1f}h330" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g} {unit}</text>')
    for n in sizes:
        x = place(n, 10**low).split(",")[0]
        parts.append(f'<text x="{x}" y="318" text-anchor="middle">{n}</text>')
    for name, values in series.items():
        points = [place(int(n), value) for n, value in values.items()]
        color = colors[name]
        parts.append(f'<polyline points="{" ".join(points)}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3" fill="{color}"/>' for p in points]
    return parts


def scaled(series, factor):
    return {name: {n: value * factor for n, value in values.items()} for name, values in series.items()}


def draw(results):
    parts = panel(80, "forward time, B=1 H=4 D=32", scaled(results["time"], 1e3), -2, 3, "ms")
    parts += panel(500, "memory of one call", scaled(results["memory"], 1e-6), -1, 3, "MB")
    write(PLOT, parts, LABELS, COLORS)


def write(path, parts, labels, colors):
    """The panels with a legend below them."""
    for i, (name, label) in enumerate(labels.items()):
        x, y = 80 + i % 2 * 260, 346 + i // 2 * 20
        parts.append(f'<path d="M{x} {y}h24" stroke="{colors[name]}" stroke-width="2"/>')
        parts.append(f'<text x="{x + 30}" y="{y + 4}">{label}</text>')
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="850" height="380" font-family="sans-serif" font-size="12">'
    body = "\n".join(['<rect width="850" height="380" fill="white"/>', *parts])
    path.write_text(f"{head}\n{body}\n</svg>\n", encoding="utf-8")


def plot(script, measure, results, draw):
    """Measure time here and memory in a process of its own, keep both, and draw them; with --draw only the last."""
    if "--memory" in sys.argv:
        print(json.dumps(measure(memory=True)))
        return
    if "--draw" not in sys.argv:
        times = measure(memory=False)
        settings = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
        done = subprocess.run([sys.executable, script, "--memory"], env=settings, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        results.parent.mkdir(exist_ok=True)
        results.write_text(json.dumps({"time": times, "memory": json.loads(done.stdout.splitlines()[-1])}))
    draw(json.loads(results.read_text()))


if __name__ == "__main__":
    plot(__file__, measure, RESULTS, draw)
