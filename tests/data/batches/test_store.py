import multiprocessing
import os
import shutil

import numpy
import pytest
import torch
from drawn_images import encoded

from translate.data.batches import cached_stores
from translate.data.batches import store as stores
from translate.data.batches.store import Extent, Store, choose_storage
from translate.data.loading import open_training_data
from translate.data.options import DataOptions
from translate.domains import Images, Paired, Unpaired
from translate.errors import DataError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("TRANSLATE_CACHE", str(folder))
    return folder / "stores"


def opened(folder, batch_spec=None, **options):
    options = {"size": 8, "images": str(folder), "store": "disk", "batch": 2, **options}
    return open_training_data(batch_spec or Images(), DataOptions(**options), CPU)


def batches(data, steps=7):
    with data:
        return torch.cat([torch.cat(list(data.batch(step))) for step in range(steps)])


@pytest.mark.parametrize("preprocess", ["resize-and-crop", "scale-width", "scale-short-side", "crop"])
def test_batches_do_not_depend_on_where_the_images_are(draw, preprocess):
    folder = draw("a", 5, size=(20, 13))
    load_size = {} if preprocess == "crop" else {"load_size": 12}
    opened_stores = [
        opened(folder, store=storage, preprocess=preprocess, **load_size) for storage in ("memory", "disk", "disk")
    ]
    assert [data.storage for data in opened_stores] == ["memory", "disk", "disk"]
    first, *others = map(batches, opened_stores)
    assert all(torch.equal(first, other) for other in others)


def test_a_store_is_found_again_by_files_and_settings(draw, cache, tmp_path):
    folder = draw("a", 4)
    opened(folder)
    (made,) = cache.glob("[!.]*")
    before = (made / "0.pixels").stat().st_mtime_ns
    opened(folder, seed=3, batch=4, augment="flip,crop")  # nothing of it changes the pixels
    assert (made / "0.pixels").stat().st_mtime_ns == before
    opened(folder, load_size=16)
    assert len(list(cache.glob("[!.]*"))) == 2
    (folder / "0.png").write_bytes(encoded(99))
    os.utime(folder / "0.png", (5, 5))
    changed = opened(folder)
    assert len(list(cache.glob("[!.]*"))) == 3
    assert torch.equal(batches(changed), batches(opened(folder, store="memory")))
    assert [each.images for each in cached_stores.cached_stores()] == [4, 4, 4]


def test_failures_are_remembered_with_the_store(draw):
    folder = draw("a", 5)
    (folder / "2.png").write_bytes(encoded()[:200])
    first, again = opened(folder), opened(folder)
    assert any("2.png" in note for note in first.notes)
    assert first.notes == again.notes
    assert first.fingerprint == again.fingerprint
    assert first.epoch == 4


def test_nothing_is_left_half_if_decoding_fails(draw, cache):
    folder = draw("a", 3)
    (folder / "x.png").write_bytes(encoded(mode="L"))
    (folder / "1.npy").write_bytes(b"no array")
    with pytest.raises(DataError):
        opened(folder, batch=9)
    for store in cache.glob("[!.]*") if cache.exists() else ():
        assert not store.name.startswith(".")


def fill_at_once(folder, cache, start, results):
    os.environ["TRANSLATE_CACHE"] = cache
    start.wait()
    results.put(float(batches(opened(folder)).sum()))


def test_processes_may_build_the_same_store_at_once(draw, cache):
    folder = draw("a", 12)
    context = multiprocessing.get_context("spawn")
    start, results = context.Event(), context.Queue()
    workers = [
        context.Process(target=fill_at_once, args=(str(folder), str(cache.parent), start, results)) for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    start.set()
    sums = [results.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    assert sums[0] == sums[1] == float(batches(opened(folder, store="memory")).sum())
    assert [path.name.startswith(".") for path in cache.glob("[!.]*")] == [False]


def test_what_is_mapped_is_bounded_and_the_file_stays_as_it_is(draw, cache, monkeypatch):
    monkeypatch.setattr(stores, "MAX_TOUCHED", 1000)
    folder = draw("a", 6)
    data = opened(folder)
    before = (next(cache.glob("[!.]*")) / "0.pixels").read_bytes()
    assert torch.equal(batches(data, 30), batches(opened(folder, store="memory"), 30))
    assert (next(cache.glob("[!.]*")) / "0.pixels").read_bytes() == before


def test_the_storage_is_chosen_by_size(monkeypatch):
    monkeypatch.setattr(stores, "available_memory", lambda: 10_000_000_000)
    assert choose_storage("auto", 4_000_000_000, CPU, None) == "memory"
    assert choose_storage("auto", 6_000_000_000, CPU, None) == "disk"
    assert choose_storage("auto", 6_000_000_000, CPU, 7.0) == "memory"
    assert choose_storage("auto", 4_000_000_000, CPU, 1.0) == "disk"
    assert choose_storage("disk", 10, CPU, None) == "disk"
    assert choose_storage("device", 10, CPU, None) == "memory"
    with pytest.raises(
        DataError, match=r"need 9.5 GB, and there is room for 9.0 GB with --store memory; use --store disk"
    ):
        choose_storage("memory", 9_500_000_000, CPU, None)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert choose_storage("auto", 4_000_000_000, CPU, None) == "disk"


def test_folders_whose_files_look_alike_have_stores_of_their_own(tmp_path):
    """Arrays of one shape have one size, and archives often set all dates alike."""
    for folder, shade in (("a", 10), ("b", 200)):
        (tmp_path / folder).mkdir()
        for i in range(3):
            path = tmp_path / folder / f"{i}.npy"
            numpy.save(path, numpy.full((8, 8, 3), shade, numpy.uint8))
            os.utime(path, (0, 0))
    options = {"images": None, "a": str(tmp_path / "a"), "b": str(tmp_path / "b"), "augment": "none"}
    batch = opened(None, Unpaired(), **options).batch(0)
    assert [each.add(1).mul(127.5).round().unique().tolist() for each in batch] == [[10], [200]]


def test_a_store_may_be_larger_than_the_memory(tmp_path):
    path = tmp_path / "0.pixels"
    with path.open("wb") as file:
        file.truncate(2**42)  # with nothing in it, so that it takes no room
    planned = Store(torch.empty(2**42, dtype=torch.uint8, device="meta"), [Extent(2**41, 4, 4)], 1)
    store = cached_stores._mapped(planned, path)
    assert store.image(0).sum() == 0


def test_a_full_disk_is_said_before_anything_is_written(draw, cache, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(DataError, match=r"need .* bytes in .*stores, and 10 bytes are free there; set TRANSLATE_CACHE"):
        opened(draw("a", 3))
    assert not list(cache.glob("[!.]*"))


def test_pairs_are_kept_in_one_size(draw, tmp_path):
    a, b = draw("a", 4, size=(31, 20)), draw("b", 4, size=(64, 41))
    options = {"images": None, "a": str(a), "b": str(b), "preprocess": "scale-short-side", "load_size": 12}
    batch = opened(None, Paired(), **options).batch(0)
    assert batch.a.shape == batch.b.shape == (2, 3, 8, 8)
