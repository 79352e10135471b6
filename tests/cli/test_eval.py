"""`iqazoo eval bapps`."""

import csv
import io
import json

import pytest
import torch
from judged_images import make_jnd, make_table, make_two_afc, save_image

from iqazoo import create, state_dict
from iqazoo.cli import main
from iqazoo.data import TwoAFC
from iqazoo.evaluate import agreement


@pytest.fixture
def root(tmp_path):
    return make_jnd(make_two_afc(tmp_path / "set", "val", {"traditional": 4, "cnn": 3, "mix": 1}))


@pytest.fixture
def run(root, capsys):
    """Call `iqazoo eval bapps`; gives exit code, stdout and stderr."""

    def call(*arguments, data=root):
        try:
            code = main(["eval", "bapps", *map(str, arguments), "--data", str(data), "--resamples", "20"])
        except SystemExit as stop:  # how tyro ends on usage errors
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def cells(out):
    return {(r["measure"], r["metric"], r["subset"]): r for r in json.loads(out) if r["other"] is None}


def test_json_holds_what_the_functions_give(run, root):
    code, out, err = run("psnr", "ssim", "--format", "json")
    assert code == 0
    assert "scoring" in err
    found = cells(out)
    data, metric = TwoAFC(root, "val"), create("psnr")
    rows = [data[i] for i in range(4)]
    reference, a, b, p = (
        torch.stack([row[k] for row in rows]) for k in ("ref_img", "distA_img", "distB_img", "mos_label")
    )
    expected = 100 * agreement(-metric(a, reference), -metric(b, reference), p.flatten()).mean().item()
    assert found["2afc", "psnr", "traditional"]["percent"] == pytest.approx(expected)
    assert found["2afc", "psnr", "traditional"]["rows"] == 4
    assert found["jnd", "ssim", "overall"]["rows"] == 5
    assert found["2afc", "(best reachable)", "overall"]["percent"] > 80
    assert ("2afc", "psnr", "average distortions") in found
    (compared,) = [r for r in json.loads(out) if r["other"]]
    assert (compared["metric"], compared["other"]) == ("psnr", "ssim")
    assert 0 < compared["p"] <= compared["p_holm"] <= 1


def test_csv_and_the_output_file_hold_the_same(run, tmp_path):
    code, out, _ = run("psnr", "ssim", "--format", "csv", "-o", tmp_path / "f.csv")
    assert code == 0
    assert out == (tmp_path / "f.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(out)))
    columns = ["measure", "metric", "other", "subset", "percent", "low", "high", "p", "p_holm", "rows"]
    assert list(rows[0]) == columns
    assert rows[-1]["measure"] == "2afc difference"


def test_the_table_for_people(run):
    code, out, _ = run("psnr", "ssim")
    assert code == 0
    for phrase in ("2AFC", "JND", "traditional", "overall", "(human)", "(best reachable)", "minus", "["):
        assert phrase in out


def test_one_metric_has_nothing_to_be_compared_with(run):
    _, out, _ = run("psnr", "--no-jnd")
    assert "minus" not in out
    assert "JND" not in out


def test_subsets_split_and_size(run, root):
    found = cells(run("psnr", "--subsets", "cnn", "mix", "--format", "json")[1])
    assert {subset for measure, _, subset in found if measure == "2afc"} == {"cnn", "mix", "overall"}
    assert {subset for measure, _, subset in found if measure == "jnd"} == {"cnn", "overall"}
    assert not any(m == "jnd" for m, _, _ in cells(run("psnr", "--subsets", "mix", "--format", "json")[1]))
    make_two_afc(root, "train", {"traditional": 2}, size=(40, 40))
    assert len(cells(run("psnr", "--split", "train", "--size", "0", "--format", "json")[1])) == 6
    assert run("ssim", "--size", "8")[0] == 1  # windows of 11 pixels do not fit
    code, _, err = run("psnr", "--subsets", "none")
    assert code == 2
    assert "traditional, cnn, mix" in err


def test_a_table_of_judgments(run, tmp_path):
    for i, name in enumerate("rab"):
        save_image(tmp_path / f"{name}.png", i)
    table = make_table(tmp_path, [("r.png", "a.png", "b.png", 1), ("r.png", "b.png", "a.png", 1)])
    code, out, _ = run("psnr", "--format", "json", data=table)
    assert code == 0
    assert cells(out)["2afc", "psnr", "all"]["percent"] == 50


def test_subsets_of_a_table(run, tmp_path):
    for i, name in enumerate("rab"):
        save_image(tmp_path / f"{name}.png", i)
    rows = [("r.png", "a.png", "b.png", i % 2, subset) for i, subset in enumerate(("blur", "noise", "blur"))]
    table = make_table(tmp_path, rows, ("reference", "a", "b", "preference", "subset"))
    found = cells(run("psnr", "--subsets", "blur", "--format", "json", data=table)[1])
    assert {subset: cell["rows"] for (_, _, subset), cell in found.items()} == {"blur": 2, "overall": 2}
    code, _, err = run("psnr", "--subsets", "blurr", data=table)
    assert (code, "got blur, noise" in err) == (2, True)


@pytest.mark.parametrize("options", [("--split", "train"), ("--allow-missing",)])
def test_a_table_takes_no_option_of_a_folder(run, tmp_path, options):
    save_image(tmp_path / "r.png", 0)
    table = make_table(tmp_path, [("r.png", "r.png", "r.png", 1)])
    code, out, err = run("psnr", *options, data=table)
    assert (code, out) == (2, "")
    assert " ".join(options) in " ".join(err.split())
    assert "with the CSV file" in " ".join(err.split())


def test_data_of_a_home(run, root, monkeypatch):
    monkeypatch.setenv("HOME", str(root.parent))
    assert run("psnr", "--format", "json", data=f"~/{root.name}")[:2] == run("psnr", "--format", "json")[:2]
    code, _, err = run("psnr", data="~/gone.csv")
    assert (code, "expected a CSV file of judgments" in err) == (2, True)


def test_weights_of_a_file_beside_random_ones(run, tmp_path):
    torch.manual_seed(0)
    metric = create("lpips", weights=None)
    path = tmp_path / "mine.safetensors"
    state_dict.save(path, metric.network, metric="lpips", options={"trunk": "alex"})
    code, out, err = run("psnr", f"lpips={path}", "lpips=none", "--format", "json", "--no-jnd")
    assert (code, "left out" in err) == (0, False)
    found = cells(out)
    assert {metric for _, metric, _ in found} >= {"psnr", f"lpips={path}", "lpips=none"}
    alone = cells(run("lpips", "--weights", path, "--format", "json", "--no-jnd")[1])
    assert alone["2afc", "lpips", "overall"]["percent"] == found["2afc", f"lpips={path}", "overall"]["percent"]


def test_a_metric_without_weights_is_left_out_and_told(run, monkeypatch):
    monkeypatch.setenv("IQAZOO_OFFLINE", "1")
    code, out, err = run("lpips", "psnr", "--format", "json")
    assert code == 1
    assert "iqazoo weights fetch lpips" in err
    assert {metric for _, metric, _ in cells(out)} == {"psnr", "(human)", "(best reachable)"}
    assert run("lpips=/none.safetensors", "psnr")[0] == 1


def test_missing_files_stop_unless_allowed(run, root):
    (root / "2afc" / "val" / "cnn" / "p0" / "000001.png").unlink()
    code, _, err = run("psnr")
    assert code == 2
    assert "cnn/p0/000001" in err
    code, out, err = run("psnr", "--allow-missing", "--format", "json")
    assert code == 0
    assert "cnn/p0/000001" in err
    assert cells(out)["2afc", "psnr", "cnn"]["rows"] == 2


def test_a_chart(run, tmp_path):
    pytest.importorskip("matplotlib")
    assert run("psnr", "ssim", "--chart", tmp_path / "c.svg")[0] == 0
    assert "<svg" in (tmp_path / "c.svg").read_text()


def test_figures_that_cannot_be_written_are_still_printed(run, tmp_path, monkeypatch):
    from iqazoo.score import table

    def full(records, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table, "write", full)
    code, out, err = run("psnr", "-o", tmp_path / "f.csv")
    assert code == 1
    assert "overall" in out
    assert "No space left" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "at least one metric"),
        (("sssim",), "sssim"),
        (("psnr", "ssim", "--weights", "x.pt"), "NAME=FILE"),
        (("psnr", "--size", "-1"), "--size"),
        (("psnr", "--batch-size", "0"), "--batch-size"),
        (("psnr", "-o", "x.txt"), ".csv or .json"),
        (("psnr", "--chart", "x.pdf"), ".png or .svg"),
        (("psnr", "--device", "toaster"), "--device toaster"),
        (("psnr", "--split", "test"), "test"),
    ],
)
def test_usage_errors_exit_2(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2
    assert message in err
    assert out == ""
