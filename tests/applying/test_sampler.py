import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from translate.applying.sampler import Sampler, _slerp, sample_grid
from translate.applying.translator import Translator
from translate.errors import DataError, PluginError, UsageError

CPU = torch.device("cpu")
PETS = ("bird", "cat", "dog")
BOTH = pytest.mark.parametrize("name", ["splash", "discs"])


@pytest.fixture
def sampler(build):
    """A sampler of a tiny model: sampler("splash", batch=2)."""

    def sampler(name, precision="fp32", batch=64, **options):
        return Sampler(build(name, **options), CPU, precision, batch)

    return sampler


def same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def differ(first, second):
    return (first - second).abs().max() > 0.05


@BOTH
def test_a_seed_is_one_image_in_any_batch_and_order(sampler, name):
    seeds = [3, 1, 4, 159]
    together = sampler(name)(seeds)
    assert together.shape == (4, 3, 16, 16)
    same(sampler(name)(seeds[::-1]).flip(0), together)
    same(sampler(name, batch=3)(seeds), together)
    same(torch.cat([sampler(name)([seed]) for seed in seeds]), together)
    assert all(differ(together[0], other) for other in together[1:])


@BOTH
def test_the_class_changes_the_image(sampler, name):
    make = sampler(name, classes=PETS)
    images = make([7, 7, 7, 7], [0, 1, 2, 0])
    same(images[3], images[0])
    assert differ(images[0], images[1])
    assert differ(images[1], images[2])
    assert [make.label(pet) for pet in PETS] == [0, 1, 2]


@BOTH
def test_images_are_float32_within_the_range_and_bf16_is_close_to_fp32(sampler, name):
    exact, rounded = (sampler(name, precision, gain=-4.0)(range(8)) for precision in ("fp32", "bf16"))
    assert exact.dtype == rounded.dtype == torch.float32
    assert exact.abs().max() <= 1
    torch.testing.assert_close(rounded, exact, rtol=0, atol=0.1)


@BOTH
def test_sampling_leaves_statistics_modes_and_random_generators_alone(build, name):
    model = build(name).train()
    next(model.children()).eval()
    modes = [module.training for module in model.modules()]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.get_rng_state()
    Sampler(model, CPU, "fp32").interpolate([1, 2], 3)
    with pytest.raises(UsageError):
        Sampler(model, CPU, "fp32")([-1])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@BOTH
def test_an_interpolation_begins_and_ends_with_the_images_of_the_seeds(sampler, name):
    make = sampler(name, batch=4)
    ways, images = make.interpolate([1, 2, 3], 5), make([1, 2, 3])
    assert ways.shape == (2, 5, 3, 16, 16)
    same(ways[:, 0], images[:2])
    same(ways[:, -1], images[1:])
    steps = (ways[:, 1:] - ways[:, :-1]).abs().flatten(2).mean(2)
    assert (steps > 0).all()
    assert (steps < (images[1:] - images[:2]).abs().flatten(1).mean(1)[:, None]).all()


def test_a_style_space_goes_from_class_to_class_and_latents_stay_within_one(sampler):
    make = sampler("discs", classes=PETS)
    same(make.interpolate([4, 4], 3, [0, 2])[0, [0, -1]], make([4, 4], [0, 2]))
    make = sampler("splash", classes=PETS)
    same(make.interpolate([4, 5], 3, [1, 1])[0, [0, -1]], make([4, 5], [1, 1]))
    with pytest.raises(UsageError, match="has no style space, in which one could go from class to class"):
        make.interpolate([4, 5], 3, [0, 1])


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 64))
def test_the_arc_between_latents_keeps_them_as_long_as_its_ends(first, second, width):
    ends = [torch.randn(1, width, generator=torch.Generator().manual_seed(seed)) for seed in (first, second)]
    ends = [end / end.norm() for end in ends]
    points = _slerp(*ends, torch.linspace(0, 1, 5)[:, None])
    torch.testing.assert_close(points[:1], ends[0])
    torch.testing.assert_close(points[-1:], ends[1])
    if ends[0] @ ends[1].T > -0.99:  # there is no one arc between opposites
        torch.testing.assert_close(points.norm(dim=1), torch.ones(5), rtol=1e-3, atol=1e-3)


def test_style_mixing_takes_coarse_from_the_row_and_fine_from_the_column(sampler):
    make = sampler("discs", batch=4)
    mixed, images = make.mix([1, 2, 3]), make([1, 2, 3])
    assert mixed.shape == (3, 3, 3, 16, 16)
    same(mixed[range(3), range(3)], images)
    # The fine styles only colour: discs of a row cover the same pixels.
    covered = (mixed - 0.9).abs().amax(2) > 0.3
    assert torch.equal(covered[0, 0] & covered[0, 1], covered[0, 0])
    assert not torch.equal(covered[0, 0], covered[1, 0])
    assert differ(mixed[0, 0], mixed[0, 1])


def test_truncation_leads_to_one_mean_image(sampler):
    make = sampler("discs")
    mean = make([1, 2], truncation=0.0)
    same(mean[0], mean[1])
    far, near = ((make([1, 2], truncation=share) - mean).abs().mean() for share in (1.0, 0.5))
    assert 0 < near < far


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_truncation_outside_of_0_to_1_is_refused(sampler, share):
    with pytest.raises(UsageError, match="must be from 0"):
        sampler("discs")([1], truncation=share)


def test_what_needs_styles_is_refused_to_a_model_without(sampler):
    with pytest.raises(UsageError, match="'splash' has no style space, and so no mean style"):
        sampler("splash")([1], truncation=0.5)
    with pytest.raises(UsageError, match="'splash' has no style space, and so no styles to mix"):
        sampler("splash").mix([1, 2])


def test_labels_are_needed_exactly_if_there_are_classes(sampler):
    with pytest.raises(UsageError, match="has no classes; give no labels"):
        sampler("discs")([1], [0])
    with pytest.raises(UsageError, match="has the classes bird, cat, dog; give labels"):
        sampler("discs", classes=PETS)([1])
    for labels in ([0], [0, 3], [0, -1]):
        with pytest.raises(UsageError, match="expected 2, from 0 to 2"):
            sampler("discs", classes=PETS)([1, 2], labels)
    with pytest.raises(UsageError, match="was trained without classes; leave the label 'cat' out"):
        sampler("discs").label("cat")
    with pytest.raises(UsageError, match=r"has no class 'cart'. Did you mean 'cat'\?"):
        sampler("discs", classes=PETS).label("cart")
    with pytest.raises(UsageError, match=r"has no class 'x'. Known: bird, cat, dog\."):
        sampler("discs", classes=PETS).label("x")


def test_seeds_and_frames_that_make_no_sense_are_refused(sampler):
    for seed in (-1, 2**63):
        with pytest.raises(UsageError, match=f"The seed {seed} is no whole number"):
            sampler("discs")([1, seed])
    for seeds, frames in (([1], 8), ([1, 2], 1)):
        with pytest.raises(UsageError, match="needs two seeds and two frames"):
            sampler("discs").interpolate(seeds, frames)


def test_translating_and_sampling_point_to_each_other(build, make):
    with pytest.raises(UsageError, match=r"'invert' does not generate images from noise.*use `translate apply`"):
        Sampler(make("invert"), CPU)
    with pytest.raises(UsageError, match=r"'discs' does not translate images.*use `translate sample`"):
        Translator(build("discs"), CPU)(torch.zeros(1, 3, 16, 16))


def test_a_model_that_breaks_the_contract_or_fails_is_reported(build, sampler, monkeypatch):
    with pytest.raises(DataError, match="not finite"):
        sampler("splash", gain=float("inf"))([1])
    model = build("splash")
    monkeypatch.setattr(model, "sample", lambda latents, labels: latents)
    with pytest.raises(PluginError, match=r"made images of shape \(1, 4\); expected \(1, 3, 16, 16\)"):
        Sampler(model, CPU, "fp32")([1])
    model = build("discs")
    monkeypatch.setattr(model, "styles", lambda latents, labels, truncation: latents)
    with pytest.raises(PluginError, match=r"styles returned \(1, 4\); expected \(1, layers, width\)"):
        Sampler(model, CPU, "fp32")([1])


def test_a_batch_that_does_not_fit_into_memory_asks_for_a_smaller_one(build, monkeypatch):
    model = build("splash")

    def exhausted(latents, labels):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(model, "sample", exhausted)
    with pytest.raises(UsageError, match=r"64 images at once do not fit into memory; try fewer \(--batch\)"):
        Sampler(model, CPU, "fp32")([1])


@pytest.mark.parametrize(("n", "rows", "columns"), [(1, 1, 1), (9, 3, 3), (10, 3, 4), (64, 8, 8)])
def test_a_grid_is_about_square(sampler, n, rows, columns):
    picture = sample_grid(sampler("discs", batch=7), n)
    assert picture.dtype == torch.uint8
    assert picture.shape == (3, 2 + rows * 18, 2 + columns * 18)


def test_a_grid_has_its_classes_in_columns_unless_there_are_too_many(sampler):
    make = sampler("splash", classes=PETS, size=32)
    assert sample_grid(make, 6).shape == (3, 18 + 2 * 34, 2 + 3 * 34)
    assert sample_grid(make, 4, labels=[0, 2]).shape == (3, 18 + 2 * 34, 2 + 2 * 34)
    assert sample_grid(make, 2).shape == (3, 2 + 34, 2 + 2 * 34)
    assert sample_grid(make, 4, labels=[1]).shape == (3, 2 + 2 * 34, 2 + 2 * 34)
    assert not torch.equal(sample_grid(make, 4, seed=0), sample_grid(make, 4, seed=1))
