"""Distances of judged images: the right pair, the right direction, whatever the metric."""

import pytest
import torch
from judged_images import make_jnd, make_table, make_two_afc, save_image

from iqazoo import Metric, MetricSpec, create
from iqazoo.data import JND, TripletTable, TwoAFC
from iqazoo.evaluate import distances
from iqazoo.evaluate.distances import pair_distances, triplet_distances


class Mae(torch.nn.Module):
    """Mean absolute error, or its negative."""

    def __init__(self, sign=1):
        super().__init__()
        self.sign = sign

    def forward(self, image, reference):
        return self.sign * (image - reference).abs().mean((1, 2, 3))


class Brightness(torch.nn.Module):
    def forward(self, image):
        return image.mean((1, 2, 3))


def metric(network, kind="FR", lower_is_better=True, **fields):
    return Metric(MetricSpec(name="m", network=Mae, kind=kind, lower_is_better=lower_is_better, **fields), network)


@pytest.fixture
def root(tmp_path):
    return make_jnd(make_two_afc(tmp_path, "val"))


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_distances_of_a_and_b_from_the_reference(root, batch_size):
    data = TwoAFC(root, "val")
    found = triplet_distances(data, {"mae": metric(Mae())}, batch_size=batch_size)
    for i in range(5):
        row = data[i]
        expected = [(row[name] - row["ref_img"]).abs().mean().item() for name in ("distA_img", "distB_img")]
        assert found.by_metric["mae"][:, i].tolist() == pytest.approx(expected, rel=1e-6)
    assert found.judgment.tolist() == pytest.approx([0, 0.1, 0.2, 0, 0.1])
    assert found.subsets == ("traditional",) * 3 + ("cnn",) * 2
    assert found.by_metric["mae"].dtype == torch.float64


def test_a_similarity_becomes_a_distance(root):
    metrics = {"d": metric(Mae()), "s": metric(Mae(-1), lower_is_better=False)}
    for found in (triplet_distances(TwoAFC(root, "val"), metrics), pair_distances(JND(root), metrics)):
        assert torch.equal(found.by_metric["d"], found.by_metric["s"])
        assert (found.by_metric["d"] > 0).all()


def test_a_metric_without_reference_judges_a_and_b_alone(root):
    data = TwoAFC(root, "val")
    found = triplet_distances(data, {"nr": metric(Brightness(), kind="NR")}).by_metric["nr"]
    expected = [[data[i][name].mean().item() for i in range(5)] for name in ("distA_img", "distB_img")]
    torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=1e-5, atol=0)


def test_the_zoos_own_metrics_as_called_by_hand(root):
    data = TwoAFC(root, "val")
    metrics = {"psnr": create("psnr"), "ssim": create("ssim"), "lpips": create("lpips", weights=None)}
    found = triplet_distances(data, metrics)
    rows = [data[i] for i in range(5)]
    reference, a, b = (torch.stack([row[name] for row in rows]) for name in ("ref_img", "distA_img", "distB_img"))
    for name, one in metrics.items():
        sign = 1 if one.spec.lower_is_better else -1
        with torch.no_grad():
            expected = sign * torch.stack([one(a, reference), one(b, reference)]).double()
        torch.testing.assert_close(found.by_metric[name], expected, rtol=1e-4, atol=1e-6)


def test_pairs(root):
    data = JND(root)
    found = pair_distances(data, {"mae": metric(Mae())})
    expected = [[(data[i]["dist_img"] - data[i]["ref_img"]).abs().mean().item() for i in range(5)]]
    torch.testing.assert_close(found.by_metric["mae"], torch.tensor(expected).double(), rtol=1e-5, atol=0)
    assert found.judgment.tolist() == [0, 1, 0, 0, 1]


def test_a_metric_that_fails_leaves_the_others(root):
    metrics = {"big": metric(Mae(), min_size=65), "mae": metric(Mae())}
    found = triplet_distances(TwoAFC(root, "val"), metrics, batch_size=2)
    assert list(found.by_metric) == ["mae"]
    assert "65 x 65" in found.errors["big"]
    assert found.by_metric["mae"].shape == (2, 5)


def test_images_of_many_sizes_are_scored_by_size(tmp_path, monkeypatch):
    sizes = [(20, 30), (20, 30), (40, 16), (20, 30)]
    for i, size in enumerate(sizes):
        for part in "rab":
            save_image(tmp_path / f"{part}{i}.png", (i, ord(part)), size)
    rows = [(f"r{i}.png", f"a{i}.png", f"b{i}.png", 0.5) for i in range(4)]
    data = TripletTable(make_table(tmp_path, rows), size=None)
    told = []
    found = triplet_distances(data, {"mae": metric(Mae())}, progress=told.append)
    assert told == [2, 1, 1]
    expected = [(data[i]["distB_img"] - data[i]["ref_img"]).abs().mean().item() for i in range(4)]
    assert found.by_metric["mae"][1].tolist() == pytest.approx(expected, rel=1e-6)
    monkeypatch.setattr(distances, "BATCH_PIXELS", 600)
    told.clear()
    triplet_distances(data, {"mae": metric(Mae())}, progress=told.append)
    assert told == [1, 1, 1, 1]
