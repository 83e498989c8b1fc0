"""Decoded images in the cache folder: built once, then mapped into memory by every process that trains on them.

stores/HASH/0.pixels           the flat buffer of the first domain; 1.pixels: of the second
stores/HASH/index.safetensors  the offset, height and width of each image; in the metadata, which files failed
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import threading
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from translate.cache import cache_folder, made_once
from translate.data.batches.decoding import DecodePlan, DecodeResult, copy_planes, decode_files
from translate.data.batches.store import Store
from translate.errors import DataError
from translate.formatting import format_bytes

VERSION = 1  # of the content of the cache folder


@dataclass(frozen=True)
class CachedStore:
    """Decoded images in the cache folder.

    title: where their files are. images: how many. nbytes: on disk. used: when they were last used, in seconds.
    """

    path: Path
    title: str
    images: int
    nbytes: int
    used: float


def cached_stores() -> list[CachedStore]:
    """What is in the cache folder, the last used first."""
    found = []
    for folder in _folder().iterdir() if _folder().is_dir() else ():
        if (index := folder / "index.safetensors").is_file() and not folder.name.startswith("."):
            about = _read_about(index)
            nbytes = sum(path.stat().st_size for path in folder.iterdir())
            found.append(CachedStore(folder, about["title"], about["images"], nbytes, index.stat().st_mtime))
    return sorted(found, key=lambda each: -each.used)


def clear_cached_stores() -> None:
    """Delete all of them, and what killed processes left unfinished."""
    shutil.rmtree(_folder(), ignore_errors=True)


def decode_into_cache(plan: DecodePlan) -> DecodeResult:
    """The stores of a plan, mapped from the cache folder. If they are not there, one process decodes them for all.

    Raises DataError if there is no room on the disk, and as `decode_into_memory` does.
    """
    folder = made_once(_folder() / _key(plan), partial(_build, plan))
    index = folder / "index.safetensors"
    os.utime(index)
    about = _read_about(index)
    stores = [_mapped(domain.store, folder / f"{i}.pixels") for i, domain in enumerate(plan.domains)]
    value_ranges = [(low, high) for low, high in about["extremes"]]
    return DecodeResult(stores, value_ranges, {int(row): reason for row, reason in about["failures"].items()})


def _folder() -> Path:
    return cache_folder() / "stores"


def _key(plan: DecodePlan) -> str:
    """A hash of all that the pixels depend on. Files count by their names, sizes and dates."""
    files = [(os.path.abspath(entry.origin), entry.size, entry.modified) for entry in plan.entries]
    irrelevant = {"name", "title", "size", "value_range", "classes"}
    specs = [domain.spec.model_dump(mode="json", exclude=irrelevant) for domain in plan.domains]
    shapes = [[extent[1:] for extent in domain.store.extents] for domain in plan.domains]
    content = json.dumps([VERSION, files, specs, shapes], sort_keys=True)
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:20]


def _read_about(index: Path) -> Any:
    with safe_open(index, "pt") as file:
        return json.loads(file.metadata()["about"])


def _mapped(store: Store, path: Path) -> Store:
    """A store over a file, mapped for reading only: a writable map larger than the memory would be refused."""
    if path.stat().st_size == 0:
        return store.with_buffer(torch.empty_like(store.flat, device="cpu"))
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)  # a crop needs some rows of one image, and not what lies behind them
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")  # and nobody writes to it
        flat = torch.frombuffer(mapping, dtype=store.flat.dtype)
    return store.with_buffer(flat, mapping)


def _build(plan: DecodePlan, folder: Path) -> None:
    """Decode a plan into a folder."""
    free = shutil.disk_usage(folder).free
    if plan.num_bytes > 0.95 * free:
        raise DataError(
            f"The decoded images need {format_bytes(plan.num_bytes)} in {folder.parent}, and {format_bytes(free)} are "
            "free there; set TRANSLATE_CACHE to another folder, lower --load-size or --size, or use fewer images."
        )
    stores = [domain.store for domain in plan.domains]
    lock = threading.Lock()
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{i}.pixels").open("wb")) for i in range(len(stores))]
        for file, store in zip(files, stores, strict=True):
            file.truncate(store.flat.nbytes)

        def write(i: int, row: int, image: Tensor) -> None:
            planes = torch.empty(image.shape, dtype=image.dtype)
            copy_planes(image, planes)
            with lock:
                files[i].seek(stores[i].extents[row].offset * image.itemsize)
                files[i].write(planes.numpy().data)

        value_ranges, failures = decode_files(plan, write)
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    # The names in the index are part of the format: "extremes" are value ranges, "places" are extents.
    about = {"title": plan.location, "images": len(plan.entries), "extremes": value_ranges, "failures": failures}
    extents = {f"places.{i}": torch.tensor(store.extents, dtype=torch.int64) for i, store in enumerate(stores)}
    save_file(extents, folder / "index.safetensors", {"about": json.dumps(about)})
