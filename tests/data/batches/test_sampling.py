import pytest

from translate.data.batches.sampling import sample_rows
from translate.random_bits import random_bits


def test_random_bits_are_the_same_for_ever():
    """Changing them would change every resumed run."""
    assert random_bits(2, 0, "order", "a", 0).tolist() == random_bits(3, 0, "order", "a", 0).tolist()[:2]
    assert random_bits(2, 0, "order", "a", 0).tolist() == [17332972651274930373, 9834337182274501960]


@pytest.mark.parametrize(("count", "batch"), [(7, 1), (7, 3), (8, 8), (10, 4)])
def test_every_image_comes_once_an_epoch(count, batch):
    seen = [row for step in range(count) for row in sample_rows(3, "a", step, batch, count)]
    epochs = [seen[i : i + count] for i in range(0, len(seen), count)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(count))
    assert len({tuple(epoch) for epoch in epochs[:2]}) == min(2, len(epochs))


def test_order_depends_on_seed_and_shuffle_key_alone():
    order = sample_rows(0, "a", 0, 50, 50)
    assert order == sample_rows(0, "a", 0, 50, 50)
    assert order != sample_rows(1, "a", 0, 50, 50)
    assert order != sample_rows(0, "b", 0, 50, 50)


def test_positions_do_not_depend_on_the_batch_size():
    assert sample_rows(0, "a", 2, 6, 20) == [sample_rows(0, "a", step, 1, 20)[0] for step in range(12, 18)]
