import pytest
import torch

from translate.data.sampling import crop_by_gather, crop_by_slices, geometry, indices, random_bits

BOTH = frozenset({"crop", "flip"})


def test_random_bits_are_the_same_for_ever():
    """Changing them would change every resumed run."""
    assert random_bits(2, 0, "order", "a", 0).tolist() == random_bits(3, 0, "order", "a", 0).tolist()[:2]
    assert random_bits(2, 0, "order", "a", 0).tolist() == [17332972651274930373, 9834337182274501960]


@pytest.mark.parametrize(("count", "batch"), [(7, 1), (7, 3), (8, 8), (10, 4)])
def test_every_image_comes_once_an_epoch(count, batch):
    seen = torch.cat([indices(3, "a", step, batch, count) for step in range(count)])
    for epoch in seen.split(count):
        assert sorted(epoch.tolist()) == list(range(count))
    assert seen[:count].tolist() != seen[count : 2 * count].tolist()


def test_order_depends_on_seed_and_stream_alone():
    order = indices(0, "a", 0, 50, 50).tolist()
    assert order == indices(0, "a", 0, 50, 50).tolist()
    assert order != indices(1, "a", 0, 50, 50).tolist()
    assert order != indices(0, "b", 0, 50, 50).tolist()


def test_positions_do_not_depend_on_the_batch_size():
    assert indices(0, "a", 2, 6, 20).tolist() == [int(indices(0, "a", step, 1, 20)) for step in range(12, 18)]


def test_geometry_covers_its_range_evenly():
    drawn = geometry(0, "", 0, 4000, 3, BOTH)
    for column, values in enumerate((4, 4, 2)):
        counts = drawn[:, column].bincount(minlength=values)
        assert len(counts) == values
        assert (counts / 4000 * values - 1).abs().max() < 0.15


def test_without_crop_it_is_the_centre_and_without_flip_nothing_flips():
    assert geometry(0, "", 0, 9, 6, frozenset()).unique(dim=0).tolist() == [[3, 3, 0]]
    assert geometry(0, "", 0, 50, 6, frozenset({"flip"})).unique(dim=0).tolist() == [[3, 3, 0], [3, 3, 1]]


def test_slices_and_gather_are_equal_and_as_defined():
    store = torch.randint(0, 256, (5, 3, 10, 10), dtype=torch.uint8)
    rows, drawn = indices(0, "a", 0, 16, 5), geometry(0, "a", 0, 16, 4, BOTH)
    crops = crop_by_slices(store, rows, drawn, 6)
    assert torch.equal(crops, crop_by_gather(store, rows, drawn, 6))
    top, left, flip = drawn[0].tolist()
    expected = store[rows[0], :, top : top + 6, left : left + 6]
    assert torch.equal(crops[0], expected.flip(-1) if flip else expected)
