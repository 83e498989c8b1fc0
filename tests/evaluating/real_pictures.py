"""Pictures to measure models against."""

import torch

from translate.data.files.writers import save

SIDE = 16


def pictures(count, seed=0, shape=(3, SIDE, SIDE)):
    """Pictures of a few colours each, dark rather than light: uint8 (count, *shape)."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, shape[0], 3, 3, generator=generator) ** 2
    smooth = torch.nn.functional.interpolate(corners, size=shape[1:], mode="bilinear")
    return (smooth * 255).round().to(torch.uint8)


def folder(path, images, names=None, suffix=".png"):
    """A folder with these images, named 00.png and so on."""
    path.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        save(image, path / f"{names[number] if names else f'{number:02}'}{suffix}")
    return path
