"""The environment variables that iqazoo reads at run time, all of them, in one place.

The two that steer the build (`IQAZOO_BUILD_EXT`, `IQAZOO_BUILD_CUDA`) are read by setup.py.
"""

import os
from pathlib import Path

from iqazoo.errors import InputError

VARIABLES = {
    "IQAZOO_CACHE": "folder for downloaded weights and decoded images (default: the user's cache folder)",
    "IQAZOO_OFFLINE": "1: never touch the network",
    "IQAZOO_WEIGHTS_MIRROR": "folder or URL prefix that is asked for a weight file before its own URL",
    "IQAZOO_CPU_LEVEL": "baseline: never use the AVX2 kernels (default: auto, by what the processor has)",
    "IQAZOO_BUILD_EXT": "at install: auto, 0 (no kernels) or 1 (a failing build fails the install)",
    "IQAZOO_BUILD_CUDA": "at install: auto (when nvcc is found), 0 or 1",
}


def cache_folder() -> Path:
    """Where downloaded files and decoded images are kept: `IQAZOO_CACHE`, else the user's cache folder."""
    import pooch

    chosen = os.environ.get("IQAZOO_CACHE")
    return Path(chosen).expanduser() if chosen else Path(pooch.os_cache("iqazoo"))


def offline() -> bool:
    """Whether `IQAZOO_OFFLINE` forbids every download."""
    return os.environ.get("IQAZOO_OFFLINE", "0").strip().lower() not in ("", "0", "false", "no")


def weights_mirror() -> str | None:
    """The folder or URL prefix of `IQAZOO_WEIGHTS_MIRROR`, or None."""
    return os.environ.get("IQAZOO_WEIGHTS_MIRROR") or None


def torch_checkpoints_folder() -> Path:
    """torch.hub's checkpoint folder, found by the rule of torch.hub without importing torch."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(caches, "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def cpu_level() -> str:
    """Which kernels to use on the CPU: "auto" or "baseline".

    Raises:
        InputError: `IQAZOO_CPU_LEVEL` is neither.
    """
    level = os.environ.get("IQAZOO_CPU_LEVEL") or "auto"
    if level not in ("auto", "baseline"):
        raise InputError(f"IQAZOO_CPU_LEVEL must be auto or baseline; got {level!r}")
    return level
