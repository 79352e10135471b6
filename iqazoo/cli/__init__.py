"""The command line: `iqazoo COMMAND`. One file per command; data goes to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence

from iqazoo.errors import AmbiguousMetric, InputError, IqazooError, UnknownMetric

USAGE_ERRORS = (AmbiguousMetric, InputError, UnknownMetric)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after `iqazoo`; those of the process where None.

    Returns:
        The exit code: 0 all went well, 1 some rows or metrics failed, 2 the command was not understood.
    """
    from tyro.extras import SubcommandApp

    from iqazoo.cli import check, data, env, eval, fit, info, list, new_plugin, plugins, score, train, weights

    if isinstance(sys.stdout, io.TextIOWrapper):  # an arrow or a file's name must not end the run
        sys.stdout.reconfigure(errors="backslashreplace")
    app = SubcommandApp()
    for command in (list, info, score, train, eval, data, fit, plugins, new_plugin, check, weights, env):
        app.command(name=command.__name__.rsplit(".", 1)[-1].replace("_", "-"))(command.run)
    words = sys.argv[1:] if arguments is None else [*arguments]
    try:
        if words[:1] == ["train"]:  # its options depend on the metric
            code = train.main(words[1:])
        else:
            code = app.cli(prog="iqazoo", description="Image-quality metrics.", args=arguments)
        sys.stdout.flush()  # while an error can still be told
        return code
    except IqazooError as error:
        print(f"iqazoo: {error}", file=sys.stderr)
        return 2 if isinstance(error, USAGE_ERRORS) else 1
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # else the reader, such as `head`, had enough
            print(f"iqazoo: {error}", file=sys.stderr)
        with contextlib.suppress(OSError):  # what is left in the buffer cannot be written
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
