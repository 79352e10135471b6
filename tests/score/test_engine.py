import math
import threading

import pytest
import torch
from PIL import Image

from iqazoo import Metric, MetricSpec, create
from iqazoo.images import decode
from iqazoo.pairing import Pair, pair
from iqazoo.score import engine
from iqazoo.score.engine import score_pairs


def save(path, size, mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(path)


@pytest.fixture
def folders(tmp_path):
    """Nine pairs: three sizes in turn, so that neighbours differ."""
    for i in range(9):
        size = [(20, 16), (16, 20), (20, 16)][i % 3]
        save(tmp_path / "image" / f"{i}.png", size, seed=i)
        save(tmp_path / "reference" / f"{i}.png", size, seed=100 + i)
    return tmp_path


def pairs_of(folder):
    return pair(folder / "image", folder / "reference").pairs


@pytest.mark.parametrize("batch_size", [1, 2, 16])
@pytest.mark.parametrize("workers", [1, 3])
def test_rows_come_in_order_and_equal_single_calls(folders, batch_size, workers):
    metrics = {"psnr": create("psnr"), "ssim": create("ssim")}
    rows = list(score_pairs(pairs_of(folders), metrics, batch_size=batch_size, workers=workers))
    assert [row.id for row in rows] == [str(i) for i in range(9)]
    for row in rows:
        image, reference = decode(row.image)[None], decode(row.reference)[None]
        for name, metric in metrics.items():
            assert row.scores[name] == pytest.approx(metric(image, reference).item(), rel=1e-5)
        assert row.error == ""


def test_a_bad_file_is_one_row_with_an_error(folders):
    (folders / "image" / "3.png").write_bytes(b"not an image")
    (folders / "reference" / "4.png").write_bytes(b"")
    rows = list(score_pairs(pairs_of(folders), {"psnr": create("psnr")}))
    assert [bool(row.error) for row in rows] == [i in (3, 4) for i in range(9)]
    assert "3.png" in rows[3].error
    assert rows[3].scores == {}


def test_a_pairing_error_is_a_row(folders):
    bad = Pair("x", None, None, error="two files share the stem")
    rows = list(score_pairs([bad, *pairs_of(folders)], {"psnr": create("psnr")}))
    assert rows[0].error == "two files share the stem"
    assert len(rows) == 10


def test_a_metric_that_fails_leaves_the_others(folders):
    save(folders / "image" / "0.png", (8, 8))
    save(folders / "reference" / "0.png", (8, 8))
    rows = list(score_pairs(pairs_of(folders), {"ssim": create("ssim"), "psnr": create("psnr")}))
    assert rows[0].error.startswith("ssim: ")
    assert set(rows[0].scores) == {"psnr"}
    assert set(rows[1].scores) == {"psnr", "ssim"}


def test_a_score_that_is_nan_is_an_error_of_its_row(folders):
    class Nothing(torch.nn.Module):
        def forward(self, image):
            return torch.where(torch.arange(len(image)) == 1, math.nan, 0.5) * image.new_ones(len(image))

    spec = MetricSpec(name="nothing", network=Nothing, kind="NR", lower_is_better=True)
    for i in range(3):
        save(folders / "image" / f"{i}.png", (20, 16))
        save(folders / "reference" / f"{i}.png", (20, 16))
    metrics = {"nothing": Metric(spec, Nothing()), "psnr": create("psnr")}
    first, second, third = score_pairs(pairs_of(folders)[:3], metrics)
    assert (first.error, third.error) == ("", "")
    assert second.error == "nothing: its score of this image is NaN, not a number"
    assert set(second.scores) == {"nothing", "psnr"}
    assert first.scores["psnr"] == math.inf  # of identical images, which is no error


def test_sizes_that_differ_are_an_error_of_the_row(folders):
    save(folders / "image" / "0.png", (21, 16))
    first, second, *_ = score_pairs(pairs_of(folders), {"psnr": create("psnr")})
    assert "one shape" in first.error
    assert second.error == ""


def test_gray_meets_rgb_and_metrics_that_take_rgb_only(folders):
    class Red(torch.nn.Module):
        def forward(self, image):
            return image[:, 0].mean((1, 2))

    spec = MetricSpec(name="red", network=Red, kind="NR", lower_is_better=True)
    save(folders / "image" / "0.png", (20, 16), mode="L")
    metrics = {"psnr": create("psnr"), "red": Metric(spec, Red()), "tv": create("tv")}
    row = next(score_pairs(pairs_of(folders), metrics))
    assert row.error == ""
    gray, rgb = decode(row.image)[None], decode(row.reference)[None]
    assert row.scores["psnr"] == pytest.approx(metrics["psnr"](gray.expand_as(rgb), rgb).item())
    assert row.scores["red"] == pytest.approx(gray.mean().item())
    assert row.scores["tv"] == pytest.approx(metrics["tv"](gray).item())  # whatever lies beside it


def test_transparent_images_need_a_background(folders):
    Image.new("RGBA", (20, 16), (255, 0, 0, 128)).save(folders / "image" / "0.png")
    refused = next(score_pairs(pairs_of(folders), {"psnr": create("psnr")}))
    assert "background" in refused.error
    scored = next(score_pairs(pairs_of(folders), {"psnr": create("psnr")}, background="white"))
    assert scored.error == ""


def test_large_images_are_scored_one_by_one(folders, monkeypatch):
    monkeypatch.setitem(engine.BATCH_PIXELS, "cpu", 20 * 16)
    sizes = []
    metric = create("psnr")
    metric.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    assert len(list(score_pairs(pairs_of(folders), {"psnr": metric}))) == 9
    assert sizes == [1] * 9


@pytest.mark.parametrize(
    ("size", "batch_size", "rows", "most"),
    [
        (4, 2, 1, 20),
        (600, 64, 20, 20 + 2 + 1),  # large: the rows, one for each worker, and one in hand
    ],
)
def test_decoding_runs_ahead_by_a_bounded_number(folders, monkeypatch, size, batch_size, rows, most):
    many = list(pairs_of(folders)) * 20
    decoded = []
    lock = threading.Lock()

    def counting(path, background=None):
        with lock:
            decoded.append(path)
        return torch.rand(3, size, size)

    monkeypatch.setattr(engine, "decode", counting)
    scored = score_pairs(many, {"psnr": create("psnr")}, batch_size=batch_size, workers=2)
    for _ in range(rows):
        next(scored)
    scored.close()
    assert len(decoded) <= 2 * most  # of 360


def test_no_reference_metrics_need_no_reference(folders):
    class Mean(torch.nn.Module):
        def forward(self, image):
            return image.mean((1, 2, 3))

    metric = Metric(MetricSpec(name="mean", network=Mean, kind="NR", lower_is_better=True), Mean())
    rows = list(score_pairs(pair(folders / "image", None).pairs, {"mean": metric}))
    assert len(rows) == 9
    assert all(row.scores and row.reference is None for row in rows)
