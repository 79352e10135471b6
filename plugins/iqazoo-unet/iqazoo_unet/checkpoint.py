"""The encoder's weights out of a diffusion U-Net's checkpoint."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from iqazoo import InputError, WeightsError
from iqazoo.state_dict import read_state_dict
from iqazoo_unet.network import UNet

FIRST = "init_conv.weight"  # every U-Net of this family has it
PARTS = ("init_conv.", "time_mlp.", "downs.", "mid_block1.", "mid_attn.", "mid_block2.")
AVERAGE = "ema_model"  # the moving average, better than what it is an average of
SHOWN = 12


def load_encoder(network: UNet, path: str | Path, *, prefix: str | None = None) -> None:
    """Fill the network's encoder with that of a U-Net as denoising-diffusion-pytorch names its parameters.

    What a checkpoint holds beside it is left out: the decoder (`ups.*`, `final_*`), the diffusion's constants, the
    optimizer. The heads stay as they are; train them.

    Args:
        network: of the checkpoint's `dim`, `dim_mults`, `heads` and `dim_head`, and as a rule of stride 1; left as it
            was if anything fails.
        path: of a .safetensors file or one of `torch.save`, from which only tensors are read. It may hold the U-Net,
            the diffusion around it, or all that a training run keeps.
        prefix: what is before "init_conv.weight" in the names, such as "model."; found if not given, and the moving
            average's where there is one.

    Raises:
        InputError: there are several U-Nets in the file and no prefix to choose by.
        WeightsError: the file cannot be read, there is no U-Net in it, or parameters are missing, unknown or of
            another shape; all of them are named.
    """
    path = Path(path).expanduser()
    found = dict(_tensors(_read(path)))
    prefix = _prefix(found, path) if prefix is None else prefix
    theirs = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    theirs = {name: tensor for name, tensor in theirs.items() if name.startswith(PARTS)}
    complaints = [*_complaints(network.trunk.state_dict(), theirs)]
    if complaints:
        raise WeightsError(f"{path} does not fit this encoder.\n" + "\n".join(complaints))
    network.trunk.load_state_dict(theirs)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return read_state_dict(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}. Give the path of a checkpoint") from error
    except Exception as error:  # a broken file makes torch raise almost anything
        # Without torch's own words, which recommend weights_only=False: that would run what the file holds.
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors and plain values, which is never run "
            f"({type(error).__name__}). Save its state dict alone"
        ) from error


def _tensors(value: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of nested mappings, by their names joined with dots."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _tensors(inner, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(value, Tensor):
        yield prefix, value


def _prefix(found: Mapping[str, Tensor], path: Path) -> str:
    prefixes = [name.removesuffix(FIRST) for name in found if name == FIRST or name.endswith(f".{FIRST}")]
    if not prefixes:
        raise WeightsError(f"{path} holds no U-Net: expected a parameter {FIRST!r}, found {_some([*found])}")
    averages = [prefix for prefix in prefixes if AVERAGE in prefix.split(".")]
    chosen = averages or prefixes
    if len(chosen) > 1:
        raise InputError(f"{path} holds several U-Nets; choose one by prefix=, of {', '.join(map(repr, chosen))}")
    return chosen[0]


def _complaints(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> Iterator[str]:
    missing = [name for name in ours if name not in theirs]
    unknown = [name for name in theirs if name not in ours]
    both = [name for name in ours if name in theirs and ours[name].shape != theirs[name].shape]
    shapes = [f"{name} {list(theirs[name].shape)} instead of {list(ours[name].shape)}" for name in both]
    if missing:
        yield f"Missing in the file: {_some(missing)}"
    if unknown:
        yield f"Not in the encoder: {_some(unknown)}"
    if shapes:
        yield f"Of another shape: {_some(shapes)}"
    if any(".mlp." in name or name.startswith("time_mlp.") for name in unknown):
        yield "The file has a time embedding: take with_time_emb=True."
    if any(name.endswith((".norm.g", ".norm.weight")) and ".block" in name for name in [*missing, *unknown]):
        yield 'Blocks have another norm: take block_norm="rms" for norm.g, "group" for norm.weight.'
    if shapes:
        yield "Sizes follow from dim, dim_mults, heads and dim_head."


def _some(names: list[str]) -> str:
    rest = len(names) - SHOWN
    return (", ".join(names[:SHOWN]) or "nothing") + (f" and {rest} more" if rest > 0 else "")
