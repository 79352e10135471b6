"""The chart: what is drawn, where it goes, and what is said where matplotlib is not installed."""

import subprocess
import sys

import pytest
from failing_disk import full_disk
from PIL import Image

from iqazoo.errors import InputError
from iqazoo.evaluate.bapps import BEST, HUMAN, Figure
from iqazoo.evaluate.chart import check_chart, draw

FIGURES = [
    Figure(measure, metric, subset, value, value - 0.05, value + 0.04, 100)
    for measure, metrics in (("2afc", ("psnr", "lpips=x.pt", HUMAN, BEST)), ("jnd", ("psnr", "lpips=x.pt")))
    for subset in ("traditional", "cnn", "average distortions", "overall")
    for metric, value in zip(metrics, (0.6, 0.7, 0.8, 0.9), strict=False)
]


@pytest.fixture
def drawn(monkeypatch):
    """The panels that were drawn."""
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure as Drawing

    seen, save = [], Drawing.savefig

    def savefig(self, *args, **kwargs):
        seen.extend(self.axes)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(Drawing, "savefig", savefig)
    return seen


def test_bars_intervals_and_limits(drawn, tmp_path):
    draw(FIGURES, tmp_path / "c.png")
    first, second = drawn
    assert [label.get_text() for label in first.get_xticklabels()] == [
        "traditional",
        "cnn",
        "average\ndistortions",
        "overall",
    ]
    assert [bar.get_height() for bar in first.containers[1]] == pytest.approx([60] * 4)
    legends = {text.get_text() for text in first.get_legend().get_texts()}
    assert legends == {"psnr", "lpips=x.pt", HUMAN, BEST}
    assert {text.get_text() for text in second.get_legend().get_texts()} == {"psnr", "lpips=x.pt"}
    assert first.get_ylim() == (50, 101)
    assert second.get_ylim()[0] == 0


@pytest.mark.parametrize("suffix", ["png", "PNG"])
def test_png(drawn, tmp_path, suffix):
    draw(FIGURES, tmp_path / f"c.{suffix}")
    with Image.open(tmp_path / f"c.{suffix}") as picture:
        assert picture.format == "PNG"
        assert picture.width > 600
    assert [path.name for path in tmp_path.iterdir()] == [f"c.{suffix}"]


def test_svg(drawn, tmp_path):
    draw(FIGURES, tmp_path / "c.svg")
    assert "<svg" in (tmp_path / "c.svg").read_text()


def test_an_interval_beside_its_figure_is_drawn(drawn, tmp_path):
    draw([Figure("2afc", "m", "s", 0.6, 0.61, 0.7, 3)], tmp_path / "c.png")
    assert len(drawn) == 1


def test_a_failed_write_keeps_the_old_chart(drawn, tmp_path, monkeypatch):
    (tmp_path / "c.png").write_bytes(b"old")
    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        draw(FIGURES, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["c.pdf", "c", "none/c.png"])
def test_where_no_chart_can_go(tmp_path, name):
    with pytest.raises(InputError, match="the chart must"):
        check_chart(tmp_path / name)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"pip install 'iqazoo\[plot\]'"):
        check_chart(tmp_path / "c.png")


def test_matplotlib_is_imported_only_for_a_chart():
    check = "import iqazoo.cli.eval, iqazoo.evaluate.chart, sys; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
