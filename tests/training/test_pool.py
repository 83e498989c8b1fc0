"""The image pool on the device is the pool of a sequential loop."""

import pytest
import torch
from toys import Fake, Toy, batch, make_stepper, net

from translate import Discriminators
from translate.training.pool import ImagePool


class SequentialPool:
    """What the papers describe, image by image, with the random numbers that the pool draws."""

    def __init__(self, size):
        self.size = size
        self.images = []

    def __call__(self, images):
        if self.size == 0:
            return images
        slots = torch.randint(self.size, (len(images), 1))
        swaps = torch.rand(len(images), 1) < 0.5
        shown = []
        for image, slot, swap in zip(images, slots.tolist(), swaps.tolist(), strict=True):
            if len(self.images) < self.size:
                self.images.append(image)
                shown.append(image)
            elif swap[0]:
                shown.append(self.images[slot[0]])
                self.images[slot[0]] = image
            else:
                shown.append(image)
        return torch.stack(shown)


def show(pool, count, size, seed=0):
    torch.manual_seed(seed)
    images = torch.arange(count * size, dtype=torch.float32).view(count, size, 1, 1, 1)
    return torch.stack([pool(image) for image in images])


@pytest.mark.parametrize("size", [0, 2, 50])
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_it_equals_a_sequential_loop(batch, size):
    pool, loop = ImagePool(size), SequentialPool(size)
    assert torch.equal(show(pool, 40, batch), show(loop, 40, batch))
    if size:
        assert torch.equal(pool.images[: len(loop.images)], torch.stack(loop.images))
        assert int(pool.count) == len(loop.images)


@pytest.mark.parametrize("before", [0, 1, 20])
def test_its_state_makes_the_round_trip(before):
    pool, other = ImagePool(5), ImagePool(5)
    if before:
        show(pool, before, 3)
    other.load({name: tensor.clone() for name, tensor in pool.tensors().items()}, torch.device("cpu"))
    assert torch.equal(show(pool, 9, 3, seed=1), show(other, 9, 3, seed=1))


def test_pooled_fields_alone_go_through_it_and_once_a_step():
    seen = []

    def players(m):
        def loss(batch, outputs):
            seen.append(outputs.fake)
            return {"d": m.d(outputs.fake).mean()}

        yield Discriminators([m.d], [loss, loss], pool=("fake",), pool_size=1)

    model = Toy(players, forward=lambda m, batch: Fake(batch.a), d=net(1))
    stepper = make_stepper(model)
    torch.manual_seed(0)
    batches = [batch(number, size=1) for number in range(12)]
    for number, data in enumerate(batches):
        stepper.run(data, number, 0.0)
    assert all(torch.equal(first, second) for first, second in zip(seen[::2], seen[1::2], strict=True))
    old = [not torch.equal(shown, data.a) for shown, data in zip(seen[::2], batches, strict=True)]
    assert any(old)
    assert not all(old)
