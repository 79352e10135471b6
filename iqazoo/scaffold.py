"""A new plugin, written out of `templates/plugin`: a project whose tests pass at once. No torch here.

The templates of `both` and of the metric's kind are `string.Template`s. Each bears the path of the file that it
becomes and the suffix `.template`; the folder `package` becomes the package.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from iqazoo import registry
from iqazoo.atomic import new_folder
from iqazoo.errors import InputError
from iqazoo.metric_spec import NAME, TAKEN

Kind = Literal["FR", "NR"]
TEMPLATES = Path(__file__).parent / "templates" / "plugin"
SUFFIX = ".template"


def write_plugin(name: str, kind: Kind = "FR", folder: Path | None = None) -> Path:
    """Write a project that adds one metric; the folder appears when all is written.

    Args:
        name: of the metric.
        kind: "FR" compares an image with a reference, "NR" judges an image alone.
        folder: where to write; `iqazoo-NAME` in the working folder where None.

    Returns:
        The folder.

    Raises:
        InputError: no metric can have that name, another has it, or there is such a folder.
        OSError: the folder cannot be written.
    """
    distribution = distribution_of(name)
    target = Path(distribution) if folder is None else folder
    if target.exists() or target.is_symlink():
        raise InputError(f"expected a folder that does not exist, got {target}; choose another, or remove it")
    words = {
        "name": name,
        "distribution": distribution,
        "package": distribution.replace("-", "_"),
        "version": ".".join(version("iqazoo").split(".")[:2]),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with new_folder(target) as made:
            for path, text in rendered(kind, words):
                (made / path).parent.mkdir(parents=True, exist_ok=True)
                (made / path).write_text(text, encoding="utf-8")
    except FileExistsError:
        raise InputError(f"{target} was made by somebody else meanwhile; choose another folder") from None
    return target


def distribution_of(name: str) -> str:
    """The name of the distribution for a new metric, such as `iqazoo-my-metric`.

    Raises:
        InputError: no metric can have that name, or another metric or distribution has it.
    """
    if not NAME.fullmatch(name) or name in TAKEN:
        raise InputError(
            f"a metric's name has lower case letters, digits and _ + . -, begins with a letter or digit, and is none "
            f"of {', '.join(TAKEN)}; got {name!r}"
        )
    # Whether a variable disables them or not: it need not be set where the new metric is used.
    for entry in registry.declared():
        if entry.name == name:
            raise InputError(f"{entry.distribution} has a metric {name!r} already; choose another name")
    distribution = f"iqazoo-{re.sub('[^a-z0-9]+', '-', name).strip('-')}"
    if any(entry.distribution == distribution for entry in registry.declared()):
        raise InputError(f"the metric {name!r} would be of {distribution}, which is installed; choose another name")
    return distribution


def rendered(kind: Kind, words: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    """The files of a plugin: where each is in the project, and what it holds.

    Args:
        kind: of the metric.
        words: what the templates name.
    """
    for root in (TEMPLATES / "both", TEMPLATES / kind):
        for template in sorted(root.rglob(f"*{SUFFIX}")):
            path = template.relative_to(root).with_suffix("")
            text = string.Template(template.read_text(encoding="utf-8")).substitute(words)
            yield Path(*(words["package"] if part == "package" else part for part in path.parts)), text
