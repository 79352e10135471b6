"""Small sets of judged images, in the layout of BAPPS and as a table."""

import csv

import numpy as np
from PIL import Image


def save_image(path, seed, size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def save_judgment(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.array([value]))  # [1], as BAPPS has it


def make_two_afc(root, split="train", counts=None, size=(64, 64)):
    """Write `counts` = {subset: rows}; image k of row i comes of the seed (subset, i, k), the judgment is i / 10."""
    for number, (subset, count) in enumerate((counts or {"traditional": 3, "cnn": 2}).items()):
        home = root / "2afc" / split / subset
        for i in range(count):
            for k, part in enumerate(("ref", "p0", "p1")):
                save_image(home / part / f"{i:06}.png", (number, i, k), size)
            save_judgment(home / "judge" / f"{i:06}.npy", i / 10)
    return root


def make_jnd(root, counts=None):
    for number, (subset, count) in enumerate((counts or {"traditional": 3, "cnn": 2}).items()):
        home = root / "jnd" / "val" / subset
        for i in range(count):
            for k, part in enumerate(("p0", "p1")):
                save_image(home / part / f"{i:06}.png", (number, i, k))
            save_judgment(home / "same" / f"{i:06}.npy", i % 2)
    return root


def make_table(folder, rows, columns=("reference", "a", "b", "preference")):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "judgments.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return path
