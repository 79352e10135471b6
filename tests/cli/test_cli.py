"""The command line, called in this process: data on stdout, everything else on stderr, exit codes as promised."""

import csv
import dataclasses
import io
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from plugin_maker import GOOD, declare

from iqazoo import registry
from iqazoo.cli import main
from iqazoo.factory import network_class


@pytest.fixture
def run(capsys):
    """Call the command line; gives exit code, stdout and stderr."""

    def call(*arguments):
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:  # how tyro ends on usage errors and --help
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def folders(tmp_path):
    for side, shade in (("image", 100), ("reference", 120)):
        (tmp_path / side / "sub").mkdir(parents=True)
        for name in ("a", "sub/b"):
            Image.new("RGB", (16, 16), (shade, shade, shade)).save(tmp_path / side / f"{name}.png")
    return tmp_path


def score(run, folders, *more, names=("psnr", "ssim")):
    return run("score", *names, "--image", folders / "image", "--reference", folders / "reference", *more)


def test_list_as_table_json_and_csv(run):
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert "ssim" in out
    assert "↑" in out
    rows = json.loads(run("list", "lpips*", "--kind", "FR", "--format", "json")[1])
    assert [r["name"] for r in rows] == ["lpips", "lpips-squeeze", "lpips-vgg"]
    assert {r["better"] for r in rows} == {"↓"}
    assert [r["name"] for r in csv.DictReader(io.StringIO(run("list", "psnr", "--format", "csv")[1]))] == ["psnr"]
    assert json.loads(run("list", "lpips*", "--kind", "NR", "--format", "json")[1]) == []


def test_info(run):
    code, out, _ = run("info", "ssim", "--format", "json")
    (facts,) = json.loads(out)
    assert code == 0
    assert facts["score_range"] == [-1.0, 1.0]
    assert facts["channels"] == [1, 3]
    assert "padding='valid'" in facts["options"]
    assert run("info", "nothing")[0] == 2


def test_info_tells_of_other_libraries_and_of_time(run):
    _, out, _ = run("info", "gmsd", "--time", "--format", "json")
    (facts,) = json.loads(out)
    assert any(line.startswith("piq 0.8.0 gmsd: ") for line in facts["agreement"])
    assert any(line.startswith("pyiqa 0.1.16 gmsd, with channels='y-8bit': ") for line in facts["agreement"])
    *times, where = facts["time"]
    assert [line.split(":")[0] for line in times] == ["256 x 256", "512 x 512", "1080 x 1920"]
    assert all(float(line.split()[-2]) > 0 for line in times)
    assert where.startswith("on cpu, ")
    assert "time" not in json.loads(run("info", "gmsd", "--format", "json")[1])[0]


def test_time_of_one_of_two_metrics_of_a_name(run, tmp_path, monkeypatch):
    for project in ("iqazoo-one", "iqazoo-two"):
        declare(tmp_path, project, {"twice": f"{project.replace('-', '_')}:SPEC"})
        code = GOOD.format(name="twice", project=project).replace("return", "print('hello from a network'); return")
        (tmp_path / f"{project.replace('-', '_')}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    try:
        code, out, err = run("info", "twice@iqazoo-one", "--time", "--format", "json")
    finally:
        monkeypatch.undo()
        registry.refresh()
    (facts,) = json.loads(out)
    assert code == 0
    assert facts["time"][0].startswith("256 x 256: ")
    assert "hello from a network" in err


def test_score_prints_and_writes(run, folders):
    output = folders / "scores.csv"
    code, out, err = score(run, folders, "-o", output)
    assert code == 0
    assert "scoring" in err
    assert "psnr ↑" in out
    assert "mean" in out
    rows = list(csv.DictReader(output.open()))
    assert [r["id"] for r in rows] == ["a", "sub/b"]
    assert list(rows[0]) == ["id", "image", "reference", "psnr", "ssim", "error"]
    assert float(rows[0]["psnr"]) == pytest.approx(22.11, abs=0.01)


def test_score_as_json_is_pure_data(run, folders):
    code, out, _ = run(
        "score", "psnr", "--image", folders / "image", "--reference", folders / "image", "--format", "json"
    )
    assert code == 0
    assert [r["psnr"] for r in json.loads(out)] == ["inf", "inf"]  # identical: infinite


def test_a_score_that_is_nan_makes_exit_code_1(run, folders, monkeypatch):
    from iqazoo.metrics.psnr import PSNR

    monkeypatch.setattr(PSNR, "forward", lambda self, image, reference: image.mean((1, 2, 3)) * math.nan)
    code, out, _ = score(run, folders, "--format", "json")
    assert code == 1
    for row in json.loads(out):
        assert row["psnr"] is None
        assert row["ssim"] > 0
        assert row["error"] == "psnr: its score of this image is NaN, not a number"


def test_score_of_two_files(run, folders):
    image, reference = folders / "image" / "a.png", folders / "reference" / "sub" / "b.png"
    code, out, _ = run("score", "psnr", "--image", image, "--reference", reference, "--format", "csv")
    assert code == 0
    assert len(out.splitlines()) == 2


def test_a_bad_file_makes_exit_code_1_and_a_row(run, folders):
    (folders / "image" / "a.png").write_bytes(b"")
    code, out, _ = score(run, folders, "--format", "json")
    first, second = json.loads(out)
    assert code == 1
    assert "a.png" in first["error"]
    assert first["psnr"] is None
    assert second["error"] == ""


def test_unmatched_files_are_listed_and_the_rest_is_scored(run, folders):
    (folders / "image" / "a.png").rename(folders / "image" / "c.png")
    code, out, err = score(run, folders, "--format", "csv")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert str(folders / "image" / "c.png") in err
    assert str(folders / "reference" / "a.png") in err


def test_a_metric_without_weights_is_one_line_and_an_empty_column(run, folders, monkeypatch):
    monkeypatch.setenv("IQAZOO_OFFLINE", "1")
    code, out, err = score(run, folders, "--format", "csv", names=("lpips", "psnr"))
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 1
    assert [r["lpips"] for r in rows] == ["", ""]
    assert all(float(r["psnr"]) > 0 for r in rows)
    assert all(r["error"] == "" for r in rows)
    told = [line for line in err.splitlines() if line.startswith("iqazoo: lpips")]
    assert len(told) == 1
    assert "iqazoo weights fetch lpips" in told[0]
    code, out, _ = score(run, folders, "--format", "csv", names=("lpips",))
    assert code == 1
    assert len(out.splitlines()) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--imagee", "x"), "imagee"),
        (("--format", "xml"), "xml"),
        (("-o", "scores.txt"), ".csv or .json"),
        (("--batch-size", "0"), "batch-size"),
        (("--workers", "0"), "workers"),
        (("--background", "mauvee"), "mauvee"),
        (("-o", "/proc/scores.csv"), "/proc"),
        (("--device", "cuda:77"), "--device cuda:77"),
        (("--device", "toaster"), "--device toaster"),
    ],
)
def test_usage_errors_exit_2(run, folders, change, message):
    code, out, err = score(run, folders, *change)
    assert code == 2
    assert message in err
    assert out == ""


def test_more_usage_errors_exit_2(run, folders):
    assert score(run, folders, names=("sssim",))[0] == 2
    assert run("score", "ssim", "--image", folders / "image")[0] == 2
    assert run("score", "ssim", "--image", folders / "none", "--reference", folders / "image")[0] == 2
    assert run("score", "--image", folders / "image")[0] == 2
    assert run("nonsense")[0] == 2
    (folders / "other").mkdir()
    Image.new("RGB", (16, 16)).save(folders / "other" / "z.png")
    code, _, err = run("score", "ssim", "--image", folders / "image", "--reference", folders / "other")
    assert code == 2
    assert "partner" in err


def test_weights_path_verify_and_fetch_tell_what_is_missing(run, monkeypatch):
    monkeypatch.setenv("IQAZOO_OFFLINE", "1")
    rows = json.loads(run("weights", "list", "--format", "json")[1])
    assert {r["present"] for r in rows} == {"no"}
    files = [file for name in ("lpips", "lpips-vgg", "lpips-squeeze") for file in registry.spec(name).weights]
    assert {file.file_name for file in files} <= {row["file"] for row in rows}
    code, out, _ = run("weights", "path", "lpips")
    assert code == 0
    assert [line.rsplit("/", 1)[-1] for line in out.splitlines()] == ["alexnet-owt-7be5be79.pth", "alex.pth"]
    for action in ("verify", "fetch"):
        code, out, err = run("weights", action, "lpips")
        assert code == 1
        assert out == ""
        assert "alexnet-owt-7be5be79.pth" in err
    assert run("weights", "burn")[0] == 2


def test_weights_present_are_verified(run, tmp_path, monkeypatch):
    import golden_data

    heads = golden_data.published_heads("alex")
    if heads is None:
        pytest.skip("needs the wheel of lpips, as make test installs it")
    place = json.loads(run("info", "lpips", "--format", "json")[1])[0]["weights"][1]
    Path(place).parent.mkdir(parents=True)
    Path(place).write_bytes(heads.read_bytes())
    code, out, err = run("weights", "verify", "lpips")
    assert code == 1  # the trunk is missing
    assert out.strip() == place
    assert "alex.pth" not in err.replace(place, "")


def test_env_names_versions_backends_and_variables(run):
    code, out, _ = run("env", "--format", "json")
    facts = {r["name"]: r["value"] for r in json.loads(out)}
    assert code == 0
    assert facts["torch"]
    assert "backend cpu" in facts
    assert "IQAZOO_OFFLINE" in facts


def test_plugins_lists_the_core(run):
    rows = json.loads(run("plugins", "--format", "json")[1])
    assert any(r["distribution"] == "iqazoo" and r["status"] == "ok" for r in rows)


def test_help_exits_0(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(command in out for command in ("list", "info", "score", "eval", "data", "plugins", "weights", "env"))


def test_a_reader_that_leaves_early_is_no_error_message():
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-m", "iqazoo", "list"], stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "iqazoo", "list", "--format", "csv"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.startswith("iqazoo: [Errno 28]")
    assert len(done.stderr.splitlines()) == 1


def test_a_terminal_that_knows_no_arrows_gets_the_table():
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-m", "iqazoo", "list"], env=environment, capture_output=True, check=True)
    assert b"lpips" in done.stdout


def test_a_file_name_that_is_not_utf8_is_scored_and_written(run, folders):
    for side in ("image", "reference"):
        os.rename(folders / side / "a.png", os.fsencode(folders / side) + b"/caf\xe9.png")
    output = folders / "scores.csv"
    code, out, _ = score(run, folders, "-o", output)
    assert code == 0
    assert b"caf\xe9," in output.read_bytes()
    assert "mean" in out
    score(run, folders, "-o", folders / "scores.json")
    first = json.loads((folders / "scores.json").read_text("utf-8"))[0]
    assert os.fsencode(first["image"]).endswith(b"/caf\xe9.png")


def test_what_a_network_prints_is_no_data(run, folders, monkeypatch):
    ssim = registry.spec("ssim")

    class Talkative(network_class(ssim)):
        def forward(self, image, reference):
            print("hello from a network")
            return super().forward(image, reference)

    monkeypatch.setattr(registry, "spec", lambda _: dataclasses.replace(ssim, network=Talkative))
    code, out, err = score(run, folders, "--format", "json", names=("ssim",))
    assert (code, len(json.loads(out))) == (0, 2)
    assert "hello from a network" in err


def test_scores_that_cannot_be_written_are_still_printed(run, folders, monkeypatch):
    from iqazoo.score import table

    def full(records, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(table, "write", full)
    code, out, err = score(run, folders, "-o", folders / "scores.csv")
    assert code == 1
    assert "sub/b" in out
    assert "No space left" in err


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import iqazoo; iqazoo.MetricSpec, iqazoo.InputError, iqazoo.spec('ssim')", "torch"),
        ("import iqazoo", "importlib.metadata"),
        ("from iqazoo.cli import main; main(['list'])", "torch"),
        ("from iqazoo.cli import main; main(['plugins'])", "torch"),
        ("from iqazoo.cli import main; main(['weights', 'list'])", "torch"),
        ("import iqazoo.cli.eval, iqazoo.cli.data, iqazoo.cli.score", "torch"),
        ("import iqazoo.data.bapps_like", "torch"),
        ("from iqazoo.cli import main; assert main(['new-plugin', 'ssim']) == 2", "torch"),
    ],
)
def test_what_must_be_quick_imports_nothing_heavy(code, forbidden):
    check = f"{code}; import sys; sys.exit({forbidden!r} in sys.modules)"
    environment = {**os.environ, "IQAZOO_PLUGINS": "iqazoo"}  # a plugin of one file imports torch when it is listed
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"imports {forbidden}: {done.stderr}"
