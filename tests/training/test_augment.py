"""What discriminators see: exact at p = 0, per image, twice differentiable, and adapted as published."""

import math

import pytest
import torch

from translate.errors import UsageError
from translate.training.augment import DiscriminatorAugment, adaptive, diff_augment, recolour, warp

CPU = torch.device("cpu")
POLICIES = ["diffaugment", "ada"]


def augment(policy, p=1.0):
    made = DiscriminatorAugment(policy, CPU)
    made.p.fill_(p)
    return made


def images(*shape, seed=0, **options):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), **options) * 2 - 1


def seeded(policy, seed=1):
    """The policy as a function of its input alone."""

    def function(inputs, image_channels=slice(None)):
        torch.manual_seed(seed)
        return augment(policy)(inputs, image_channels)

    return function


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 1, 3, 5)])
def test_gradients_and_their_gradients_are_right(policy, shape):
    inputs = images(*shape, dtype=torch.float64).requires_grad_()
    for seed in (1, 2):
        assert torch.autograd.gradcheck(seeded(policy, seed), inputs)
        # the square makes the second derivative differ from 0
        assert torch.autograd.gradgradcheck(lambda x, seed=seed: seeded(policy, seed)(x).square(), inputs)


@pytest.mark.parametrize("shape", [(4, 3, 8, 8), (4, 1, 7, 10), (4, 6, 5, 5)])
def test_ada_shows_the_very_images_at_p_0(shape):
    inputs = images(*shape)
    assert torch.equal(augment("ada", 0.0)(inputs), inputs)


@pytest.mark.parametrize("policy", POLICIES)
def test_every_image_changes_and_draws_for_itself(policy):
    inputs = images(1, 3, 16, 16).expand(6, -1, -1, -1)
    shown = seeded(policy)(inputs)
    assert all(not torch.equal(image, before) for image, before in zip(shown, inputs, strict=True))
    assert all(not torch.equal(shown[i], shown[j]) for i in range(6) for j in range(i))


def test_p_is_the_share_of_images_that_each_part_changes():
    inputs = images(1, 3, 4, 4).expand(4000, -1, -1, -1)  # too small to be moved by an eighth
    torch.manual_seed(0)
    same = (augment("ada", 0.1)(inputs) == inputs).flatten(1).all(1).double().mean()
    flips, quarter_turns, others = 1 - 0.1 / 2, 1 - 0.1 * 3 / 4, 1 - 0.1
    assert abs(same - flips**2 * quarter_turns * others**8) < 0.03


@pytest.mark.parametrize("policy", POLICIES)
def test_colours_change_in_the_image_channels_alone_and_all_channels_move_alike(policy):
    plane = images(5, 1, 8, 8)
    flat = torch.full_like(plane, 0.3)
    shown = seeded(policy)(torch.cat([flat, plane, plane, plane, plane, flat], 1), slice(2, 5))
    assert ((shown[:, [0, 5]] - 0.3).abs() < 1e-6).logical_or(shown[:, [0, 5]] == 0).all()
    for image in shown:
        moved, coloured = image[1:3, image[0] != 0]  # where DiffAugment has not put a 0
        assert not torch.allclose(moved, coloured)
        torch.testing.assert_close(torch.stack([moved, coloured]).corrcoef()[0, 1].abs(), torch.tensor(1.0))


@pytest.mark.parametrize("policy", POLICIES)
def test_two_images_in_one_input_change_alike(policy):
    image = images(5, 3, 8, 8)
    shown = seeded(policy)(image.repeat(1, 2, 1, 1))
    assert torch.equal(shown[:, :3], shown[:, 3:])
    torch.testing.assert_close(shown[:, :3], seeded(policy)(image))


@pytest.mark.parametrize("policy", POLICIES)
def test_grey_stays_grey(policy):
    shown = seeded(policy)(images(5, 1, 8, 8).repeat(1, 3, 1, 1))
    torch.testing.assert_close(shown[:, 0], shown[:, 1])
    torch.testing.assert_close(shown[:, :1], seeded(policy)(images(5, 1, 8, 8)))


@pytest.mark.parametrize("policy", POLICIES)
def test_it_computes_in_float32_whatever_comes_and_in_any_memory_format(policy):
    inputs = images(3, 3, 8, 8).bfloat16()
    expected = seeded(policy)(inputs.float())
    with torch.autocast("cpu", torch.bfloat16):
        shown = seeded(policy)(inputs)
    assert shown.dtype == torch.float32
    assert torch.equal(shown, expected)
    torch.testing.assert_close(seeded(policy)(inputs.float().to(memory_format=torch.channels_last)), expected)


def test_diff_augment_cuts_a_quarter_out_and_moves_by_an_eighth_at_most():
    torch.manual_seed(0)
    shown = augment("diffaugment")(torch.full((200, 1, 16, 16), 5.0))[:, 0]  # brightness does not reach 0 from there
    filled = (shown != 0).double()
    rows, columns = filled.amax(2), filled.amax(1)
    assert 14 <= rows.sum(1).min() < 16
    assert 14 <= columns.sum(1).min() < 16
    assert filled.mean((1, 2)).min() >= (14 * 14 - 8 * 8) / 256
    assert (1 - filled).mean((1, 2)).min() > 0  # the cutout touches every image


def test_diff_augment_scales_contrast_about_the_mean():
    shown = seeded("diffaugment")(torch.full((50, 3, 8, 8), 5.0))
    assert ((shown[shown != 0] - 5).abs() < 0.50001).all()  # a flat image has brightness alone to change it


def test_ada_brightens_before_it_scales_contrast():
    shown = seeded("ada")(torch.zeros(20_000, 1, 2, 2))[:, 0, 0, 0]  # brightness times contrast
    expected = 0.2 * math.exp(math.log(2) ** 2 / 4)  # the square of a log-normal has this mean
    assert abs(shown.std() - expected) < 0.005


def test_the_warp_moves_whole_pixels_exactly_and_reflects_at_the_edges():
    inputs = images(1, 2, 5, 7)
    one = torch.eye(2)[None]
    right = warp(inputs, one, torch.tensor([[-2.0, 0.0]]))
    assert torch.equal(right[..., 2:], inputs[..., :-2])
    assert torch.equal(right[..., :2], inputs[..., :2].flip(-1))
    down = warp(inputs, one, torch.tensor([[0.0, -1.0]]))
    assert torch.equal(down[..., 1:, :], inputs[..., :-1, :])
    assert torch.equal(warp(inputs, torch.tensor([[[-1.0, 0.0], [0.0, 1.0]]]), torch.zeros(1, 2)), inputs.flip(-1))


def test_the_warp_is_that_of_grid_sample():
    torch.manual_seed(0)
    inputs, linear, offset = images(3, 2, 6, 9), torch.randn(3, 2, 2), torch.randn(3, 2) * 4
    size = torch.tensor([9.0, 6.0])
    theta = torch.cat([linear * size / size[:, None], (2 * offset / size)[:, :, None]], 2)
    grid = torch.nn.functional.affine_grid(theta, list(inputs.shape), align_corners=False)
    expected = torch.nn.functional.grid_sample(inputs, grid, padding_mode="reflection", align_corners=False)
    torch.testing.assert_close(warp(inputs, linear, offset), expected, atol=1e-5, rtol=0)


def test_colours_turn_about_the_grey_axis():
    inputs, one, none = images(1, 3, 4, 4), torch.ones(1), torch.zeros(1)

    def turned(angle):
        return recolour(inputs, slice(None), one, (one * angle).cos(), (one * angle).sin(), none)

    torch.testing.assert_close(turned(2 * math.pi / 3), inputs.roll(1, 1))  # red, green, blue change places
    torch.testing.assert_close(turned(1.0).mean(1), inputs.mean(1))
    torch.testing.assert_close(turned(1.0).square().sum(), inputs.square().sum())
    flipped = recolour(inputs, slice(None), -one, one, none, none)
    torch.testing.assert_close(recolour(flipped, slice(None), -one, one, none, none), inputs)


def update(made, signs, batch=50):
    for sign in signs:
        made.update_p(torch.as_tensor(sign), batch)


def test_p_moves_every_four_batches_by_the_published_amount():
    made = augment("ada", 0.0)
    for _ in range(3):
        update(made, [0.9])
        assert made.p == 0
    update(made, [0.9])
    torch.testing.assert_close(made.p, torch.tensor(200 / 500_000))
    update(made, [1.0, 0.0, 0.0, 0.0])  # the mean decides
    assert made.p == 0
    update(made, [-1.0] * 4)
    assert made.p == 0
    update(made, [1.0] * 4, batch=1_000_000)
    assert made.p == 1


def test_a_resumed_run_adapts_as_a_straight_one():
    signs = [0.9, 0.7, 0.2, 0.8, 0.65, 0.3, 0.9, 0.9, 0.9]
    straight, before, after = augment("ada", 0.5), augment("ada", 0.5), augment("ada", 0.0)
    update(straight, signs)
    update(before, signs[:6])
    after.load({name: tensor.clone() for name, tensor in before.tensors().items()})
    update(after, signs[6:])
    assert straight.tensors().keys() == after.tensors().keys()
    assert all(torch.equal(tensor, after.tensors()[name]) for name, tensor in straight.tensors().items())
    assert straight.p != 0.5


def test_diff_augment_has_no_state():
    made = augment("diffaugment")
    assert made.tensors() == {}
    made.load({})


def test_nothing_is_read_on_the_host():
    inputs = torch.zeros(2, 3, 8, 8, device="meta")  # has no values to read
    made = DiscriminatorAugment("ada", inputs.device)
    update(made, [made.p])
    assert adaptive(inputs, slice(0, 3), made.p).shape == inputs.shape
    assert diff_augment(inputs, slice(0, 3)).shape == inputs.shape


def test_other_inputs_than_images_are_refused():
    with pytest.raises(UsageError, match=r"shown \(2, 3\). Choose --discriminator-augment none"):
        augment("ada")(torch.zeros(2, 3))
