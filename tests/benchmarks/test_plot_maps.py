"""The page of maps shows the metrics that there are."""

import plot_maps


def test_the_page_lists_every_metric_with_a_map():
    text = (plot_maps.DOCS / "maps.md").read_text(encoding="utf-8")
    assert plot_maps.with_table(text) == text, "run `python benchmarks/plot_maps.py`"
    assert "`gmsd` ↓" in text


def test_each_third_is_distorted_and_no_more():
    image, reference = plot_maps.pair()
    assert image.shape == reference.shape
    width = image.shape[3]
    for i in range(3):
        third = (image - reference)[..., i * width // 3 : (i + 1) * width // 3]
        assert third.abs().max() > 0.02
