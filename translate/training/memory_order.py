"""Views of tensors with their axes in the order of memory, as a fused optimizer needs them.

On the CPU a fused optimizer copies parameters that are not contiguous, such as weights in channels_last. A view whose
axes follow the parameter's memory is contiguous and shares that memory, so that nothing is copied.
"""

from __future__ import annotations

from functools import cache

from torch import Tensor


def to_memory_order(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A view with the axes in the order of the parameter's memory; contiguous if the strides are the parameter's."""
    return tensor.permute(_axes(parameter.stride()))


def from_memory_order(tensor: Tensor, parameter: Tensor) -> Tensor:
    """The inverse of `to_memory_order`: a view with the axes in the parameter's own order."""
    axes = _axes(parameter.stride())
    return tensor.permute(sorted(range(len(axes)), key=axes.__getitem__))


@cache
def _axes(strides: tuple[int, ...]) -> list[int]:
    """The axes of a tensor with these strides in the order of its memory, the slowest first."""
    return sorted(range(len(strides)), key=strides.__getitem__, reverse=True)
