"""The synthetic set: its layout, its judge, its nuisance, and that old metrics are neither lost in it nor perfect."""

import hashlib

import numpy as np
import pytest
from photographs import make_photographs
from PIL import Image

import iqazoo
from iqazoo.data import JND, TwoAFC, bapps_like
from iqazoo.data.bapps_like import Counts, make_bapps_like
from iqazoo.data.distortions import FAMILIES
from iqazoo.errors import InputError
from iqazoo.evaluate.bapps import two_afc_figures
from iqazoo.evaluate.distances import triplet_distances

FEW = Counts(train=18, val=18, jnd=18)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    return make_photographs(tmp_path_factory.mktemp("photographs"))


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def two_afc(folder, *names):
    found = triplet_distances(TwoAFC(folder, "val"), {name: iqazoo.create(name) for name in names})
    figures = two_afc_figures(found, resamples=1)
    return {figure.metric: figure.value for figure in figures if figure.subset == "overall"}


def test_psnr_and_ssim_are_neither_lost_nor_perfect_on_held_out_photographs(photographs, tmp_path):
    make_bapps_like(photographs, tmp_path / "set", Counts(18, 540, 18))
    scores = two_afc(tmp_path / "set", "psnr", "ssim")
    assert 0.55 < scores["psnr"] < 0.85, scores
    assert 0.55 < scores["ssim"] < 0.85, scores


def test_without_nuisance_psnr_would_be_right_nearly_always(photographs, tmp_path, monkeypatch):
    monkeypatch.setattr(bapps_like, "_seen", lambda pixels, rng: bapps_like._centre(pixels))
    make_bapps_like(photographs, tmp_path / "set", Counts(18, 180, 18))
    assert two_afc(tmp_path / "set", "psnr")["psnr"] > 0.93


def test_layout_and_sizes(photographs, tmp_path):
    told = []
    make_bapps_like(photographs, tmp_path / "new" / "set", Counts(40, 36, 20), progress=told.append)
    home = tmp_path / "new" / "set"
    subsets = {family.subset for family in FAMILIES.values()}
    train, val, jnd = TwoAFC(home, "train", size=None), TwoAFC(home, "val"), JND(home)
    assert (len(train), len(val), len(jnd)) == (40, 36, 20)
    assert set(train.subset_names) == set(val.subset_names) == set(jnd.subset_names) == subsets
    assert train[0]["distA_img"].shape == (3, 64, 64)
    assert {float(val[i]["mos_label"]) for i in range(36)} == {0.0, 1.0}
    assert {float(jnd[i]["same_label"]) for i in range(20)} == {0.0, 1.0}
    assert sum(told) == 96
    assert [path.name for path in tmp_path.joinpath("new").iterdir()] == ["set"]
    assert home.stat().st_mode & 0o755 == 0o755


def test_the_readme_states_the_judge_the_nuisance_and_the_split(photographs, tmp_path):
    make_bapps_like(photographs, tmp_path / "set", FEW, seed=7)
    text = (tmp_path / "set" / "README.txt").read_text()
    for phrase in (
        "severity is worse",
        "up to 2 pixels",
        "within 5%",
        "grain",
        "Seed 7",
        "18 train, 18 val",
        *FAMILIES,
    ):
        assert phrase in text
    train, val = (
        {name for line in text.splitlines() if line.startswith(f"Photographs of {split}") for name in parts(line)}
        for split in ("train", "val")
    )
    assert len(val) == 2
    assert not train & val
    assert train | val == {path.name for path in photographs.iterdir()}


def parts(line):
    return line.split(": ")[1].split(", ")


def test_no_photograph_is_in_both_splits(tmp_path):
    """Photographs of one shade each, with stripes, so that a patch tells where it is from."""
    stripes = (np.arange(100) // 4 % 2 * 40)[None, :, None]
    for shade in (20, 60, 100, 140, 180):
        pixels = np.broadcast_to(shade + stripes, (100, 100, 3)).astype(np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{shade}.png")
    make_bapps_like(tmp_path / "images", tmp_path / "set", Counts(90, 90, 90))
    seen = {}
    for split, folder in (("train", "2afc/train/*/ref"), ("val", "2afc/val/*/ref"), ("jnd", "jnd/val/*/p0")):
        files = sorted((tmp_path / "set").glob(f"{folder}/*.png"))
        seen[split] = {int(np.asarray(Image.open(file)).min()) for file in files}
    assert seen["val"] == seen["jnd"]
    assert len(seen["val"]) == 1
    assert seen["train"] == {20, 60, 100, 140, 180} - seen["val"]


def test_the_seed_decides_and_nothing_else(photographs, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_bapps_like(photographs, tmp_path / name, FEW, seed=seed)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    a, c = contents(tmp_path / "a"), contents(tmp_path / "c")
    assert sum(a[name] == c.get(name) for name in a if name.endswith(".png")) == 0


@pytest.mark.slow
def test_processes_share_the_work_and_change_nothing(photographs, tmp_path):
    make_bapps_like(photographs, tmp_path / "alone", Counts(100, 18, 18))
    make_bapps_like(photographs, tmp_path / "shared", Counts(100, 18, 18), workers=3)
    assert contents(tmp_path / "alone") == contents(tmp_path / "shared")


def test_the_judge_prefers_the_smaller_severity(photographs, tmp_path, monkeypatch):
    drawn = []

    def recording(pixels, severity, rng):
        drawn.append(severity)
        return pixels

    recorded = {name: family._replace(distort=recording) for name, family in FAMILIES.items()}
    monkeypatch.setattr(bapps_like, "FAMILIES", recorded)
    make_bapps_like(photographs, tmp_path / "set", FEW)
    judged = sorted((tmp_path / "set" / "2afc").glob("*/*/judge/*.npy"), key=lambda p: (p.parts[-4], p.stem))
    severities = list(zip(drawn[0:72:2], drawn[1:72:2], strict=True))  # train first, then val
    assert len(judged) == len(severities) == 36
    assert [float(np.load(path).item()) for path in judged] == [float(b < a) for a, b in severities]
    assert all(a != b for a, b in severities)
    assert set(drawn) <= {level / 8 for level in range(1, 9)}


def test_the_nuisance_is_small_independent_and_of_the_size_that_is_stated():
    def mean_of_flat(value, seed):
        flat = np.full((80, 80, 3), value, np.float32)
        return bapps_like._seen(flat, np.random.default_rng(seed)).mean()

    brightness = [mean_of_flat(1.0, seed) for seed in range(300)]
    assert 0.949 < min(brightness) < 0.955
    assert 1.045 < max(brightness) < 1.051
    gamma = [np.log(mean_of_flat(0.25, seed) / white) / np.log(0.25) for seed, white in enumerate(brightness)]
    assert 0.949 < min(gamma) < 0.955
    assert 1.045 < max(gamma) < 1.051
    assert abs(np.corrcoef(brightness, gamma)[0, 1]) < 0.2
    moved = set()
    dot = np.zeros((80, 80, 3), np.float32)
    dot[40, 40] = 1
    for seed in range(300):
        plane = bapps_like._seen(dot, np.random.default_rng(seed))[..., 0]
        moved.add(tuple(int(v) for v in np.unravel_index(plane.argmax(), plane.shape)))
    assert moved == {(32 + dy, 32 + dx) for dy in range(-2, 3) for dx in range(-2, 3)}
    flat = np.full((80, 80, 3), 0.5, np.float32)
    grain = [bapps_like._seen(flat, np.random.default_rng(seed)).std() for seed in range(300)]
    assert max(grain) < 0.0125
    assert max(grain) > 0.011


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": Counts(17, 18, 18)}, "18 rows or more, got 0 and 17"),
        ({"seed": -1}, "seed of 0 or more"),
        ({"images": "none"}, "none"),
        ({"images": "one"}, "two photographs"),
        ({"images": "small"}, r"80 x 80 pixels or more .*, got 70 x 90"),
        ({"images": "broken"}, r"broken.*\.png"),
        ({"out": "full"}, "is empty or does not exist"),
        ({"out": "file"}, "is empty or does not exist"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_nothing(tmp_path, change, message):
    make_small_photographs(tmp_path)
    arguments = {"images": "two", "out": "out", "counts": FEW, "seed": 0} | change
    before = contents(tmp_path)
    with pytest.raises(InputError, match=message):
        make_bapps_like(
            tmp_path / arguments["images"], tmp_path / arguments["out"], arguments["counts"], arguments["seed"]
        )
    assert contents(tmp_path) == before
    assert not (tmp_path / "out").exists()


def make_small_photographs(folder):
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    for name, shapes in (
        ("one", [(100, 100)]),
        ("two", [(100, 100), (90, 100)]),
        ("small", [(70, 90), (70, 90)]),
        ("broken", [(100, 100), (100, 100)]),
    ):
        (folder / name).mkdir()
        for i, (height, width) in enumerate(shapes):
            Image.fromarray(noise[:height, :width]).save(folder / name / f"{i}.png")
    for i in range(2):
        (folder / "broken" / f"{i}.png").write_bytes(b"no image")
    (folder / "full").mkdir()
    (folder / "full" / "mine.txt").write_text("kept")
    (folder / "file").write_text("kept")


def test_gray_photographs_and_an_empty_folder_are_welcome(tmp_path):
    make_small_photographs(tmp_path)
    picture = Image.open(tmp_path / "two" / "0.png")
    picture.convert("L").save(tmp_path / "two" / "0.png")
    (tmp_path / "out").mkdir()
    make_bapps_like(tmp_path / "two", tmp_path / "out", FEW)
    assert len(TwoAFC(tmp_path / "out")) == 18
