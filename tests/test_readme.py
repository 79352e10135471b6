"""The README's tables say what the code says, and its examples run. Run this file to rewrite the tables."""

import re
from pathlib import Path

import pytest

import iqazoo
from iqazoo.environment import VARIABLES
from iqazoo.registry import GROUP, entries

README = Path(__file__).parent.parent / "README.md"


def metric_table():
    rows = ["| name | | kind | range | measures | paper |", "|---|---|---|---|---|---|"]
    for entry in entries():
        if entry.is_core:
            spec = entry.spec()
            low, high = spec.score_range
            cells = (f"`{spec.name}`", spec.arrow, spec.kind, f"{low:g} .. {high:g}", spec.summary, spec.paper)
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def variable_table():
    rows = (f"| `{name}` | {meaning} |" for name, meaning in VARIABLES.items())
    return "\n".join(["| variable | meaning |", "|---|---|", *rows])


def with_tables(text):
    text = re.sub(r"(<!-- metrics:.*?-->\n).*?(<!-- end of metrics -->)", rf"\1{metric_table()}\n\2", text, flags=re.S)
    return re.sub(r"(<!-- variables -->\n).*?(<!-- end of v)", rf"\1{variable_table()}\n\2", text, flags=re.S)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)


def test_the_tables_are_those_of_the_code():
    text = README.read_text(encoding="utf-8")
    assert with_tables(text) == text, "run `python tests/test_readme.py`"
    assert "`lpips-vgg`" in text


def test_the_examples_run(capsys):
    first, own = blocks("python")
    exec(compile(first, "README", "exec"), {})
    assert "lpips" in capsys.readouterr().out
    scope = {}
    exec(compile(own, "README", "exec"), scope)
    assert isinstance(scope["SPEC"], iqazoo.MetricSpec)


def test_the_entry_point_is_of_the_registrys_group():
    (toml,) = blocks("toml")
    assert f'[project.entry-points."{GROUP}"]\nabsdiff = "my_metric:SPEC"' in toml


def test_the_shell_examples_name_commands_and_options_that_exist():
    from iqazoo.cli import main

    shell = "\n".join(blocks("sh"))
    used = set(re.findall(r"^iqazoo ([\w-]+)", shell, flags=re.M))
    assert used == {
        "list",
        "info",
        "score",
        "eval",
        "data",
        "train",
        "weights",
        "fit",
        "plugins",
        "new-plugin",
        "check",
        "env",
    }
    for command in used:
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
