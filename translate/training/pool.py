"""A pool of past fakes for the discriminators, as tensors on the device."""

from __future__ import annotations

import torch
from torch import Tensor


class ImagePool:
    """Gives a discriminator a mix of new and past fakes.

    Shrivastava et al., Learning from Simulated and Unsupervised Images through Adversarial Training, CVPR 2017,
    arXiv:1612.07828, section 2.3, in the form of CycleGAN: until the pool is full a new image is stored and returned;
    from then on, with probability ½, it replaces a random stored one, which is returned in its place.

    The images of a batch go through one after the other, as in batches of one, but all decisions are tensors: nothing
    waits for the device.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: Tensor | None = None  # (size, C, H, W), allocated by the first batch
        self.count: Tensor | None = None  # images stored so far, int64 (1,)

    def __call__(self, images: Tensor) -> Tensor:
        """images: (N, C, H, W), detached; returns the same shape. Draws from torch's generator of the device."""
        if self.size == 0:
            return images
        if self.images is None or self.count is None:
            self.images = images.new_zeros((self.size, *images.shape[1:]))
            self.count = torch.zeros(1, dtype=torch.int64, device=images.device)
        slots = torch.randint(self.size, (len(images), 1), device=images.device)
        swaps = torch.rand(len(images), 1, device=images.device) < 0.5
        chosen = zip(images.chunk(len(images)), slots, swaps, strict=True)
        return torch.cat([self._exchange(image, slot, swap) for image, slot, swap in chosen])

    def _exchange(self, image: Tensor, slot: Tensor, swap: Tensor) -> Tensor:
        assert self.images is not None
        assert self.count is not None
        filling = self.count < self.size
        slot = torch.where(filling, self.count, slot)
        stored = self.images.index_select(0, slot)
        shown = torch.where(swap & ~filling, stored, image)
        self.images.index_copy_(0, slot, torch.where(swap | filling, image, stored))
        self.count += filling
        return shown

    def tensors(self) -> dict[str, Tensor]:
        """The state, by name; empty before the first batch."""
        return {} if self.images is None or self.count is None else {"images": self.images, "count": self.count}

    def load(self, tensors: dict[str, Tensor], device: torch.device) -> None:
        """Restore the state that `tensors` returned."""
        self.images = tensors["images"].to(device) if tensors else None
        self.count = tensors["count"].to(device) if tensors else None
