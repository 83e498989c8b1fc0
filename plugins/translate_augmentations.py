"""Augmentations by name, as in `--augment "crop,flip,colour(hue=0.1),affine"`.

Each comes from the library that does it better. albumentations runs in the loader's threads. On a CPU its colour, blur,
compression and elastic warps are 4 to 20 times as fast as those of kornia; and kornia draws noise on the CPU, whatever
the device. kornia runs on the device, where one resampling of the whole batch is cheap. Images are mirrored at their
borders, because a discriminator soon recognises black corners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

import translate

Share = Annotated[float, Field(ge=0, le=1)]
"""The type of p: the share of images that an augmentation is applied to."""
Strength = Annotated[float, Field(ge=0, le=1)]


def colour(
    brightness: Strength = 0.2,
    contrast: Strength = 0.2,
    saturation: Strength = 0.2,
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.05,
    p: Share = 1.0,
) -> Any:
    """Factors of 1 ± each strength, and a hue shift of up to ± `hue` turns. albumentations: 17 times kornia's rate."""
    import albumentations  # type: ignore[import-untyped]

    return albumentations.ColorJitter(
        *((1 - strength, 1 + strength) for strength in (brightness, contrast, saturation)), (-hue, hue), p=p
    )


def affine(
    degrees: Annotated[float, Field(ge=0, le=180)] = 10.0,
    translate: Strength = 0.05,
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.95, 1.05),
    p: Share = 1.0,
) -> Any:
    """Rotates by up to ± degrees, moves by up to that share of the sides, scales. kornia: once for the whole batch."""
    import kornia.augmentation

    return kornia.augmentation.RandomAffine(degrees, (translate, translate), scale, padding_mode="reflection", p=p)


def perspective(scale: Annotated[float, Field(ge=0, le=0.4)] = 0.1, p: Share = 1.0) -> Any:
    """Moves the corners by up to about that share of the sides. albumentations: kornia leaves black borders."""
    import albumentations
    import cv2

    return albumentations.Perspective((0, scale), border_mode=cv2.BORDER_REFLECT_101, p=p)


def blur(sigma: Annotated[float, Field(gt=0, le=20)] = 2.0, p: Share = 0.5) -> Any:
    """Gaussian blur with a standard deviation of up to `sigma` pixels. albumentations: 8 times kornia's rate."""
    import albumentations

    return albumentations.GaussianBlur(blur_limit=0, sigma_limit=(min(0.1, sigma), sigma), p=p)


def noise(deviation: Annotated[float, Field(gt=0, le=1)] = 0.05, p: Share = 0.5) -> Any:
    """Gaussian noise of up to that deviation, as a share of white. albumentations: kornia draws it on the CPU, too."""
    import albumentations

    return albumentations.GaussNoise(std_range=(0, deviation), p=p)


def compression(quality: tuple[int, int] = (40, 95), p: Share = 0.5) -> Any:
    """JPEG artefacts of a quality drawn from that range. albumentations: 20 times kornia's rate."""
    import albumentations

    return albumentations.ImageCompression(quality_range=quality, p=p)


def elastic(
    strength: Annotated[float, Field(ge=0)] = 60.0, smoothness: Annotated[float, Field(gt=0)] = 8.0, p: Share = 1.0
) -> Any:
    """Warps by noise of that strength, smoothed by that deviation in pixels. albumentations: 4 times kornia's rate.

    Simard, Steinkraus, Platt: Best Practices for Convolutional Neural Networks, ICDAR 2003, section 2.
    """
    import albumentations
    import cv2

    return albumentations.ElasticTransform(strength, smoothness, border_mode=cv2.BORDER_REFLECT_101, p=p)


@translate.hookimpl
def register_augmentations(register: Callable[[str, Callable[..., Any]], None]) -> None:
    for factory in (colour, affine, perspective, blur, noise, compression, elastic):
        register(factory.__name__, factory)
