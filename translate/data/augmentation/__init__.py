"""What `--augment` says: a comma list of hot words, names that plugins registered, and files.

    crop  flip  vflip  rotate90  zoom(0.5, 1)    hot: batched tensor code on the stored pixels (sampling.py)
    colour  affine(degrees=5)                    what `register_augmentations` offers
    mine.toml  mine.json  mine.yaml              transforms of both libraries; what `albumentations.save` wrote
    none                                         nothing

Hot words come first, then the transforms of albumentations, in the loader's threads (host.py), then those of kornia, on
the device (device.py), each in the order in which they are written. All views of a training example get the same draws;
label images get the geometry alone, and no two of their values are ever blended.

This module imports torch only if there is more than hot words.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from translate.errors import TranslateError, UsageError, did_you_mean
from translate.spec_parsing import Call, parse_call, split_list

if TYPE_CHECKING:
    from torch import Tensor

    from translate.data.augmentation.building import Transform

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # before anything imports it: it would ask PyPI at import

HOT = {"crop": "crop", "flip": "flip", "vflip": "vflip", "rotate90": "rotate90", "zoom": "zoom(0.5, 1)"}
"""The hot words, and how each is written."""
FILES = (".toml", ".json", ".yaml", ".yml")


class Augmentation:
    """What `--augment` asks for.

    hot: the hot words that occur, with their arguments: crop, flip, vflip and rotate90 have none; zoom has the smallest
    and the largest side of the part that is cut out, as shares of the image's side.
    """

    def __init__(self, hot: dict[str, tuple[float, ...]], transforms: Iterable[Transform] = ()) -> None:
        self.hot = hot
        self._host, self._device = None, None
        listed = list(transforms)
        on_host = [each for each in listed if each.library == "albumentations"]
        on_device = [each for each in listed if each.library == "kornia"]
        if on_host:
            from translate.data.augmentation.host import Host

            self._host = Host(on_host)
        if on_device:
            from translate.data.augmentation.device import Device

            self._device = Device(on_device)

    @property
    def has_host(self) -> bool:
        """Whether `on_host` does anything."""
        return self._host is not None

    @property
    def has_device(self) -> bool:
        """Whether `on_device` does anything."""
        return self._device is not None

    def on_host(
        self, images: Sequence[Tensor], kinds: Sequence[str], seed: int, ranges: Sequence[tuple[float, float]]
    ) -> list[Tensor]:
        """One training example through the transforms of albumentations; for the loader's threads, all at once.

        images: its aligned views, (C, H, W) uint8, uint16 or float32 each, with one H and W; kinds: "images" or
        "labels" for each; ranges: the values that are black and white in each, by which colours are changed. The result
        has the same shapes and dtypes, and depends on the arguments alone. Raises DataError, naming the transform, if
        it does not go with such images.
        """
        return self._host(images, kinds, seed, ranges) if self._host else list(images)

    def on_device(self, batches: Sequence[Tensor], kinds: Sequence[str], seed: int) -> list[Tensor]:
        """A batch through the transforms of kornia; for one thread only, as kornia draws from torch's own generators.

        batches: its aligned views, (N, C, H, W) float32 in [-1, 1] each, on one device; kinds: "images" or "labels" for
        each. Every row has its own draws, the same in all views. The result has the same shapes and range, and depends
        on the arguments alone; the generators' states are left as they were. Raises DataError as `on_host` does.
        """
        return self._device(batches, kinds, seed) if self._device else list(batches)


def parse(text: str) -> Augmentation:
    """Build what a text asks for. Raises UsageError for anything that is unknown, unreadable or has a bad option."""
    items = split_list(text)
    if not items:
        raise UsageError("The augmentation is empty; write none for none, or a list as in crop,flip.")
    hot: dict[str, tuple[float, ...]] = {}
    transforms: list[Transform] = []
    for item in items if items != ["none"] else []:
        call = parse_call(item)
        if item.lower().endswith(FILES):
            from translate.data.augmentation.building import read

            transforms += read(item)
        elif call is not None and call.name in HOT:
            if call.name in hot:
                raise UsageError(f"The augmentation {call.name} comes twice in {text!r}; say it once.")
            hot[call.name] = _hot_arguments(call)
        elif call is not None:
            transforms.append(_registered(item, call))
        else:
            raise UsageError(
                f"{item!r} is no augmentation: write a name, with options as in affine(degrees=10), or a file "
                f"({', '.join(FILES)})."
            )
    return Augmentation(hot, transforms)


def check(text: str) -> None:
    """Raise ValueError if `parse` would fail."""
    try:
        parse(text)
    except TranslateError as error:
        raise ValueError(str(error)) from error


def crops(text: str) -> bool:
    """Whether a text cuts parts out of the images, so that these should be larger than what is trained on."""
    calls = map(parse_call, split_list(text))
    return any(call is not None and call.name in ("crop", "zoom") for call in calls)


def fingerprints(text: str) -> dict[str, str]:
    """The sha256 of each file that a text names, by name: what a run's augmentation depends on beside its options."""
    files = [item for item in split_list(text) if item.lower().endswith(FILES)]
    return {file: hashlib.sha256(Path(file).expanduser().read_bytes()).hexdigest() for file in files}


def _hot_arguments(call: Call) -> tuple[float, ...]:
    if call.name != "zoom":
        if call.arguments or call.options:
            raise UsageError(f"The augmentation {call.name} has no options; write {call.name} alone.")
        return ()
    numbers = [each for each in call.arguments if isinstance(each, int | float) and not isinstance(each, bool)]
    if call.options or len(numbers) != 2 or len(call.arguments) != 2 or not 0 < numbers[0] <= numbers[1] <= 1:
        raise UsageError(
            f"zoom takes the smallest and the largest side to cut out, as shares of the image's side; "
            f"write {HOT['zoom']}."
        )
    return float(numbers[0]), float(numbers[1])


def _registered(item: str, call: Call) -> Transform:
    from translate.plugins import registry

    known = registry.augmentations()
    if call.name == "none":
        raise UsageError("none goes with no other augmentation; leave one of them out.")
    if call.name not in known:
        raise UsageError(f"There is no augmentation {call.name!r}. {did_you_mean(call.name, [*HOT, *known, 'none'])}")
    from translate.data.augmentation.building import build

    return build(item, known[call.name], call)
