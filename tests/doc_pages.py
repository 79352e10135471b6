"""Plays a page of docs as its reader would: writes its files, runs its Python, and tries its command lines.

- A ```python block runs in the page's one namespace. One that begins with a comment that names a file, such as
  `# my/network.py`, is written there and imported; so are other languages' blocks written, `// kernel.cpp` say.
- A ```sh block's `iqazoo` lines are parsed by the real command line. After `<!-- run -->` they run as well, so do
  `python` and `pytest` lines, and `pip install -e DIR` declares the project in DIR.
- `<!-- at hand: BAPPS PHOTOS my-metric -->` names data and metrics that the reader has, `<!-- needs: iqazoo-unet -->`
  what must be installed, and `<!-- slow -->` marks a page that takes long.
"""

import contextlib
import functools
import importlib
import inspect
import os
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import judging
import plugin_maker
from PIL import Image
from setuptools.config.pyprojecttoml import load_file

import iqazoo.cli
from iqazoo import registry
from iqazoo.scaffold import write_plugin
from iqazoo.testing import pictures

BLOCK = re.compile(r"(?P<run><!-- run -->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", flags=re.S | re.M)
FILE = re.compile(r"(?:#|//) ([\w./-]+\.\w+)\n")
PLAIN = ("", "text")
NO_MODULE = ("setup.py", "conftest.py")


@dataclass(frozen=True)
class Block:
    """One block of a page: its language, text and line, whether it is a shell's to run, and the file that it is."""

    language: str
    text: str
    line: int
    run: bool

    @property
    def file(self):
        found = FILE.match(self.text)
        return found and found[1]


def blocks(page):
    text = page.read_text(encoding="utf-8")
    fences = len(re.findall(r"^\s*(?:```|~~~)", text, flags=re.M))
    assert fences == 2 * len(BLOCK.findall(text)), f"{page.name} has a fence that is no block: begin it with ``` alone"
    for found in BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("text")) + 1
        yield Block(found["language"], found["text"], line, bool(found["run"]))


def marked(page, mark):
    """The words of the page's `<!-- mark: words -->`; None where there is no such mark."""
    found = re.search(rf"^<!-- {mark}(?:: (.*?))? -->$", page.read_text(encoding="utf-8"), flags=re.M)
    return found and (found[1] or "").split()


def command_lines(text):
    """The words of each command in a shell's text, without the variables before it."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"\w+=.*", words[0]):
            del words[0]
        if words:
            yield words


def words_of_iqazoo(words):
    """What comes after `iqazoo` or `-m iqazoo`; None for another command."""
    if words[0] == "iqazoo":
        return words[1:]
    places = [i for i in range(1, len(words)) if words[i - 1 : i + 1] == ["-m", "iqazoo"]]
    return words[places[0] + 1 :] if places else None


class Parsed(Exception):
    """Training would begin now."""


def parse(words, monkeypatch):
    """Let the real command line understand the words, and do nothing of what they ask.

    Raises:
        AssertionError: it does not.
    """
    calls = []

    def instead_of(run):
        @functools.wraps(run)
        def called(*arguments, **options):
            calls.append(inspect.signature(run).bind(*arguments, **options))
            return 0

        return called

    def begun(*_):
        raise Parsed

    with monkeypatch.context() as patch:
        patch.setattr("iqazoo.train.start.bapps_trainer", begun)
        for module in pkgutil.iter_modules(iqazoo.cli.__path__, "iqazoo.cli."):
            command = importlib.import_module(module.name)
            if hasattr(command, "run"):
                patch.setattr(command, "run", instead_of(command.run))
        try:
            code = iqazoo.cli.main(words)
        except Parsed:
            return
        except SystemExit as stop:  # tyro's way out, with the reason on stderr
            code = stop.code
    assert code == 0, f"`iqazoo {' '.join(words)}` is not understood"
    assert len(calls) == 1


class Reader:
    """Works through a page in a folder, which is also the working folder."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.scope = {"__name__": "page"}

    def play(self, page):
        for name in marked(page, "at hand") or ():
            self.have(name)
        for block in blocks(page):
            where = f"{page.name}, line {block.line}"
            if block.file:
                self.write(block)
            elif block.language == "python":
                # As many lines before it as the page has, so that a traceback tells the page's lines.
                code = compile("\n" * (block.line - 1) + block.text, str(page), "exec")
                exec(code, self.scope)
            elif block.language == "sh":
                for words in command_lines(block.text):
                    self.shell(words, block.run, where)
            elif block.language == "toml":
                self.load_toml(block.text)
            else:
                assert block.language in PLAIN, f"{where}: who is to run {block.language!r}?"

    def have(self, name):
        """Make what a page says that its reader has; what is not in capitals is a metric's name."""
        made = self.folder / name
        if name == "BAPPS":
            judging.write_bapps(made, {"train/traditional": 50, "val/traditional": 4, "val/cnn": 4})
        elif name == "PHOTOS":
            made.mkdir()
            for path in pictures.PHOTOGRAPHS:
                Image.open(path).save(made / f"{path.stem}.png")
        else:
            self.install(write_plugin(name, folder=made))

    def write(self, block):
        path = self.folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        if path.suffix == ".toml":
            load_file(path)
        elif path.suffix == ".py" and path.name not in NO_MODULE:
            self.load(path)

    def load(self, path):
        """Import the file by the name that it has below the folder on sys.path that holds it, anew."""
        homes = [Path(home) for home in sys.path if home and path.is_relative_to(home)]
        home = max(homes, key=lambda home: len(home.parts))
        parts = path.relative_to(home).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for old in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
            del sys.modules[old]
        self.refresh()
        importlib.import_module(name)

    def load_toml(self, text):
        path = self.folder / ".block.toml"
        path.write_text(text, encoding="utf-8")
        load_file(path)

    def shell(self, words, run, where):
        iqazoo_words = words_of_iqazoo(words)
        if iqazoo_words is not None:
            parse(iqazoo_words, self.monkeypatch)
        if not run:
            return
        if words[:3] == ["pip", "install", "-e"]:
            self.install(self.folder / words[3])
        elif words[0] in ("python", "pytest"):
            quiet = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
            self.python([*(quiet if words[0] == "pytest" else ()), *words[1:]])
        else:
            assert iqazoo_words is not None, f"{where}: {words[0]!r} is not run here; leave out <!-- run -->"
            assert iqazoo.cli.main(iqazoo_words) == 0, f"{where}: {words}"

    def python(self, words):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def install(self, project):
        """As `pip install -e` does: its entry points are found, and its modules where they are."""
        facts = load_file(project / "pyproject.toml")["project"]
        about = self.folder / ".installed"
        shutil.rmtree(about, ignore_errors=True)
        plugin_maker.declare(about / facts["name"], facts["name"], facts["entry-points"][registry.GROUP])
        for path in (about / facts["name"], project):
            self.monkeypatch.syspath_prepend(str(path))
        self.refresh()

    def refresh(self):
        importlib.invalidate_caches()
        registry.refresh()


@contextlib.contextmanager
def reader(folder, monkeypatch):
    """A `Reader` whose imports and installations end with the block."""
    before = dict(sys.modules)
    with monkeypatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "dont_write_bytecode", True)  # a file that grows twice within a second is not read again
        patch.syspath_prepend(str(folder))
        try:
            yield Reader(folder, patch)
        finally:
            for name, module in [*sys.modules.items()]:
                if is_within(module, folder):
                    del sys.modules[name]
            for name in before.keys() - sys.modules.keys():  # a page's tests.test_metric took the place of ours
                sys.modules[name] = before[name]
    importlib.invalidate_caches()
    registry.refresh()


def is_within(module, folder):
    path = getattr(module, "__file__", None)
    return path is not None and Path(path).is_relative_to(folder)
