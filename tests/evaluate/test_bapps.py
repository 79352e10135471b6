"""The table of BAPPS: groups, averages, limits, intervals, comparisons."""

import math
from statistics import fmean

import pytest
import torch
from judged_images import make_jnd, make_two_afc

from iqazoo import create
from iqazoo.data import JND, TwoAFC
from iqazoo.evaluate import agreement, average_precision
from iqazoo.evaluate.bapps import BEST, HUMAN, compare, evaluate_bapps, jnd_figures, two_afc_figures
from iqazoo.evaluate.distances import Distances

SIX = ("traditional", "cnn", "superres", "deblur", "color", "frameinterp")


def made_up(subsets=SIX, sizes=(40, 30, 60, 50, 20, 10), metrics=("good", "poor", "coin"), k=2, seed=0):
    """Metrics that see the truth through noise of three strengths."""
    generator = torch.Generator().manual_seed(seed)
    names = tuple(name for name, size in zip(subsets, sizes, strict=True) for _ in range(size))
    truth = torch.randn(k, len(names), generator=generator).double()
    noise = {"good": 0.3, "poor": 1.5, "coin": 1000.0}
    by_metric = {m: truth + noise[m] * torch.randn(truth.shape, generator=generator) for m in metrics}
    wish = truth[0] - truth[-1] if k == 2 else -truth[0]
    judgment = (torch.sigmoid(2 * wish) * 5).round() / 5
    return Distances(judgment, names, by_metric)


def table(figures):
    return {(figure.metric, figure.subset): figure for figure in figures}


def test_each_cell_is_the_mean_of_its_subset():
    found = made_up()
    cells = table(two_afc_figures(found, resamples=10))
    for metric, (a, b) in found.by_metric.items():
        agreed = agreement(a, b, found.judgment).tolist()
        for subset, size in zip(SIX, (40, 30, 60, 50, 20, 10), strict=True):
            figure = cells[metric, subset]
            mine = [value for value, name in zip(agreed, found.subsets, strict=True) if name == subset]
            assert figure.value == pytest.approx(fmean(mine))
            assert figure.count == size
    p = found.judgment[:40].tolist()
    assert cells[HUMAN, "traditional"].value == pytest.approx(fmean(x * x + (1 - x) * (1 - x) for x in p))
    assert cells[BEST, "traditional"].value == pytest.approx(fmean(max(x, 1 - x) for x in p))


def test_averages_count_each_subset_once():
    cells = table(two_afc_figures(made_up(), resamples=10))
    for metric in ("good", HUMAN):
        for average, members in (
            ("average distortions", SIX[:2]),
            ("average algorithms", SIX[2:]),
            ("overall", SIX),
        ):
            expected = fmean(cells[metric, subset].value for subset in members)
            assert cells[metric, average].value == pytest.approx(expected)
    assert cells["good", "average distortions"].count == 70


def test_an_average_needs_all_its_subsets():
    figures = two_afc_figures(made_up(("traditional", "color", "mine"), (9, 9, 9)), resamples=10)
    assert list(dict.fromkeys(figure.subset for figure in figures)) == ["traditional", "color", "mine", "overall"]


def test_intervals_hold_the_figure_and_narrow_with_more_rows():
    cells = table(two_afc_figures(made_up()))
    for figure in cells.values():
        assert figure.low <= figure.value <= figure.high
    widths = {subset: cells["poor", subset].high - cells["poor", subset].low for subset in (*SIX, "overall")}
    assert widths["overall"] < widths["superres"] < widths["frameinterp"]
    expected = 1.96 * 2 * made_up_error("superres")
    assert widths["superres"] == pytest.approx(expected, rel=0.15)


def made_up_error(subset):
    """The standard error of the mean, by its formula."""
    found = made_up()
    mine = torch.tensor([name == subset for name in found.subsets])
    agreed = agreement(*found.by_metric["poor"], found.judgment)[mine]
    return agreed.std(correction=0).item() / math.sqrt(int(mine.sum()))


def test_subsets_of_one_size_are_drawn_from_independently():
    """The same draws in both would make the average as uncertain as either; independent ones make it narrower."""
    one = made_up(("traditional",), (50,))
    twice = Distances(
        one.judgment.repeat(2),
        one.subsets + ("cnn",) * 50,
        {name: values.repeat(1, 2) for name, values in one.by_metric.items()},
    )
    cells = table(two_afc_figures(twice))
    widths = {key: cells["poor", key].high - cells["poor", key].low for key in ("traditional", "overall")}
    assert widths["overall"] == pytest.approx(widths["traditional"] / math.sqrt(2), rel=0.12)


def test_the_seed_decides():
    assert two_afc_figures(made_up(), 50, seed=1) == two_afc_figures(made_up(), 50, seed=1)
    assert two_afc_figures(made_up(), 50, seed=1) != two_afc_figures(made_up(), 50, seed=2)


def test_metrics_are_compared_in_pairs():
    found = made_up()
    cells = table(two_afc_figures(found, resamples=10))
    compared = {(one.metric, one.other): one for one in compare(found)}
    assert list(compared) == [("good", "poor"), ("good", "coin"), ("poor", "coin")]
    for (metric, other), one in compared.items():
        assert one.difference == pytest.approx(cells[metric, "overall"].value - cells[other, "overall"].value)
        assert one.low < one.difference < one.high
        assert one.p <= one.p_holm <= 3 * one.p + 1e-12
        assert one.count == 210
    assert compared["good", "coin"].p < 0.001


def test_a_metric_is_not_better_than_itself():
    found = made_up(metrics=("good",))
    twin = Distances(found.judgment, found.subsets, {"a": found.by_metric["good"], "b": found.by_metric["good"] * 7})
    (one,) = compare(twin)
    assert (one.difference, one.low, one.high, one.p, one.p_holm) == (0, 0, 0, 1, 1)


def test_pairing_finds_what_two_intervals_hide():
    """Two metrics that err on the same triplets: their intervals overlap, their difference is beyond doubt."""
    generator = torch.Generator().manual_seed(0)
    judgment = (torch.rand(400, generator=generator) < 0.5).double()
    right = torch.rand(400, generator=generator) < 0.7
    slightly_worse = right & ~(torch.arange(400) % 20 == 0)
    flips = {name: torch.where(good, 1, -1) for name, good in (("a", right), ("b", slightly_worse))}
    by_metric = {name: torch.stack([flip * (judgment - 0.5), -flip * (judgment - 0.5)]) for name, flip in flips.items()}
    found = Distances(judgment, ("s",) * 400, by_metric)
    cells = table(two_afc_figures(found))
    assert cells["b", "overall"].high > cells["a", "overall"].low
    (one,) = compare(found)
    assert one.low > 0
    assert one.p < 0.001


def test_the_test_counts_each_subset_once_too():
    """One metric is right in a small subset, the other in a large one: by subsets they are equally good."""
    generator = torch.Generator().manual_seed(0)
    small, large = torch.rand(30, generator=generator) < 0.8, torch.rand(300, generator=generator) < 0.8
    judgment = torch.ones(330, dtype=torch.float64)
    right = {"a": torch.cat([small, ~large]), "b": torch.cat([~small, large])}
    by_metric = {name: torch.stack([good.double(), 1 - good.double()]) for name, good in right.items()}
    (one,) = compare(Distances(judgment, ("s",) * 30 + ("l",) * 300, by_metric))
    assert abs(one.difference) < 0.15
    assert one.p > 0.05


def test_jnd_is_average_precision_by_subset_and_their_mean():
    found = made_up(("traditional", "cnn"), (60, 40), k=1)
    figures = jnd_figures(found)
    cells = table(figures)
    for metric in found.by_metric:
        expected = [
            average_precision(found.by_metric[metric][0, part], found.judgment[part]).item()
            for part in (slice(60), slice(60, 100))
        ]
        assert [cells[metric, s].value for s in ("traditional", "cnn")] == pytest.approx(expected)
        assert cells[metric, "overall"].value == pytest.approx(fmean(expected))
        assert cells[metric, "cnn"].low < cells[metric, "cnn"].value < cells[metric, "cnn"].high
    assert HUMAN not in {figure.metric for figure in figures}


def test_draws_without_an_answer_the_same_cost_no_interval():
    """One pair of five in a subset was called the same: a third of the draws miss it, and have no precision."""
    judgment = torch.tensor([1.0, 0, 0, 0, 0, 1, 1, 0, 1, 1])
    distances = {"good": torch.arange(10.0)[None], "broken": torch.full((1, 10), math.nan)}
    cells = table(jnd_figures(Distances(judgment, ("traditional",) * 5 + ("cnn",) * 5, distances)))
    for subset in ("traditional", "cnn", "overall"):
        figure, broken = cells["good", subset], cells["broken", subset]
        assert 0 <= figure.low <= figure.value <= figure.high <= 1
        assert all(map(math.isnan, (broken.value, broken.low, broken.high)))


def test_a_figure_that_is_undefined_has_no_interval():
    """One NaN in a subset: most draws would do without it."""
    found = made_up()
    found.by_metric["poor"][0, 3] = math.nan
    cells = table(two_afc_figures(found, resamples=50))
    for subset in ("traditional", "overall"):
        figure = cells["poor", subset]
        assert all(map(math.isnan, (figure.value, figure.low, figure.high)))
    assert not math.isnan(cells["poor", "cnn"].low)


def test_all_together_and_a_metric_that_fails(tmp_path):
    make_jnd(make_two_afc(tmp_path, "val"))
    told = []
    metrics = {"psnr": create("psnr"), "ssim": create("ssim", padding="reflect")}
    metrics["ssim"].network.min_size = 100
    report = evaluate_bapps(
        TwoAFC(tmp_path, "val"), JND(tmp_path), metrics, batch_size=2, resamples=20, progress=told.append
    )
    assert sum(told) == 10
    assert {figure.measure for figure in report.figures} == {"2afc", "jnd"}
    assert {figure.metric for figure in report.figures} == {"psnr", HUMAN, BEST}
    assert list(report.errors) == ["ssim, 2afc", "ssim, jnd"]
    assert report.comparisons == ()
    without = evaluate_bapps(TwoAFC(tmp_path, "val"), None, metrics, resamples=20)
    assert {figure.measure for figure in without.figures} == {"2afc"}
