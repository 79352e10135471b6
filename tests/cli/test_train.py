"""`iqazoo train bapps NAME` for a metric that a one-file plugin brings."""

import re
from pathlib import Path

import judging
import plugin_maker
import pytest
import torch

import iqazoo
from iqazoo import registry
from iqazoo.cli import main
from iqazoo.cli.train import parse
from iqazoo.factory import network_class
from iqazoo.train import checkpoint

PLUGIN = Path(__file__).parents[2] / "demo" / "tiny_metric" / "tiny_metric.py"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    return plugin_maker.install(tmp_path_factory.mktemp("plugin"), "iqazoo-tiny", PLUGIN.read_text(), "tiny")


@pytest.fixture
def train(plugin, tmp_path, monkeypatch, capsys):
    """Call the command in a folder with judgments; gives exit code, stdout and stderr."""
    monkeypatch.syspath_prepend(str(plugin))
    registry.refresh()
    monkeypatch.chdir(tmp_path)
    judging.write_bapps(tmp_path / "data", {"train/cnn": 8, "train/mix": 6, "val/cnn": 3, "val/color": 2})
    torch.set_num_threads(1)

    def call(*words):
        try:
            code = main(["train", *map(str, words)])
        except SystemExit as stop:
            code = stop.code
        return code, *capsys.readouterr()

    yield call
    monkeypatch.undo()
    registry.refresh()


SMALL = ("tiny", "--data", "data", "--size", "16", "--batch-size", "4", "--epochs", "1", "--decay-epochs", "1")


def test_a_plugin_without_code_for_it_is_trained_and_used_as_told(train, tmp_path):
    code, out, err = train("bapps", *SMALL, "--net.width", "3")
    assert code == 0, err
    assert out == 'iqazoo.create("tiny", weights="runs/tiny/best.safetensors")\n'
    assert "epoch 2: 2afc" in err
    metric = eval(out, {"iqazoo": iqazoo})
    assert metric.network.layers[0].out_channels == 3
    images = torch.rand(2, 2, 3, 16, 16)
    assert metric(*images).shape == (2,)
    assert (tmp_path / "runs" / "tiny" / "log.jsonl").is_file()
    assert list((tmp_path / "runs" / "tiny" / "images").iterdir())


def test_what_a_network_prints_is_no_data(train, monkeypatch):
    network = network_class(registry.spec("tiny"))
    monkeypatch.setattr(
        network, "features", lambda *given, before=network.features: (print("hello"), before(*given))[1]
    )
    code, out, err = train("bapps", *SMALL)
    assert (code, out) == (0, 'iqazoo.create("tiny", weights="runs/tiny/best.safetensors")\n')
    assert "hello" in err


def test_options_of_a_network_whose_hints_are_for_type_checkers():
    class Hinted(judging.Tiny):
        def __init__(
            self,
            width: "int" = 4,
            scale: "float | None" = None,
            sizes: "tuple[int, ...]" = (),
            shape: "Missing | None" = None,  # noqa: F821
            count: "Missing" = 2,  # noqa: F821
        ) -> None:
            super().__init__(width)

    words = ["--net.width", "5", "--net.scale", "0.5", "--net.sizes", "3", "4", "--net.count", "7"]
    options = parse(judging.spec(Hinted), ["tiny", "--data", "x", *words])[1]
    assert options == {"width": 5, "scale": 0.5, "sizes": (3, 4), "count": 7}


def test_a_run_is_never_begun_over_another(train, tmp_path):
    assert train("bapps", *SMALL)[0] == 0
    code, _, err = train("bapps", *SMALL)
    assert code == 2
    assert "runs/tiny holds a run; go on with --resume, or choose another --out" in err
    code, out, err = train("bapps", *SMALL, "--resume")
    assert (code, out.startswith("iqazoo.create")) == (0, True), err
    code, _, err = train("bapps", *SMALL, "--resume", "--lr", "0.5")
    assert code == 1
    assert "lr: was 0.0001, is 0.5" in err
    code, _, err = train("bapps", *SMALL, "--resume", "--net.width", "5")
    assert code == 1
    assert "options: was {}, is {'width': 5}" in err


def test_resume_begins_where_there_is_nothing(train):
    assert train("bapps", *SMALL, "--resume")[0] == 0


def test_sigterm_ends_well(train, tmp_path, monkeypatch):
    from iqazoo.train.stop import StopSignal

    monkeypatch.setattr(StopSignal, "__enter__", lambda self: setattr(self, "received", True))
    code, out, err = train("bapps", *SMALL)
    assert (code, out) == (0, "")
    assert "stopped; go on with --resume --out runs/tiny" in err
    assert list(checkpoint.steps(tmp_path / "runs" / "tiny" / "checkpoints")) == [1]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("bapps", "psnr", "--data", "data"), 2, "psnr has nothing to train"),
        (("bapps", "nothing", "--data", "data"), 2, "no metric named 'nothing'"),
        (("bapps", *SMALL, "--batch-size", "50"), 2, "14 samples, fewer than one batch of 50"),
        (("bapps", *SMALL, "--train-subsets", "none"), 2, "expected none in"),
        (("bapps", *SMALL, "--cache-features"), 2, "no weighted sum over channels"),
        (("bapps", *SMALL, "--net.depth", "3"), 2, "net.depth"),
        (("bapps", *SMALL, "--lr", "-1"), 2, "lr must be above 0"),
        (("jnd", "tiny"), 2, "expected iqazoo train bapps NAME"),
        ((), 2, "expected iqazoo train bapps NAME"),
        (("bapps", "--data", "x", "tiny"), 2, "expected the metric's name before its options"),
    ],
)
def test_mistakes_are_told_with_exit_code(train, words, code, message):
    found, out, err = train(*words)
    assert found == code
    assert re.sub(r"\s+", " ", message) in re.sub(r"[\s│]+", " ", out + err)


@pytest.mark.parametrize("words", [("--help",), ("bapps", "--help"), ("bapps", "tiny", "--help")])
def test_help(train, words):
    code, out, _ = train(*words)
    assert code == 0
    assert "--cache-features" in out
    assert ("--net.width" in out) == ("tiny" in words)
