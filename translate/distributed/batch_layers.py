"""Layers that compare the images of a batch, on the batch of all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from translate.distributed.group import Group


class SyncedBatchLayers:
    """Makes batch norms, and modules with `couples_batch`, below a module see the batch of all ranks.

    They do so inside `active()`, where all ranks call the networks alike; outside they see what they are given.
    """

    def __init__(self, module: nn.Module, group: Group) -> None:
        self.group = group
        self._active = False
        if group.world_size > 1:
            self._sync_children(module)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Inside, the layers see the batch of all ranks."""
        self._active = True
        try:
            yield
        finally:
            self._active = False

    def _sync_children(self, module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, _BatchNorm):

                def forward(norm: _BatchNorm, images: Tensor) -> Tensor:
                    synced = self._active and norm.training
                    return self._batch_norm(norm, images) if synced else type(norm).forward(norm, images)

                # A method, so that a deep copy of the module has its own.
                child.forward = MethodType(forward, child)  # type: ignore[method-assign]
            elif getattr(child, "couples_batch", False):
                child.register_forward_pre_hook(self._gather_inputs)
                child.register_forward_hook(self._own_outputs)
            else:
                self._sync_children(child)

    def _gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, (world_size, …); can be differentiated twice."""
        rank, world_size = self.group.rank, self.group.world_size
        own = [tensor if each == rank else torch.zeros_like(tensor) for each in range(world_size)]
        total: Tensor = _AllReduceSum.apply(torch.stack(own))
        return total

    def _batch_norm(self, norm: _BatchNorm, images: Tensor) -> Tensor:
        """Ioffe and Szegedy, ICML 2015, arXiv:1502.03167, Algorithm 1, on the batch of all ranks; one all-reduce.

        images: (N, C, …), the same N on each rank. Statistics are float32.
        """
        axes, shape = [0, *range(2, images.dim())], [1, -1, *[1] * (images.dim() - 2)]
        precise = images.float()
        count = precise.numel() // precise.shape[1] * self.group.world_size  # values a channel
        own = torch.stack([precise.mean(axes), precise.var(axes, correction=0)])
        means, variances = self._gather(own).unbind(1)  # each (world_size, C)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
            norm.num_batches_tracked += 1
            weight = 1 / norm.num_batches_tracked.to(mean) if norm.momentum is None else norm.momentum
            norm.running_mean.lerp_(mean.detach(), weight)
            norm.running_var.lerp_(variance.detach() * (count / max(count - 1, 1)), weight)
        scale = (variance + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight)
        offset = torch.zeros_like(mean) if norm.bias is None else norm.bias
        return ((precise - mean.view(shape)) * scale.view(shape) + offset.view(shape)).to(images.dtype)

    def _gather_inputs(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._active:
            return inputs
        return tuple(self._gather(each.float()).flatten(0, 1).to(each.dtype) for each in inputs)

    def _own_outputs(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        return output.chunk(self.group.world_size)[self.group.rank] if self._active else output


class _AllReduceSum(torch.autograd.Function):
    """The sum over the ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _AllReduceSum.apply(gradient)
