"""Every image decoded once, and kept: on the device, in memory, or in a mapped file in the cache folder.

A store is one flat buffer and a table of where each image lies in it, so that images may differ in size. Where the
buffer is makes no difference to those who read from it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from translate.cache import cache_folder, made_once
from translate.data.batches.preparing import Shape, as_domain, resized
from translate.data.domains import DomainSpec
from translate.data.files.readers import Opened, open_image
from translate.data.files.sources import Entry
from translate.data.images import cut
from translate.errors import DataError
from translate.formatting import format_bytes
from translate.progress import progress_bar
from translate.threads import in_parallel

DTYPES = {8: torch.uint8, 16: torch.int16, 32: torch.float32}
"""What images of each depth are kept as: 16 bits as they are, under the name of a type that torch can index."""
DEVICE_SHARE = 0.4  # the rest of a GPU's free memory is for the networks
MEMORY_SHARE = 0.5
TOUCHED = 256 * 2**20  # bytes of a mapped file that are held in memory before they are given back
VERSION = 1  # of what is in the cache folder

Put = Callable[[int, int, Tensor], None]


class Store:
    """The images of one domain.

    flat: all pixels, uint8, int16 (the bits of uint16) or float32, one image after the other, each (C, H, W).
    places: int64 (N, 3) on the CPU: where each image begins in `flat`, its height and its width.
    """

    def __init__(self, flat: Tensor, places: Tensor, channels: int, mapping: mmap.mmap | None = None) -> None:
        self.flat = flat
        self.places = places
        self.channels = channels
        self._rows: list[tuple[int, int, int]] = [(at, height, width) for at, height, width in places.tolist()]
        self._mapping = mapping
        self._touched = 0

    def __len__(self) -> int:
        return len(self._rows)

    def shape(self, row: int) -> Shape:
        """Height and width of an image."""
        return self._rows[row][1:]

    def image(self, row: int) -> Tensor:
        """One image, (C, H, W), without a copy."""
        at, height, width = self._rows[row]
        count = self.channels * height * width
        if self._mapping is not None:
            self._give_back(count * self.flat.itemsize)
        return self.flat[at : at + count].view(self.channels, height, width)

    def will_need(self, rows: Sequence[int]) -> None:
        """Have the system read images of a mapped file ahead, without waiting for it."""
        if self._mapping is None or not hasattr(mmap, "MADV_WILLNEED"):
            return
        for row in rows:
            at, height, width = self._rows[row]
            start = at * self.flat.itemsize
            length = self.channels * height * width * self.flat.itemsize
            page = start - start % mmap.PAGESIZE
            self._mapping.madvise(mmap.MADV_WILLNEED, page, start - page + length)

    def select(self, rows: Sequence[int]) -> Store:
        """The store of some of the images, over the same buffer."""
        if len(rows) == len(self):
            return self
        return Store(self.flat, self.places[list(rows)], self.channels, self._mapping)

    def to(self, device: torch.device) -> Store:
        """The same images on a device."""
        return Store(self.flat.to(device), self.places, self.channels)

    def _give_back(self, count: int) -> None:
        """Bound what a mapped file holds of the memory; what is given back is read from the file again if needed."""
        self._touched += count
        if self._touched > TOUCHED and hasattr(mmap, "MADV_DONTNEED"):
            assert self._mapping is not None
            self._touched = 0
            self._mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Plan:
    """What is to be kept of some files: each is read once, and gives one image to each of one or two domains.

    opened: files that are in memory already, by row.
    shapes: for each domain, the size of each file's image. failures: why some files cannot be used, by row.
    """

    title: str
    entries: tuple[Entry, ...]
    opened: Mapping[int, Opened]
    specs: tuple[DomainSpec, ...]
    shapes: tuple[tuple[Shape, ...], ...]
    failures: Mapping[int, str]

    def places(self, domain: int) -> Tensor:
        """Where each image of a domain begins in the buffer, its height and its width; 0 of files that fail."""
        shapes = torch.tensor(self.shapes[domain], dtype=torch.int64).reshape(-1, 2)
        counts = shapes.prod(1) * self.specs[domain].channels
        return torch.cat([(counts.cumsum(0) - counts)[:, None], shapes], 1)

    def elements(self, domain: int) -> int:
        """The length of a domain's buffer."""
        return self.specs[domain].channels * sum(height * width for height, width in self.shapes[domain])

    @property
    def nbytes(self) -> int:
        """What all buffers take."""
        return sum(self.elements(i) * DTYPES[spec.bit_depth].itemsize for i, spec in enumerate(self.specs))

    def key(self) -> str:
        """A name for what would be stored: it depends on all that the pixels do, the files by name, size and date."""
        files = [(os.path.abspath(entry.origin), entry.size, entry.modified) for entry in self.entries]
        specs = [
            spec.model_dump(mode="json", exclude={"name", "title", "size", "value_range", "classes"})
            for spec in self.specs
        ]
        about = json.dumps([VERSION, files, specs, self.shapes], sort_keys=True)
        return hashlib.sha256(about.encode("utf-8", "surrogateescape")).hexdigest()[:20]


@dataclass(frozen=True)
class Filled:
    """What became of a plan: a store a domain, the smallest and largest value in each, and why files failed."""

    stores: tuple[Store, ...]
    extremes: tuple[tuple[float, float], ...]
    failures: dict[int, str]


# Where --------------------------------------------------------------------------------------------------------------


def choose(kind: str, num_bytes: int, device: torch.device, budget: float | None) -> str:
    """Where so many bytes of images are kept: "device", "memory" or "disk".

    kind: "auto", or one of these. budget: gigabytes of memory, by default half of what is free, or of a process's share
    of it where torchrun has started several here, as each keeps all images. Raises DataError if they do not fit where
    they were asked to be.
    """
    on_device = DEVICE_SHARE * torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0.0
    free = available_memory()
    if free is not None:
        free //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    in_memory = budget * 1e9 if budget is not None else MEMORY_SHARE * free if free is not None else float("inf")
    if kind == "device" and device.type != "cuda":
        kind = "memory"
    limit = {"device": on_device, "memory": in_memory if budget is not None else 0.9 * (free or float("inf"))}
    if kind == "auto":
        return "device" if num_bytes <= on_device else "memory" if num_bytes <= in_memory else "disk"
    if num_bytes > limit.get(kind, float("inf")):
        raise DataError(
            f"The images need {format_bytes(num_bytes)}, and there is room for {format_bytes(int(limit[kind]))} with "
            f"--store {kind}; use --store disk, lower --load-size or --size, or use fewer images."
        )
    return kind


def available_memory() -> int | None:
    """Bytes of main memory that a process can still get, where the system says so."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def fill(plan: Plan, where: str, device: torch.device) -> Filled:
    """Decode all files of a plan with all cores, or take what is in the cache folder.

    where: what `choose` said. Raises DataError if there is no room, or for an image that cannot be matched without
    loss; files that cannot be read are in the result's failures.
    """
    if where == "disk":
        return _cached(plan)
    flats = [torch.empty(plan.elements(i), dtype=DTYPES[spec.bit_depth]) for i, spec in enumerate(plan.specs)]
    stores = [Store(flat, plan.places(i), plan.specs[i].channels) for i, flat in enumerate(flats)]

    def put(domain: int, row: int, image: Tensor) -> None:
        _copy_planes(image, stores[domain].image(row))

    extremes, failures = _decode(plan, put)
    if where == "device":
        stores = [store.to(device) for store in stores]
    return Filled(tuple(stores), extremes, failures)


def _decode(plan: Plan, put: Put) -> tuple[tuple[tuple[float, float], ...], dict[int, str]]:
    """Puts every image where it belongs; the extremes of each domain, and why files failed."""
    depth = max(spec.bit_depth for spec in plan.specs)

    def work(row: int) -> str | list[tuple[float, float]]:
        try:
            if row in plan.failures:
                return plan.failures[row]
            entry = plan.entries[row]
            try:
                opened = plan.opened.get(row) or open_image(entry.read(), entry.origin)
                pixels = opened.decode()
            except DataError as error:
                return str(error)
            found = []
            for domain, spec in enumerate(plan.specs):
                image = as_domain(cut(pixels, spec.part), spec, entry.origin)
                found.append(_extremes(image) if depth > 8 else (0.0, 255.0))  # before resizing overshoots them
                image = resized(image, plan.shapes[domain][row], spec)
                put(domain, row, image.view(torch.int16) if image.dtype == torch.uint16 else image)
            return found
        finally:
            advance()

    with progress_bar(f"reading {plan.title}", len(plan.entries)) as advance:
        results = in_parallel(work, range(len(plan.entries)))
    failures = {row: result for row, result in enumerate(results) if isinstance(result, str)}
    found = [result for result in results if not isinstance(result, str)]
    extremes = tuple(
        (min(each[i][0] for each in found), max(each[i][1] for each in found)) if found else (0.0, 255.0)
        for i in range(len(plan.specs))
    )
    return extremes, failures


def _copy_planes(image: Tensor, out: Tensor) -> None:
    """An image (C, H, W) to memory that holds one plane after the other.

    Decoders give the channels of a pixel together; OpenCV takes them apart four times as fast as torch copies them.
    """
    pixels = image.permute(1, 2, 0)  # (H, W, C)
    if image.dtype == torch.uint8 and len(image) in (3, 4) and pixels.is_contiguous():
        import cv2

        cv2.split(pixels.numpy(), list(out.numpy()))
    else:
        out.copy_(image)


def _extremes(image: Tensor) -> tuple[float, float]:
    low, high = (image.to(torch.int32) if image.dtype == torch.uint16 else image).aminmax()
    return float(low), float(high)


# In the cache folder ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """One store in the cache folder: what it is of, how many images and bytes, when it was last used (in seconds)."""

    path: Path
    title: str
    images: int
    nbytes: int
    used: float


def kept() -> list[Kept]:
    """The stores in the cache folder, the last used first."""
    found = []
    for folder in _folder().iterdir() if _folder().is_dir() else ():
        if (index := folder / "index.safetensors").is_file() and not folder.name.startswith("."):
            with safe_open(index, "pt") as file:
                about = json.loads(file.metadata()["about"])
            nbytes = sum(path.stat().st_size for path in folder.iterdir())
            found.append(Kept(folder, about["title"], about["images"], nbytes, index.stat().st_mtime))
    return sorted(found, key=lambda each: -each.used)


def clear() -> None:
    """Delete them all, with what killed processes left half-made."""
    shutil.rmtree(_folder(), ignore_errors=True)


def _folder() -> Path:
    return cache_folder() / "stores"


def _cached(plan: Plan) -> Filled:
    """The mapped stores of a plan, made if they are not there; of several processes one makes them."""
    final = made_once(_folder() / plan.key(), partial(_build, plan))
    index = final / "index.safetensors"
    os.utime(index)
    with safe_open(index, "pt") as file:
        about = json.loads(file.metadata()["about"])
        places = [file.get_tensor(f"places.{i}") for i in range(len(plan.specs))]
    stores = [
        _mapped(final / f"{i}.pixels", places[i], spec.channels, DTYPES[spec.bit_depth])
        for i, spec in enumerate(plan.specs)
    ]
    extremes = tuple((low, high) for low, high in about["extremes"])
    return Filled(tuple(stores), extremes, {int(row): reason for row, reason in about["failures"].items()})


def _mapped(path: Path, places: Tensor, channels: int, dtype: torch.dtype) -> Store:
    """A store over a file, which may be larger than the memory: a writable mapping would be refused then."""
    if path.stat().st_size == 0:
        return Store(torch.empty(0, dtype=dtype), places, channels)
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_RANDOM"):
        mapping.madvise(mmap.MADV_RANDOM)  # a crop needs some rows of one image, and not what lies behind them
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")  # and nobody writes to it
        flat = torch.frombuffer(mapping, dtype=dtype)
    return Store(flat, places, channels, mapping)


def _build(plan: Plan, folder: Path) -> None:
    """Decode a plan into a folder."""
    free = shutil.disk_usage(folder).free
    if plan.nbytes > 0.95 * free:
        raise DataError(
            f"The decoded images need {format_bytes(plan.nbytes)} in {folder.parent}, and {format_bytes(free)} are "
            "free there; set TRANSLATE_CACHE to another folder, lower --load-size or --size, or use fewer images."
        )
    places = [plan.places(i) for i in range(len(plan.specs))]
    lock = threading.Lock()
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{i}.pixels").open("wb")) for i in range(len(places))]
        for i, file in enumerate(files):
            file.truncate(plan.elements(i) * DTYPES[plan.specs[i].bit_depth].itemsize)

        def put(domain: int, row: int, image: Tensor) -> None:
            planes = torch.empty(image.shape, dtype=image.dtype)
            _copy_planes(image, planes)
            with lock:
                files[domain].seek(int(places[domain][row, 0]) * image.itemsize)
                files[domain].write(planes.numpy().data)

        extremes, failures = _decode(plan, put)
        for file in files:
            file.flush()
            os.fsync(file.fileno())
    about = {"title": plan.title, "images": len(plan.entries), "extremes": extremes, "failures": failures}
    tensors = {f"places.{i}": each for i, each in enumerate(places)}
    save_file(tensors, folder / "index.safetensors", {"about": json.dumps(about)})
