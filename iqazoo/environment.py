"""The environment variables that iqazoo reads at run time, all of them, in one place.

Those that steer the build (`IQAZOO_BUILD_EXT`, `IQAZOO_BUILD_CUDA`, `IQAZOO_CUDA_ARCHITECTURES`) are read by setup.py.
"""

import os
import re
from pathlib import Path

from iqazoo.errors import InputError

VARIABLES = {
    "IQAZOO_CACHE": "folder for downloaded weights and decoded images (default: the user's cache folder)",
    "IQAZOO_OFFLINE": "1: never touch the network",
    "IQAZOO_WEIGHTS_MIRROR": "folder or URL prefix that is asked for a weight file before its own URL",
    "IQAZOO_CPU_LEVEL": "baseline or avx2: the newest kernels to use (default: auto, by what the processor has)",
    "IQAZOO_PLUGINS": "the only distributions whose metrics are used, separated by commas (default: all)",
    "IQAZOO_DISABLE_PLUGINS": "distributions whose metrics are not used, separated by commas",
    "IQAZOO_BUILD_EXT": "at install: auto, 0 (no kernels) or 1 (a failing build fails the install)",
    "IQAZOO_BUILD_CUDA": "at install: auto (when nvcc is found), 0 or 1",
    "IQAZOO_CUDA_ARCHITECTURES": "at install: the GPUs to compile for, as in 80,90 (default: auto, all from 80 on)",
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
    """The newest kernels to use on the CPU: "auto", "avx2" or "baseline".

    Raises:
        InputError: `IQAZOO_CPU_LEVEL` is none of them.
    """
    level = os.environ.get("IQAZOO_CPU_LEVEL") or "auto"
    if level not in ("auto", "avx2", "baseline"):
        raise InputError(f"IQAZOO_CPU_LEVEL must be auto, avx2 or baseline; got {level!r}")
    return level


def normalised(distribution: str) -> str:
    """The name of a distribution as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", distribution.strip()).lower()


def disabled_by(distribution: str) -> str | None:
    """The variable that keeps a distribution's metrics from being used, or None.

    Args:
        distribution: its `normalised` name.
    """
    allowed = os.environ.get("IQAZOO_PLUGINS")
    if allowed is not None and distribution not in _names(allowed):
        return "IQAZOO_PLUGINS"
    return "IQAZOO_DISABLE_PLUGINS" if distribution in _names(os.environ.get("IQAZOO_DISABLE_PLUGINS", "")) else None


def _names(value: str) -> set[str]:
    return {normalised(name) for name in value.split(",") if name.strip()}
