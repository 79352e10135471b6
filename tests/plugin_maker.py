"""Really installed throw-away distributions for the tests of the registry."""

import subprocess
import sys
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
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    return target
