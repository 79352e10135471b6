"""Every block of code in docs/ is executed, and every command line in it is one that exists."""

import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import doc_pages
import plugin_maker
import pytest

import iqazoo
from iqazoo.testing.kit import CHECKS, SLOW

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md") if path.name != "ROADMAP.md")
GUIDE = DOCS / "how-to-write-a-metric.md"


def check_table():
    rows = []
    for name, check in CHECKS.items():
        slow = " (slow)" if name in SLOW else ""
        rows.append(f"| `{name}`{slow} | {inspect.getdoc(check).splitlines()[0]} |")
    return "\n".join(["| check | what it asks |", "|---|---|", *rows])


def with_table(text):
    return re.sub(r"(<!-- checks:.*?-->\n).*?(<!-- end of checks -->)", rf"\1{check_table()}\n\2", text, flags=re.S)


def cases():
    for page in PAGES:
        marks = [pytest.mark.slow] if doc_pages.marked(page, "slow") is not None else []
        yield pytest.param(page, marks=marks, id=page.name)


def is_installed(distribution):
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@pytest.mark.parametrize("page", [*cases()])
def test_the_blocks_of_a_page_run(page, tmp_path, monkeypatch, capsys):
    for needed in doc_pages.marked(page, "needs") or ():
        if not is_installed(needed):
            pytest.skip(f"{page.name} is about {needed}, which is not installed")
    with doc_pages.reader(tmp_path, monkeypatch) as reader:
        reader.play(page)
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\n1 / 0\n```", "division by zero"),
        ("```python\n# made.py\nimport nowhere\n```", "nowhere"),
        ("```sh\niqazoo lisst\n```", "`iqazoo lisst` is not understood"),
        ("```sh\niqazoo list --kinds FR\n```", "is not understood"),
        ("```sh\ntorchrun -m iqazoo train bapps lpips --data X --no-such 1\n```", "is not understood"),
        ("```sh\niqazoo train bapps nothing --data X\n```", "is not understood"),
        ("<!-- run -->\n```sh\niqazoo info nothing\n```", "info"),
        ("<!-- run -->\n```sh\nrm -r /\n```", "is not run here"),
        ("```toml\na = \n```", "Invalid value"),
        ("```rust\nfn main() {}\n```", "who is to run 'rust'"),
        ("  ```python\n  1 / 0\n  ```", "a fence that is no block"),
    ],
)
def test_a_page_with_a_mistake_fails(text, message, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(f"{text}\n")
    with doc_pages.reader(tmp_path, monkeypatch) as reader, pytest.raises(Exception, match=message):
        reader.play(page)


def test_a_readers_modules_and_metrics_are_gone_afterwards(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- at hand: mine -->\n```python\n# made.py\nX = 1\n```\n```python\nimport made, iqazoo_mine\n```\n"
    )
    with doc_pages.reader(tmp_path, monkeypatch) as reader:
        reader.play(page)
        assert "mine" in iqazoo.list_metrics()
    assert "mine" not in iqazoo.list_metrics()
    assert not {"made", "iqazoo_mine"} & set(sys.modules)


@pytest.mark.slow
def test_ten_lines_pass_every_check(tmp_path):
    code, project = [block for block in doc_pages.blocks(GUIDE) if block.file][:2]
    assert (code.file, project.file) == ("absdiff.py", "pyproject.toml")
    assert sum(bool(line.strip()) for line in code.text.splitlines()) <= 10
    source = tmp_path / "source"
    source.mkdir()
    for block in (code, project):
        (source / block.file).write_text(block.text)
    plugin_maker.install_project(source, tmp_path / "installed")
    path = os.pathsep.join([str(tmp_path / "installed"), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "iqazoo", "check", "absdiff"]
    environment = {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(check in done.stdout for check in CHECKS)


def test_the_guide_lists_the_checks_that_there_are():
    text = GUIDE.read_text(encoding="utf-8")
    assert with_table(text) == text, "run `python tests/test_docs.py`"
    assert "`check_output`" in text


if __name__ == "__main__":
    GUIDE.write_text(with_table(GUIDE.read_text(encoding="utf-8")), encoding="utf-8")
