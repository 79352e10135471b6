"""Networks and modules that several metrics share; `LinearAttention` is one for your own."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iqazoo.nets.linear_attention import LinearAttention

__all__ = ["LinearAttention"]


def __getattr__(name: str) -> Any:
    # On first use: importing this package must not import torch.
    if name == "LinearAttention":
        from iqazoo.nets.linear_attention import LinearAttention

        return LinearAttention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
