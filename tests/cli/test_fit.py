"""`iqazoo fit`: photographs in, weights out that `create` and `iqazoo score` take."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import iqazoo
from iqazoo import images
from iqazoo.cli import main
from iqazoo.metrics.niqe_fit import fit


@pytest.fixture
def photographs(tmp_path):
    """Noise has blocks that are all sharp."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        pixels = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


def test_a_model_of_photographs_is_fitted_saved_and_used(photographs, tmp_path, capsys):
    out = tmp_path / "own.safetensors"
    assert main(["fit", "niqe", "--images", str(photographs), "-o", str(out), "--step", "48"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(out)
    assert "75 blocks of 5 photographs" in captured.err
    assert f'iqazoo.create("niqe", weights="{out}")' in captured.err
    expected = fit(((p.name, images.decode(p)) for p in sorted(photographs.iterdir())), step=48)
    metric = iqazoo.create("niqe", weights=out)
    torch.testing.assert_close(metric.network.state_dict(), expected.state)
    code = main(["score", f"niqe={out}", "--image", str(photographs / "0.png"), "--format", "json"])
    row = json.loads(capsys.readouterr().out)[0]
    assert code == 0
    assert row["niqe"] == pytest.approx(metric(images.decode(photographs / "0.png")[None]).item(), rel=1e-4)
    assert row["niqe"] < iqazoo.create("niqe")(images.decode(photographs / "0.png")[None]).item()


def test_the_luma_is_kept(photographs, tmp_path):
    out = tmp_path / "own.safetensors"
    assert (
        main(["fit", "niqe", "--images", str(photographs), "-o", str(out), "--step", "48", "--channels", "y-8bit"]) == 0
    )
    assert iqazoo.create("niqe", weights=out).network.channels == "y-8bit"


def test_what_cannot_be_fitted_is_said(photographs, tmp_path, capsys):
    def told(*words):
        assert main(["fit", "niqe", *map(str, words)]) == 2
        return capsys.readouterr().err

    out = tmp_path / "own.safetensors"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "expected image files" in told("--images", empty, "-o", out)
    assert "got 30 of 5 photographs" in told("--images", photographs, "-o", out)
    assert ".safetensors" in told("--images", photographs, "-o", tmp_path / "own.pth", "--step", "48")
    Image.new("L", (95, 200)).save(photographs / "small.png")
    assert "small.png has 200 x 95 pixels" in told("--images", photographs, "-o", out)
    (photographs / "small.png").write_text("no picture")
    assert "small.png" in told("--images", photographs, "-o", out)
    assert not out.exists()


def test_an_output_that_cannot_be_written_is_refused_before_a_photograph_is_read(tmp_path, capsys):
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    absent = tmp_path / "none" / "own.safetensors"
    for out, why in ((tmp_path / "own.pth", "must end in"), (absent, "existing folder"), (folder, "must be a file")):
        assert main(["fit", "niqe", "--images", str(tmp_path / "absent"), "-o", str(out)]) == 2
        told = capsys.readouterr().err
        assert why in told
        assert str(out) in told


def test_scores_of_published_files(tmp_path, capsys):
    (tmp_path / "allmodel").write_text(
        "svm_type epsilon_svr\nkernel_type rbf\ngamma 0.05\nnr_class 2\ntotal_sv 1\nrho -3\nSV\n0 1:0.5\n"
    )
    (tmp_path / "allrange").write_text("x\n-1 1\n1 0 1\n")
    Image.new("L", (40, 50), 77).save(tmp_path / "gray.png")
    words = ["--image", str(tmp_path / "gray.png"), "--format", "json"]
    assert main(["score", f"brisque={tmp_path / 'allmodel'}", *words]) == 0
    assert json.loads(capsys.readouterr().out)[0]["brisque"] == 3
    assert main(["score", "brisque", *words]) == 1
    assert "allmodel" in capsys.readouterr().err
