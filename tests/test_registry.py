"""The registry against really installed distributions: no plugin may break the import, the list, or another metric."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import plugin_maker
import pytest

import iqazoo
from iqazoo import registry
from iqazoo.errors import UnknownMetric

PROJECT = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
CORE = sorted(re.findall(r'^(\S+) = "iqazoo\.specs\.', PROJECT, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def plugins(tmp_path_factory):
    """One folder for sys.path per distribution."""
    folder = tmp_path_factory.mktemp("plugins")
    good = plugin_maker.GOOD
    newer = good.replace('kind="FR"', 'kind="FR", api=2')
    projects = {
        "iqazoo-good": (good.format(name="good", project="iqazoo-good"), "good"),
        "iqazoo-raises": ("raise OSError('undefined symbol: _ZN3c10')", "raises"),
        "iqazoo-exits": ("raise SystemExit(3)", "exits"),
        "iqazoo-cancels": ("import asyncio; raise asyncio.CancelledError('stop')", "cancels"),
        "iqazoo-bad-api": (good.format(name="bad-api", project="x").replace('"FR"', '"FR", api="2"'), "bad-api"),
        "iqazoo-bad-range": (
            good.format(name="bad-range", project="x").replace('"FR"', '"FR", score_range=("~0", "~1")'),
            "bad-range",
        ),
        "iqazoo-no-spec": ("SPEC = {'name': 'no-spec'}", "no-spec"),
        "iqazoo-bad-field": (good.format(name="bad-field", project="x").replace('"FR"', '"XR"'), "bad-field"),
        "iqazoo-newer": (newer.format(name="newer", project="iqazoo-newer"), "newer"),
        "iqazoo-misnamed": (good.format(name="other", project="iqazoo-misnamed"), "misnamed"),
        "iqazoo-twin-a": (good.format(name="twin", project="iqazoo-twin-a"), "twin"),
        "iqazoo-Twin.B": (good.format(name="twin", project="iqazoo-twin-b"), "twin"),
        "iqazoo-claims-core": (good.format(name="ssim", project="iqazoo-claims-core"), "ssim"),
    }
    made = {}
    for project, (code, name) in projects.items():
        made[project] = plugin_maker.install(folder, project.replace(".", "-"), code, name)
    return made


@pytest.fixture
def installed(plugins, monkeypatch):
    """Put distributions on sys.path for one test."""

    def put(*projects):
        for project in projects:
            monkeypatch.syspath_prepend(str(plugins[project]))
        registry.refresh()

    yield put
    monkeypatch.undo()
    registry.refresh()


def run_cli(plugins, *arguments, hash_seed="0", **variables):
    path = os.pathsep.join(map(str, plugins))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": hash_seed, **variables}
    command = [sys.executable, "-m", "iqazoo", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_core_arrives_by_entry_points():
    core = [e for e in registry.entries() if e.is_core]
    assert [e.name for e in core] == CORE
    assert set(CORE) <= set(iqazoo.list_metrics())
    assert iqazoo.spec("ssim").network == "iqazoo.metrics.ssim:SSIM"


def test_a_good_plugin_is_listed_and_works(installed):
    import torch

    installed("iqazoo-good")
    assert "good" in iqazoo.list_metrics(kind="FR", pattern="g*")
    assert "good" not in iqazoo.list_metrics(kind="NR")
    image = torch.rand(2, 3, 4, 4)
    assert iqazoo.create("good")(image, image).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("project", "name", "message"),
    [
        ("iqazoo-raises", "raises", "undefined symbol"),
        ("iqazoo-exits", "exits", "SystemExit: 3"),
        ("iqazoo-cancels", "cancels", "CancelledError: stop"),
        ("iqazoo-bad-api", "bad-api", "api must"),
        ("iqazoo-bad-range", "bad-range", "score_range must"),
        ("iqazoo-no-spec", "no-spec", "expected a MetricSpec, got dict"),
        ("iqazoo-bad-field", "bad-field", "kind must"),
        ("iqazoo-newer", "newer", "api 2, this iqazoo has api 1; upgrade iqazoo"),
        ("iqazoo-misnamed", "misnamed", "named 'misnamed', its spec 'other'"),
    ],
)
def test_a_broken_plugin_breaks_only_itself(installed, plugins, project, name, message):
    installed(project, "iqazoo-good")
    with pytest.raises(iqazoo.PluginError, match=message) as caught:
        iqazoo.create(name)
    assert f"{project} 1.2" in str(caught.value)
    assert name not in iqazoo.list_metrics()
    assert set(iqazoo.list_metrics()) >= {*CORE, "good"}

    listed = run_cli([plugins[project]], "list", "--format", "json")
    assert listed.returncode == 0, listed.stderr
    status = {row["name"]: row["status"] for row in json.loads(listed.stdout)}
    assert message in status.pop(name)
    assert status == dict.fromkeys(CORE, "ok")
    assert message in run_cli([plugins[project]], "plugins").stdout


def test_two_plugins_of_one_name_are_ambiguous_until_one_is_chosen(installed):
    installed("iqazoo-twin-a", "iqazoo-Twin.B")
    with pytest.raises(iqazoo.AmbiguousMetric, match="'twin@iqazoo-twin-a' or 'twin@iqazoo-twin-b'"):
        iqazoo.create("twin")
    assert iqazoo.spec("twin@iqazoo-twin-a").summary == "from iqazoo-twin-a"
    assert iqazoo.spec("twin@iqazoo_Twin.B").summary == "from iqazoo-twin-b"  # any spelling that pip takes
    names = iqazoo.list_metrics(pattern="twin*")
    assert names == ["twin@iqazoo-twin-a", "twin@iqazoo-twin-b"]


def test_a_plugin_never_takes_a_core_name(installed):
    installed("iqazoo-claims-core")
    assert iqazoo.spec("ssim").network == "iqazoo.metrics.ssim:SSIM"
    assert iqazoo.spec("ssim@iqazoo") is iqazoo.spec("ssim")
    assert iqazoo.spec("ssim@iqazoo-claims-core").summary == "from iqazoo-claims-core"
    assert set(iqazoo.list_metrics(pattern="ssim*")) == {"ssim", "ssim@iqazoo-claims-core"}


def test_neither_hash_seed_nor_path_order_changes_the_outcome(plugins):
    chosen = [plugins[p] for p in ("iqazoo-twin-a", "iqazoo-Twin.B", "iqazoo-claims-core", "iqazoo-raises")]
    seen = {
        run_cli(paths, "list", "--format", "json", hash_seed=seed).stdout
        for seed in "012"
        for paths in (chosen, chosen[::-1])
    }
    assert len(seen) == 1
    assert len(json.loads(seen.pop())) == len(CORE) + 4


def test_one_distribution_that_declares_a_name_twice_is_a_plugin_error(tmp_path, monkeypatch):
    info = tmp_path / "iqazoo_double-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: iqazoo-double\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[iqazoo.metrics]\ndouble = a:SPEC\ndouble = b:SPEC\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    with pytest.raises(iqazoo.PluginError, match="2 times"):
        iqazoo.spec("double")
    monkeypatch.undo()
    registry.refresh()


def test_a_half_removed_distribution_breaks_nothing(tmp_path):
    info = tmp_path / "iqazoo_ghost-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[iqazoo.metrics]\nghost = iqazoo_ghost:SPEC\n")
    listed = run_cli([tmp_path], "list", "--format", "json")
    assert listed.returncode == 0, listed.stderr
    status = {row["name"]: row["status"] for row in json.loads(listed.stdout)}
    assert "No module named 'iqazoo_ghost'" in status["ghost"]


def test_what_a_plugin_prints_at_import_stays_out_of_the_data(tmp_path):
    code = "print('hello from plugin')" + plugin_maker.GOOD.format(name="chatty", project="iqazoo-chatty")
    listed = run_cli([plugin_maker.install(tmp_path, "iqazoo-chatty", code, "chatty")], "list", "--format", "json")
    assert "chatty" in {row["name"] for row in json.loads(listed.stdout)}
    assert "hello from plugin" in listed.stderr


def test_an_unknown_kind_is_refused():
    with pytest.raises(iqazoo.InputError, match="'FR', 'NR' or None; got 'fr'"):
        iqazoo.list_metrics(kind="fr")


def test_an_unknown_name_gets_close_matches_and_the_way_to_install():
    with pytest.raises(iqazoo.UnknownMetric, match=r"did you mean 'ssim'.*pip install"):
        iqazoo.create("sssim")
    with pytest.raises(iqazoo.UnknownMetric, match="did you mean 'ssim'"):
        iqazoo.create("SSIM")
    with pytest.raises(iqazoo.UnknownMetric, match="iqazoo list"):
        iqazoo.spec("ssim@nowhere")


def test_creating_one_metric_imports_no_other_plugin(plugins):
    path = os.pathsep.join(str(plugins[p]) for p in ("iqazoo-raises", "iqazoo-good"))
    code = "import iqazoo, sys; iqazoo.create('psnr'); print([m for m in sys.modules if m.startswith('iqazoo_')])"
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("variable", "value", "left_out"),
    [
        ("IQAZOO_DISABLE_PLUGINS", "Iqazoo_Good, other", True),
        ("IQAZOO_DISABLE_PLUGINS", "other", False),
        ("IQAZOO_PLUGINS", "other", True),
        ("IQAZOO_PLUGINS", "", True),
        ("IQAZOO_PLUGINS", "iqazoo.good", False),
    ],
)
def test_variables_leave_plugins_out(installed, monkeypatch, variable, value, left_out):
    installed("iqazoo-good")
    monkeypatch.setenv(variable, value)
    assert ("good" in iqazoo.list_metrics()) is not left_out
    assert set(CORE) <= set(iqazoo.list_metrics())
    if left_out:
        with pytest.raises(UnknownMetric, match=f"of iqazoo-good, which {variable} leaves out"):
            iqazoo.spec("good")


def test_the_core_cannot_be_left_out(monkeypatch):
    monkeypatch.setenv("IQAZOO_DISABLE_PLUGINS", "iqazoo")
    assert set(CORE) <= set(iqazoo.list_metrics())


def test_a_name_belongs_to_whom_the_variables_leave(installed, monkeypatch):
    installed("iqazoo-twin-a", "iqazoo-Twin.B")
    monkeypatch.setenv("IQAZOO_DISABLE_PLUGINS", "iqazoo-twin-b")
    assert registry.find("twin").distribution == "iqazoo-twin-a"
    assert "twin" in iqazoo.list_metrics()


def test_what_is_left_out_is_said_and_not_imported(plugins):
    done = run_cli([plugins["iqazoo-exits"]], "plugins", "--format", "json", IQAZOO_DISABLE_PLUGINS="iqazoo-exits")
    found = {row["distribution"]: (row["status"], row["cause"]) for row in json.loads(done.stdout)}
    assert found["iqazoo-exits"] == ("left out", "by IQAZOO_DISABLE_PLUGINS")
    assert found["iqazoo"] == ("ok", "")


def test_a_slow_import_is_told(installed, monkeypatch, capsys):
    installed("iqazoo-good")
    iqazoo.spec("good")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(registry, "SLOW", 0.0)
    registry.refresh()
    assert iqazoo.spec("good").name == "good"
    assert "IQAZOO_DISABLE_PLUGINS=iqazoo-good leaves it out" in capsys.readouterr().err
    assert iqazoo.spec("ssim").name == "ssim"
    assert capsys.readouterr().err == ""
