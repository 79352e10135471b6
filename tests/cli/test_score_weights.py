"""`iqazoo score NAME=FILE`: metrics of one's own training are scored as published ones are."""

import json

import pytest
from judged_images import save_image
from plugin_maker import declare

import iqazoo
from iqazoo import registry, state_dict
from iqazoo.cli import main

CODE = """
from iqazoo import MetricSpec
import torch

class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.ones(()))

    def forward(self, image, reference):
        return self.factor * (image - reference).abs().mean((1, 2, 3))

SPEC = MetricSpec(name="scaled", network=Network, kind="FR", lower_is_better=True)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The metric `scaled`, files of its weights, and a pair of images."""
    declare(tmp_path / "installed", "iqazoo-scaled", {"scaled": "scaled_metric:SPEC"})
    (tmp_path / "installed" / "scaled_metric.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path / "installed"))
    monkeypatch.chdir(tmp_path)
    registry.refresh()
    for factor in (2, 3):
        network = iqazoo.create("scaled", weights=None).network
        network.factor.fill_(factor)
        state_dict.save(tmp_path / f"{factor}.safetensors", network, metric="scaled", options={})
    save_image(tmp_path / "image.png", 100)
    save_image(tmp_path / "reference.png", 151)
    yield tmp_path
    monkeypatch.undo()
    registry.refresh()


def score(capsys, *names):
    code = main(["score", *names, "--image", "image.png", "--reference", "reference.png", "--format", "json"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out)[0], captured.err


@pytest.mark.parametrize(("weights", "factor"), [("none", 1), ("2.safetensors", 2)])
def test_the_column_bears_the_name(folder, capsys, weights, factor):
    code, row, _ = score(capsys, f"scaled={weights}", "psnr")
    assert code == 0
    assert list(row) == ["id", "image", "reference", "scaled", "psnr", "error"]
    assert row["scaled"] == pytest.approx(factor / 3, rel=0.05)  # of two images of noise


def test_two_files_of_one_metric_are_told_apart(folder, capsys):
    code, row, _ = score(capsys, "scaled=2.safetensors", "scaled=3.safetensors")
    assert code == 0
    assert row["scaled=3.safetensors"] == pytest.approx(1.5 * row["scaled=2.safetensors"])


def test_without_a_file_what_is_missing_is_said(folder, capsys):
    code, row, err = score(capsys, "scaled", "psnr")
    assert code == 1
    assert row["scaled"] is None
    assert "no published weights" in err
    assert score(capsys, "scaled=absent.safetensors", "psnr")[0] == 1
