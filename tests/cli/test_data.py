"""`iqazoo data bapps-like`."""

import numpy as np
import pytest
from PIL import Image

from iqazoo.cli import main
from iqazoo.data import JND, TwoAFC, bapps_like


@pytest.fixture
def photographs(tmp_path):
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (90, 120, 3), np.uint8)
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    return tmp_path / "images"


def make(photographs, out, *more):
    counts = ("--train", "18", "--val", "20", "--jnd", "19", "--workers", "1")
    return main(["data", "bapps-like", "--images", str(photographs), "--out", str(out), *counts, *more])


def test_a_set_is_made_and_its_place_printed(photographs, tmp_path, capsys):
    assert make(photographs, tmp_path / "set") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [str(tmp_path / "set")]
    assert "README.txt" in captured.err
    assert "making" in captured.err
    counts = (len(TwoAFC(tmp_path / "set")), len(TwoAFC(tmp_path / "set", "val")), len(JND(tmp_path / "set")))
    assert counts == (18, 20, 19)


def test_the_seed_is_passed_on(photographs, tmp_path):
    for name, seed in (("a", "0"), ("b", "1")):
        make(photographs, tmp_path / name, "--seed", seed)
    assert TwoAFC(tmp_path / "a").fingerprint() != TwoAFC(tmp_path / "b").fingerprint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--workers", "0"), "--workers must be 1 or more"),
        (("--train", "3"), "18 rows or more"),
        (("--seed", "-1"), "seed"),
    ],
)
def test_usage_errors_exit_2(photographs, tmp_path, change, message, capsys):
    assert make(photographs, tmp_path / "set", *change) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_a_folder_that_holds_something_is_kept(photographs, tmp_path, capsys):
    assert make(photographs, photographs) == 2
    assert "empty or does not exist" in capsys.readouterr().err
    assert len(list(photographs.iterdir())) == 3


def test_a_disk_that_is_full_leaves_nothing(photographs, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bapps_like.np, "save", full)
    assert make(photographs, tmp_path / "set") == 2
    assert "No space left" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
