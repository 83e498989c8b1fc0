from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from translate.data.batches.cropping import crop_batch, crop_by_gather
from translate.data.batches.sampling import Crop, sample_crops
from translate.data.batches.store import Extent, Store
from translate.data.images import as_float

SHAPES = [(10, 12), (9, 9), (16, 8), (11, 30)]
BUILTIN = {"crop": (), "flip": (), "vflip": (), "rotate90": ()}


def store_of(shapes, channels=3, dtype=torch.uint8):
    """Random images, with a gap before the first, as a store without some rows has it."""
    extents, offset = [], 7
    for height, width in shapes:
        extents.append(Extent(offset, height, width))
        offset += channels * height * width
    info = (0, 1) if dtype == torch.float32 else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    flat = torch.rand(offset) if dtype == torch.float32 else torch.randint(*info, (offset,), dtype=dtype)
    return Store(flat, extents, channels)


def test_windows_and_turns_cover_their_range_evenly():
    store = store_of([(9, 11)])
    drawn = sample_crops(0, "", 0, store, [0] * 4000, (6, 6), BUILTIN)
    fields = {"top": 4, "left": 6, "flip": 2, "vflip": 2, "transpose": 2}
    for field, values in fields.items():
        counts = Counter(getattr(crop, field) for crop in drawn)
        assert len(counts) == values
        assert max(abs(count / 4000 * values - 1) for count in counts.values()) < 0.2


def test_without_words_it_is_the_centre_and_nothing_is_turned():
    store = store_of([(12, 12)])
    assert set(sample_crops(0, "", 0, store, [0] * 9, (6, 6), {})) == {Crop(0, 3, 3, 6, 6)}
    flipped = sample_crops(0, "", 0, store, [0] * 50, (6, 6), {"flip": ()})
    assert set(flipped) == {Crop(0, 3, 3, 6, 6), Crop(0, 3, 3, 6, 6, flip=True)}


def test_the_eight_turns_of_a_square_are_all_drawn_and_each_is_one_of_torchs():
    image = torch.arange(16, dtype=torch.uint8).view(1, 4, 4)
    store = Store(image.flatten(), [Extent(0, 4, 4)], 1)
    turned = {
        crop_batch(store, [crop], (4, 4)).numpy().tobytes()
        for crop in sample_crops(0, "", 0, store, [0] * 200, (4, 4), BUILTIN)
    }
    expected = {t.rot90(k, (1, 2)).contiguous().numpy().tobytes() for t in (image, image.flip(2)) for k in range(4)}
    assert turned == expected


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_slices_and_gather_are_equal_for_images_of_any_size(dtype):
    store = store_of(SHAPES, dtype=dtype)
    crops = sample_crops(0, "a", 3, store, [0, 1, 2, 3] * 6, (8, 8), BUILTIN)
    assert torch.equal(crop_batch(store, crops, (8, 8)), crop_by_gather(store, crops))


def test_a_crop_is_the_window_mirrored():
    store = store_of(SHAPES)
    crop = Crop(3, 1, 20, 5, 8, flip=True)
    expected = store.image(3)[:, 1:6, 20:28].flip(-1)
    assert torch.equal(crop_batch(store, [crop], (5, 8))[0], expected)


def test_floats_are_bit_for_bit_those_of_cutting_and_then_converting():
    store = store_of(SHAPES)
    crops = sample_crops(0, "a", 0, store, [0, 1, 2, 3] * 4, (8, 8), BUILTIN)
    assert torch.equal(
        crop_batch(store, crops, (8, 8), value_range=(0, 255)), as_float(crop_batch(store, crops, (8, 8)))
    )


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    low=st.floats(0.05, 1),
    seed=st.integers(0, 2**32),
)
def test_zoomed_windows_lie_in_the_image_and_keep_the_aspect(shape, size, low, seed):
    store = store_of([shape], 1)
    for crop in sample_crops(seed, "", 0, store, [0] * 8, size, {"zoom": (low, 1.0), "flip": ()}):
        assert 0 <= crop.top <= crop.top + crop.height <= shape[0]
        assert 0 <= crop.left <= crop.left + crop.width <= shape[1]
        assert crop.height / size[0] == pytest.approx(crop.width / size[1], abs=1)
        assert crop_batch(store, [crop], size).shape == (1, 1, *size)


def test_scaled_windows_keep_their_mean_and_the_values_of_16_bits():
    high = torch.full((1, 20, 20), 60_000, dtype=torch.int32).to(torch.uint16)
    store = Store(high.flatten(), [Extent(0, 20, 20)], 1)
    scaled = crop_batch(store, [Crop(0, 0, 0, 20, 20)], (8, 8))
    assert (scaled.to(torch.int32) == 60_000).all()


def test_scaled_labels_keep_their_values():
    codes = torch.tensor([3, 77, 200], dtype=torch.uint8)[torch.randint(3, (1, 20, 20))]
    store = Store(codes.flatten(), [Extent(0, 20, 20)], 1)
    for size in ((8, 8), (32, 32)):
        found = crop_batch(store, [Crop(0, 2, 1, 15, 15)], size, nearest=True)
        assert set(found.unique().tolist()) <= {3, 77, 200}
