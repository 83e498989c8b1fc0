"""The engine augments what discriminators are shown, whoever shows it, and keeps the state of it."""

import pytest
import torch
from torch import nn
from toys import Toy, net

from translate import Discriminators, Generators, losses
from translate.errors import PluginError, UsageError
from translate.testing.cases import Case, checkpoint_tensors
from translate.training.step import Stepper

CPU = torch.device("cpu")
SMALL = {"generator": "resnet(blocks=1, width=4)", "discriminator": "patchgan(layers=2, width=4)"}


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case("cyclegan", tmp_path_factory.mktemp("cyclegan"), **SMALL)


class Seen(nn.Module):
    """A discriminator that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 1, 4)
        self.inputs: list[torch.Tensor] = []

    def forward(self, images):
        self.inputs.append(images)
        return self.layer(images)


class Images(Toy):
    """A discriminator of constant images, and a generator that scales them."""

    def __init__(self, stats=True):
        def players(m):
            yield Discriminators([m.d], discriminator_loss)
            yield Generators([m.g], lambda batch: {"g": m.d(m.g(batch.a)).mean()})

        def discriminator_loss(batch):
            real = self.d(batch.a)
            return ({"d": real.square().mean()}, {"real_sign": real.sign().mean()} if stats else {})

        super().__init__(players, d=Seen(), g=nn.Conv2d(3, 3, 1))

    def batch(self):
        return self.data.batch_type(*torch.rand(2, 2, 3, 16, 16))


def test_both_players_show_the_discriminator_augmented_images():
    torch.manual_seed(0)
    model = Images()
    images = model.batch()
    Stepper(model, device=CPU, precision="fp32", augment="diffaugment").run(images, 0, 0.0)
    shown = model.d.inputs
    assert len(shown) == 2
    assert not torch.allclose(shown[0], images.a)
    assert any((seen == 0).any() for seen in shown)  # a part was cut out


def test_a_penalty_differentiates_by_the_image_before_it_was_augmented():
    torch.manual_seed(0)
    model = Images()
    Stepper(model, device=CPU, precision="fp32", augment="diffaugment")
    model.d.requires_grad_(True)
    images = model.batch().a
    gradient = losses.input_gradients(model.d, images)
    assert not torch.allclose(model.d.inputs[-1], images)  # the discriminator saw something else
    assert gradient.abs().sum(1).all()
    gradient.square().sum().backward()  # through the augmentation, twice
    assert model.d.layer.weight.grad.abs().sum() > 0


def test_ada_requires_the_stat_real_sign():
    model = Images(stats=False)
    with pytest.raises(PluginError, match="real_sign"):
        Stepper(model, device=CPU, precision="fp32", augment="ada").run(model.batch(), 0, 0.0)


def test_a_model_without_discriminators_has_nothing_to_augment():
    model = Toy(lambda m: [Generators([m.g], lambda batch: {"g": m.g(batch.a).mean()})], g=net())
    with pytest.raises(UsageError, match="no discriminator"):
        Stepper(model, device=CPU, precision="fp32", augment="ada")


@pytest.mark.parametrize("policy", ["diffaugment", "ada"])
def test_a_resumed_run_augments_as_a_straight_one(case, policy):
    straight, first, second = (case.trainer(steps=12, discriminator_augment=policy) for _ in range(3))
    for trainer in (straight, first, second):
        for state in trainer.stepper.players:
            if state.augmentation:
                state.augmentation.p.fill_(0.5)
    torch.manual_seed(1)
    for _ in range(8):
        straight.advance()
    torch.manual_seed(1)
    for _ in range(3):
        first.advance()
    saved = first.checkpoint()
    torch.manual_seed(999)
    second.restore(saved)
    for _ in range(5):
        second.advance()
    want, got = checkpoint_tensors(straight), checkpoint_tensors(second)
    assert all(torch.equal(want[name], got[name]) for name in want)
    if policy == "ada":
        assert any(name.startswith("augmentation.") for name in want)
        assert want["augmentation.discriminators.p"] != 0.5
