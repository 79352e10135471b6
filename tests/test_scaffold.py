"""New plugins: what is written, what is refused, and that one installed afresh passes its tests at once."""

import os
import subprocess
import sys
from pathlib import Path

import plugin_maker
import pytest
from setuptools.config.pyprojecttoml import load_file

from iqazoo import registry, scaffold
from iqazoo.errors import InputError
from iqazoo.scaffold import SUFFIX, TEMPLATES, distribution_of, write_plugin

ROOT = Path(__file__).parents[1]
KINDS = ("FR", "NR")


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_is_whole(tmp_path, kind):
    folder = write_plugin("my-metric", kind, tmp_path / "deep" / "project")
    assert files(folder) == {
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "iqazoo_my_metric/__init__.py",
        "iqazoo_my_metric/network.py",
        "tests/test_metric.py",
    }
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    facts = load_file(folder / "pyproject.toml")
    assert facts["project"]["entry-points"] == {registry.GROUP: {"my-metric": "iqazoo_my_metric:SPEC"}}
    assert facts["project"]["dependencies"] == ["iqazoo>=0.1"]
    assert [path.name for path in folder.parent.iterdir()] == ["project"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_template_is_used_and_no_word_is_left(tmp_path, kind):
    folder = write_plugin("mine", kind, tmp_path / "project")
    templates = [path for part in ("both", kind) for path in (TEMPLATES / part).rglob("*") if path.is_file()]
    assert len(files(folder)) == len(templates)
    assert all(path.name.endswith(SUFFIX) for path in templates)
    assert not [path for path in folder.rglob("*") if path.is_file() and "$" in path.read_text()]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_has_the_style_of_the_house(tmp_path, kind):
    folder = write_plugin("my-metric", kind, tmp_path / "project")
    # Isolated, as in the author's own repository, where iqazoo is somebody else's.
    settings = ["--isolated", "--no-cache", "--line-length", "120", "--target-version", "py310", "."]
    for command in (["check", "--select", "E,F,W,I,UP,B,C4,SIM,RUF,PT,RET"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, *settings]
        done = subprocess.run(ruff, cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "distribution"),
    [("mine", "iqazoo-mine"), ("a_b+c.d", "iqazoo-a-b-c-d"), ("2afc", "iqazoo-2afc"), ("none-", "iqazoo-none")],
)
def test_any_name_that_a_metric_may_have_gives_a_distribution(tmp_path, name, distribution):
    assert distribution_of(name) == distribution
    folder = write_plugin(name, "NR", tmp_path / "project")
    scope = {}
    exec((folder / distribution.replace("-", "_") / "__init__.py").read_text(), scope)
    assert scope["SPEC"].name == name


@pytest.mark.parametrize("name", ["", "Mine", "two words", "-x", "image", "error", "a/b", "../up", "ä", "a\nb"])
def test_a_name_that_no_metric_may_have_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="lower case letters"):
        write_plugin(name, "FR", tmp_path / "project")
    assert not list(tmp_path.iterdir())


def test_the_name_of_the_core_or_of_a_plugin_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="iqazoo has a metric 'ssim' already"):
        write_plugin("ssim", "FR", tmp_path / "project")
    plugin_maker.declare(tmp_path / "there", "iqazoo-a-b", {"taken": "a_b:SPEC"})
    monkeypatch.syspath_prepend(str(tmp_path / "there"))
    monkeypatch.setenv("IQAZOO_DISABLE_PLUGINS", "iqazoo-a-b")
    registry.refresh()
    try:
        with pytest.raises(InputError, match="iqazoo-a-b has a metric 'taken' already"):
            write_plugin("taken", "FR", tmp_path / "project")
        with pytest.raises(InputError, match="would be of iqazoo-a-b, which is installed"):
            write_plugin("a+b", "FR", tmp_path / "project")
    finally:
        monkeypatch.undo()
        registry.refresh()
    assert not (tmp_path / "project").exists()


def test_a_folder_that_is_there_stays_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "iqazoo-mine").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").write_text("mine")
    for folder in (None, Path("link"), Path("file")):
        with pytest.raises(InputError, match="a folder that does not exist"):
            write_plugin("mine", "FR", folder)
    assert not list((tmp_path / "iqazoo-mine").iterdir())
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_somebody_makes_meanwhile_stays_as_it_is(tmp_path, monkeypatch):
    target = tmp_path / "project"
    rendered = scaffold.rendered

    def slowly(kind, words):
        yield from rendered(kind, words)
        target.mkdir()
        (target / "theirs").write_text("theirs")

    monkeypatch.setattr(scaffold, "rendered", slowly)
    with pytest.raises(InputError, match="somebody else"):
        write_plugin("mine", "FR", target)
    assert files(tmp_path) == {"project/theirs"}


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(kind, words):
        yield Path("README.md"), "begun"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scaffold, "rendered", full)
    with pytest.raises(OSError, match="No space"):
        write_plugin("mine", "FR", tmp_path / "project")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The interpreter of an environment that has nothing of its own, and sees what this one has installed."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    # addsitedir, and not the path alone: an editable iqazoo is a .pth file there.
    lent = [f"import site; site.addsitedir({path!r})" for path in sys.path if path.endswith("site-packages")]
    (packages / "lent.pth").write_text("\n".join(lent))
    return folder / "bin" / "python"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_project_installed_afresh_passes_its_tests_at_once(tmp_path, fresh, kind):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}

    def run(*command, cwd=tmp_path):
        command = [str(fresh), "-m", *map(str, command)]
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    name = f"made-{kind.lower()}"
    folder = tmp_path / run("iqazoo", "new-plugin", name, "--kind", kind).strip()
    run("pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", folder)
    assert f"{name} " in run("iqazoo", "list", "--kind", kind)
    (row,) = [line for line in run("iqazoo", "plugins", "--format", "csv").splitlines() if name in line]
    assert row.split(",")[3:5] == ["ok", ""]
    told = run("pytest", "-p", "no:cacheprovider", "-W", "error::pytest.PytestUnknownMarkWarning", cwd=folder)
    assert " passed" in told
    assert "deselected" not in told
