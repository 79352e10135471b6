"""Measures the two attentions of the plugin unet over the image's size, and draws time and memory: docs/unet.svg.

    python benchmarks/plot_unet.py [--draw]

writes benchmarks/local/unet.json, then the plot; `--draw` only draws. What is measured is the attention of the first
level, whose map has half the image's sides. The plugin must be installed.
"""

import functools

import torch
from iqazoo_unet.blocks import FullAttention
from plot_linear_attention import ROOT, growth, panel, plot, scaled, write
from test_linear_attention import in_turns

from iqazoo.nets import LinearAttention

RESULTS, PLOT = ROOT / "local/unet.json", ROOT.parent / "docs/unet.svg"
SIDES = [32, 64, 128, 256, 512, 1024]
CHANNELS, HEADS, HEAD_CHANNELS, MEMORY = 16, 2, 16, 4
COLORS = {"linear": "#0072b2", "full": "#d55e00", "matrix": "#777777"}
LABELS = {
    "linear": "iqazoo.nets.LinearAttention",
    "full": "full attention, in tiles",
    "matrix": "full attention, its matrix written out",
}
UP_TO = {"linear": 1024, "full": 512, "matrix": 256}  # beyond, one call takes over 5 s or 8 GB


def with_matrix(block, x):
    """What FullAttention computes, with the N x N weights in memory."""
    batch, _, height, width = x.shape
    q, k, v = block.to_qkv(block.norm(x)).flatten(2).unflatten(1, (3, HEADS, -1)).mT.unbind(1)
    k, v = (torch.cat((first.expand(batch, -1, -1, -1), x), 2) for first, x in zip(block.mem_kv, (k, v), strict=True))
    out = (q @ k.mT * HEAD_CHANNELS**-0.5).softmax(-1) @ v  # [B, heads, N, D]
    return block.to_out(out.mT.reshape(batch, -1, height, width))


def runs():
    sizes = CHANNELS, HEADS, HEAD_CHANNELS, MEMORY
    full = FullAttention(*sizes)
    return {"linear": LinearAttention(*sizes), "full": full, "matrix": functools.partial(with_matrix, full)}


def measure(memory):
    """{name: {side: seconds or bytes}}."""
    torch.set_num_threads(2)
    torch.manual_seed(0)
    found = {name: {} for name in LABELS}
    named = runs()
    with torch.no_grad():
        for side in SIDES:
            x = torch.rand(1, CHANNELS, side // 2, side // 2)
            chosen = {name: run for name, run in named.items() if side <= UP_TO[name]}
            if side <= UP_TO["matrix"]:
                torch.testing.assert_close(named["matrix"](x), named["full"](x))
            if memory:
                for name, run in chosen.items():
                    run(x)
                    found[name][side] = growth(run, (x,))
                continue
            calls = {name: lambda run=run, x=x: run(x) for name, run in chosen.items()}
            for name, seconds in in_turns(calls, 0.5 if side < 256 else 3).items():
                found[name][side] = seconds
    return found


def draw(results):
    shown = {"sizes": SIDES, "colors": COLORS}
    parts = panel(80, "forward time over the image's side", scaled(results["time"], 1e3), -2, 4, "ms", **shown)
    parts += panel(500, "memory of one call", scaled(results["memory"], 1e-6), -1, 4, "MB", **shown)
    write(PLOT, parts, LABELS, COLORS)


if __name__ == "__main__":
    plot(__file__, measure, RESULTS, draw)
