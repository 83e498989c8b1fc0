"""The text of `--augment` -> an `Augmentation`. The text is a comma list of names and files:

    crop  flip  vflip  rotate90  zoom(0.5, 1)    built-in operations, applied while cropping (data/batches/sampling.py)
    colour  affine(degrees=5)                    transforms that plugins register with `register_augmentations`
    mine.toml  mine.json  mine.yaml              files of transforms (transforms.py)
    none                                         no augmentation

The built-in operations come first, then the transforms of albumentations, in the loader's threads, then those of
kornia, on the device; each in the order of the list. All images of a training example get the same draws. Label images
get the geometry only, and their values are never blended.

torch and the two libraries are imported only if there are transforms.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from translate.data.augmentation.transforms import Transform, build, read
from translate.errors import TranslateError, UsageError, did_you_mean
from translate.plugins import registry
from translate.spec_parsing import Call, parse_call, split_list

if TYPE_CHECKING:
    from translate.data.augmentation.albumentations_pipeline import AlbumentationsPipeline
    from translate.data.augmentation.kornia_pipeline import KorniaPipeline

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations would contact PyPI when it is imported

BUILT_IN = {"crop": "crop", "flip": "flip", "vflip": "vflip", "rotate90": "rotate90", "zoom": "zoom(0.5, 1)"}
"""The built-in operations, and how each is written."""
FILES = (".toml", ".json", ".yaml", ".yml")


@dataclass(frozen=True)
class Augmentation:
    """What `--augment` asks for.

    built_in: arguments of the built-in operations by name: none of crop, flip, vflip and rotate90; of zoom the smallest
    and the largest side of the crop, as shares of the image's side.
    albumentations, kornia: the transforms of each library; None if there are none.
    """

    built_in: dict[str, tuple[float, ...]]
    albumentations: AlbumentationsPipeline | None
    kornia: KorniaPipeline | None


def parse(text: str) -> Augmentation:
    """Build what a text asks for. Raises UsageError for anything that is unknown, unreadable or has a bad option."""
    items = split_list(text)
    if not items:
        raise UsageError("The augmentation is empty; write none for none, or a list as in crop,flip.")
    built_in: dict[str, tuple[float, ...]] = {}
    transforms: list[Transform] = []
    for item in items if items != ["none"] else []:
        call = parse_call(item)
        if item.lower().endswith(FILES):
            transforms += read(item)
        elif call is None:
            raise UsageError(
                f"{item!r} is no augmentation: write a name, with options as in affine(degrees=10), or a file "
                f"({', '.join(FILES)})."
            )
        elif call.name not in BUILT_IN:
            transforms.append(_registered(item, call))
        elif call.name in built_in:
            raise UsageError(f"The augmentation {call.name} comes twice in {text!r}; write it once.")
        else:
            built_in[call.name] = _built_in_arguments(call)
    albumentations = kornia = None
    if own := [transform for transform in transforms if transform.library == "albumentations"]:
        from translate.data.augmentation.albumentations_pipeline import AlbumentationsPipeline

        albumentations = AlbumentationsPipeline(own)
    if own := [transform for transform in transforms if transform.library == "kornia"]:
        from translate.data.augmentation.kornia_pipeline import KorniaPipeline

        kornia = KorniaPipeline(own)
    return Augmentation(built_in, albumentations, kornia)


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
    """The sha256 of each file that a text names, by name: a run's augmentation depends on their content."""
    files = [item for item in split_list(text) if item.lower().endswith(FILES)]
    return {file: hashlib.sha256(Path(file).expanduser().read_bytes()).hexdigest() for file in files}


def _built_in_arguments(call: Call) -> tuple[float, ...]:
    if call.name != "zoom":
        if call.arguments or call.options:
            raise UsageError(f"The augmentation {call.name} has no options; write {call.name} alone.")
        return ()
    numbers = [each for each in call.arguments if isinstance(each, int | float) and not isinstance(each, bool)]
    if call.options or len(numbers) != 2 or len(call.arguments) != 2 or not 0 < numbers[0] <= numbers[1] <= 1:
        raise UsageError(
            "zoom takes the smallest and the largest side to cut out, as shares of the image's side; "
            f"write {BUILT_IN['zoom']}."
        )
    return float(numbers[0]), float(numbers[1])


def _registered(item: str, call: Call) -> Transform:
    """The transform of a name that a plugin registered."""
    known = registry.augmentations()
    if call.name == "none":
        raise UsageError("none goes with no other augmentation; leave one of them out.")
    if call.name not in known:
        raise UsageError(
            f"There is no augmentation {call.name!r}. {did_you_mean(call.name, [*BUILT_IN, *known, 'none'])}"
        )
    return build(item, known[call.name], call)
