"""Really installed throw-away distributions for the tests of the registry."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

GOOD = """
from iqazoo import MetricSpec
import torch

class Network(torch.nn.Module):
    def forward(self, image, reference):
        return (image - reference).abs().mean((1, 2, 3))

SPEC = MetricSpec(name="{name}", network=Network, kind="FR", lower_is_better=True, summary="from {project}")
"""

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{project}"
version = "1.2"
[project.entry-points."iqazoo.metrics"]
{points}
[tool.setuptools]
py-modules = ["{module}"]
"""


def install(folder: Path, project: str, code: str, *names: str) -> Path:
    """Install a distribution whose module holds `code` and which declares `names`; gives the folder for sys.path."""
    source, target = folder / f"{project}-source", folder / project
    module = project.replace("-", "_")
    source.mkdir(parents=True)
    points = "\n".join(f'"{name}" = "{module}:SPEC"' for name in names)
    (source / "pyproject.toml").write_text(PYPROJECT.format(project=project, module=module, points=points))
    (source / f"{module}.py").write_text(code)
    install_project(source, target)
    return target


def install_project(source: Path, target: Path) -> None:
    """Let pip install a project into a folder for sys.path; nothing is downloaded."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)


def declare(folder: Path, project: str, points: Mapping[str, str]) -> None:
    """Write what an installed distribution says of itself and none of its code, as an editable install does.

    Args:
        folder: of sys.path.
        project: the distribution's name.
        points: from the metric's name to "module:SPEC".
    """
    about = folder / f"{project.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\n")
    lines = [f"{name} = {target}" for name, target in points.items()]
    (about / "entry_points.txt").write_text("\n".join(["[iqazoo.metrics]", *lines]))
