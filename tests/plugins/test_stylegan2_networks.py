"""The style-based networks against plain float64 formulas of the papers, and what translators and the engine ask."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from translate import networks
from translate.errors import UsageError
from translate_networks.stylegan2.discriminator import discriminator
from translate_networks.stylegan2.generator import generator
from translate_networks.stylegan2.layers import (
    Blur,
    Convolution,
    Linear,
    MinibatchStddev,
    ModulatedConvolution,
    Noise,
    StyledLayer,
)
from translate_networks.stylegan2.synthesis import MappingNetwork, SynthesisNetwork

FORMATS = (torch.contiguous_format, torch.channels_last)
NETWORKS = {
    "generator": lambda: generator(3, 3, width=8, downs=2, blocks=1),
    "discriminator": lambda: discriminator(3, size=16, width=8),
}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def images(*shape):
    return torch.rand(shape) * 2 - 1


# ------------------------------------------------------------------ modulation


def modulated_one_by_one(layer, features, styles):
    """Eqs. 1 to 3 of StyleGAN2 as they are written: an image's own weights, then its own convolution."""
    results = []
    for image, style in zip(features, styles, strict=True):
        scales = layer.affine(style[None])[0]
        weight = layer.weight * layer.factor * scales[None, :, None, None]
        if layer.demodulate:
            weight = layer.gain * weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if layer.blur is None:
            result = F.conv2d(image[None], weight, padding="same")
        else:
            line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
            enlarged = F.conv_transpose2d(image[None], weight.transpose(0, 1), stride=2)
            taps = (line[:, None] * line).expand(len(weight), 1, 4, 4)
            result = F.conv2d(enlarged, taps, padding=1, groups=len(weight))
        results.append(result + layer.bias[:, None, None])
    return torch.cat(results)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("equalized", [False, True])
def test_modulated_convolution_is_equations_1_to_3(up, demodulate, equalized):
    layer = ModulatedConvolution(5, 4, 3, style_width=6, up=up, demodulate=demodulate, equalized=equalized)
    nn.init.normal_(layer.bias)
    features, styles = torch.randn(3, 5, 6, 8), torch.randn(3, 6)
    expected = modulated_one_by_one(layer, features, styles)
    assert expected.shape[2:] == ((12, 16) if up else (6, 8))
    assert torch.allclose(layer(features, styles), expected, atol=1e-12)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_has_correct_derivatives_of_both_orders(up):
    layer = ModulatedConvolution(2, 2, 3, style_width=3, up=up)
    inputs = torch.randn(2, 2, 3, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)


def test_demodulation_keeps_the_variance_whatever_the_style():
    layer = ModulatedConvolution(64, 64, 3, style_width=8)
    result = layer(torch.randn(4, 64, 16, 16), 10 * torch.randn(4, 8))[..., 1:-1, 1:-1]
    assert torch.allclose(result.std((1, 2, 3)), torch.full((4,), math.sqrt(2)), rtol=0.1)


def test_demodulation_is_computed_in_float32_under_mixed_precision():
    layer, scales = ModulatedConvolution(64, 4, 3, style_width=8), torch.randn(2, 64)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer.demodulation(scales)
    assert torch.equal(mixed, layer.demodulation(scales))


# ------------------------------------------------------------------ layers


@pytest.mark.parametrize("equalized", [False, True])
def test_layers_start_with_the_variance_of_he(equalized):
    dense, convolution = Linear(256, 256, gain=1.0, equalized=equalized), Convolution(32, 64, 3, equalized=equalized)
    assert dense(torch.randn(64, 256)).std().item() == pytest.approx(1, rel=0.05)
    result = convolution(torch.randn(2, 32, 16, 16))[..., 1:-1, 1:-1]
    assert result.std().item() == pytest.approx(math.sqrt(2), rel=0.1)
    assert convolution.weight.std().item() == pytest.approx(1 if equalized else math.sqrt(2 / 288), rel=0.05)


@pytest.mark.parametrize("lr_multiplier", [1.0, 0.01])
def test_a_step_of_adam_moves_an_equalised_layer_by_its_factors(lr_multiplier):
    layer = Linear(16, 4, gain=2.0, bias=3.0, lr_multiplier=lr_multiplier)
    weight, bias = layer.scaled_weight().detach().clone(), layer.scaled_bias().detach().clone()
    assert torch.allclose(bias, torch.tensor(3.0))
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    layer(torch.ones(1, 16)).sum().backward()  # Adam's first step is the rate, whatever the gradient
    optimizer.step()
    assert torch.allclose(weight - layer.scaled_weight(), torch.tensor(0.1 * lr_multiplier * 2 / 4), rtol=1e-2)
    assert torch.allclose(bias - layer.scaled_bias(), torch.tensor(0.1 * lr_multiplier), rtol=1e-2)


def test_an_lr_multiplier_does_not_change_the_first_function():
    one, hundredth = (Linear(8, 8, lr_multiplier=each) for each in (1.0, 0.01))
    hundredth.load_state_dict({name: 100 * value for name, value in one.state_dict().items()})
    vectors = torch.randn(3, 8)
    assert torch.allclose(one(vectors), hundredth(vectors), atol=1e-6)


@pytest.mark.parametrize("padding", [1, 2])
def test_blur_can_be_differentiated_twice(padding):
    blur = Blur(padding).double()
    images = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(blur, images)
    assert torch.autograd.gradgradcheck(blur, images)


def test_blur_has_the_filter_1_3_3_1():
    pixel = torch.zeros(1, 1, 5, 5)
    pixel[..., 2, 2] = 64
    line = torch.tensor([1.0, 3.0, 3.0, 1.0])
    assert torch.equal(Blur(padding=2)(pixel)[0, 0, 1:5, 1:5], line[:, None] * line)


@pytest.mark.parametrize("kernel", [1, 3])
def test_halving_does_not_shift_an_image(kernel):
    layer, picture = Convolution(1, 1, kernel, down=True), images(1, 1, 8, 8)
    nn.init.ones_(layer.weight)
    assert torch.allclose(layer(picture).flip(2, 3), layer(picture.flip(2, 3)), atol=1e-6)


def test_doubling_does_not_shift_an_image():
    layer, picture, style = ModulatedConvolution(1, 1, 3, style_width=1, up=True), images(1, 1, 8, 8), torch.ones(1, 1)
    nn.init.ones_(layer.weight)
    assert torch.allclose(layer(picture, style).flip(2, 3), layer(picture.flip(2, 3), style), atol=1e-6)


def test_noise_is_drawn_in_training_and_fixed_in_evaluation():
    layer, features = Noise(8), torch.zeros(2, 3, 8, 8)
    assert torch.equal(layer(features), features)  # its strength is learned from 0 on
    nn.init.ones_(layer.strength)
    drawn = layer(features)
    assert not torch.equal(drawn, layer(features))
    assert not torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    layer.eval()
    assert torch.equal(layer(features), layer.fixed.expand(2, 3, 8, 8))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("count", "group", "size"), [(8, 4, 4), (6, 4, 3), (5, 4, 1), (2, 4, 2), (1, 4, 1)])
def test_minibatch_stddev_is_the_mean_deviation_within_a_group(count, group, size):
    features = torch.randn(count, 3, 4, 4)
    result = MinibatchStddev(group)(features)
    assert torch.equal(result[:, :3], features)
    stride = count // size
    for image in range(count):
        members = torch.stack([features[other] for other in range(image % stride, count, stride)])
        assert len(members) == size
        deviation = ((members - members.mean(0)).square().mean(0) + 1e-8).sqrt().mean()
        assert torch.allclose(result[image, 3], deviation.expand(4, 4))


# ------------------------------------------------------------------ latents to images


def test_mapping_follows_the_mean_of_its_styles_in_training_alone():
    mapping = MappingNetwork(4, 8, layers=2)
    latents = torch.randn(16, 4)
    styles = mapping(latents)
    assert torch.allclose(mapping.mean, 0.005 * styles.mean(0), atol=1e-6)
    mean = mapping.mean.clone()
    mapping.eval()
    assert torch.equal(mapping(latents), styles)
    assert torch.equal(mapping.mean, mean)


def test_truncation_leads_from_the_mean_style_to_the_latents_own():
    mapping = MappingNetwork(4, 8, layers=2).eval()
    nn.init.normal_(mapping.mean)
    latents = torch.randn(3, 4)
    own = mapping(latents)
    assert torch.equal(mapping(latents, truncation=0.0), mapping.mean.expand(3, 8))
    assert torch.allclose(mapping(latents, truncation=0.5), (own + mapping.mean) / 2, atol=1e-6)


def test_mapping_looks_at_the_direction_of_a_latent_and_at_its_class():
    mapping = MappingNetwork(4, 8, classes=2, layers=2)
    latents, labels = torch.randn(3, 4), torch.tensor([0, 1, 0])
    assert torch.allclose(mapping(latents, labels), mapping(7 * latents, labels), atol=1e-5)
    assert not torch.allclose(mapping(latents, labels), mapping(latents, 1 - labels))


@pytest.mark.parametrize(("size", "layers"), [(8, 4), (16, 6), (64, 10)])
def test_synthesis_has_the_layers_of_the_paper(size, layers):
    synthesis = SynthesisNetwork(8, 3, size=size, width=2)
    assert synthesis.layers == layers
    styles = torch.randn(2, layers, 8, requires_grad=True)
    result = synthesis(styles)
    assert result.shape == (2, 3, size, size)
    (gradient,) = torch.autograd.grad(result.sum(), styles)
    assert (gradient.abs().sum((0, 2)) > 0).all()  # every style counts


def test_synthesis_and_discriminator_can_be_differentiated_twice():
    synthesis, scores = SynthesisNetwork(8, 3, size=8, width=4), discriminator(3, size=8, width=4, stddev_group=2)
    styles, real = torch.randn(2, synthesis.layers, 8, requires_grad=True), images(2, 3, 8, 8).requires_grad_()
    for network, given in ((synthesis, styles), (scores, real)):
        (gradient,) = torch.autograd.grad(network(given).square().sum(), given, create_graph=True)
        gradient.square().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
        assert sum(p.grad is not None and bool(p.grad.any()) for p in network.parameters()) > 10


# ------------------------------------------------------------------ images to scores


@pytest.mark.parametrize("size", [8, 16, 64])
def test_discriminator_gives_the_scores_of_an_image_of_its_size(size):
    assert discriminator(4, size=size, out_channels=5, width=2)(images(3, 4, size, size)).shape == (3, 5)


@pytest.mark.parametrize(("size", "near"), [(48, (32, 64)), (100, (64, 128)), (12, (8, 16)), (4, (8, 16))])
def test_other_sizes_are_refused_by_naming_those_that_it_takes(size, near):
    message = rf"8, 16, 32, .*got {size}\. Try --size {near[0]} or --size {near[1]}\."
    with pytest.raises(UsageError, match=message):
        discriminator(3, size=size)
    with pytest.raises(UsageError, match=message):
        SynthesisNetwork(8, 3, size=size)


def test_only_minibatch_stddev_couples_a_batch():
    alone, coupled = (discriminator(3, size=8, width=2, stddev_group=group) for group in (1, 4))
    assert (alone.smallest_batch, coupled.smallest_batch) == (1, 2)
    calls = []
    for network in (alone, coupled):
        network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
        networks.forward_batched(network, images(2, 3, 8, 8), images(2, 3, 8, 8))
    assert calls == [4, 2, 2]
    batch = images(4, 3, 8, 8)
    assert torch.allclose(alone(batch)[:1], alone(batch[:1]), atol=1e-6)
    assert not torch.allclose(coupled(batch)[:1], coupled(batch[:1]), atol=1e-6)


# ------------------------------------------------------------------ images to images


@pytest.mark.parametrize("downs", [1, 2, 3])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_generator_takes_any_multiple_of_its_stride_and_keeps_the_format(downs, memory_format):
    network = generator(3, 4, width=4, downs=downs, blocks=1).to(memory_format=memory_format)
    for height, width in ((network.stride, network.stride), (3 * network.stride, 5 * network.stride)):
        result = network(images(2, 3, height, width).to(memory_format=memory_format))
        assert result.shape == (2, 4, height, width)
        assert result.is_contiguous(memory_format=memory_format)
        assert result.abs().max() <= 1


def test_generator_is_a_function_of_each_source():
    network = generator(3, 3, width=4, blocks=2)
    scenes = images(3, 3, 16, 16)
    result = network(scenes)
    assert torch.equal(result, network(scenes))
    assert torch.allclose(result, torch.cat([network(scene[None]) for scene in scenes]), atol=1e-5)


def test_generator_makes_its_image_of_what_it_encodes():
    network = generator(3, 3, width=4, blocks=1)
    scene = images(2, 3, 32, 16)
    found = network.encode(scene)
    assert [tuple(features.shape) for features in found] == [
        (2, 4, 32, 16),
        (2, 8, 16, 8),
        (2, 16, 8, 4),
        (2, 16, 4, 2),
    ]
    expected = network(scene)
    network.encode = lambda _: found
    assert torch.equal(network(torch.zeros_like(scene)), expected)


def test_generator_encodes_without_the_layers_that_follow():
    network = generator(3, 3, width=4, blocks=1)
    for layer in network.modules():
        if isinstance(layer, StyledLayer | Linear):
            layer.register_forward_hook(lambda *_: pytest.fail("ran too far"))
    assert len(network.encode(images(1, 3, 8, 8))) == 4


def test_generator_is_about_as_large_as_resnet_9():
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in generator(3, 3).parameters())
    assert count == 10_038_723


# ------------------------------------------------------------------ what the engine does with them


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_bf16_stays_close_to_fp32(make):
    network = make().to(memory_format=torch.channels_last)
    scene = images(2, 3, 16, 16).to(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = network(scene)
        with torch.autocast("cpu", torch.bfloat16):
            result = network(scene)
    assert (result.float() - expected).norm() <= 0.05 * expected.norm()


def test_synthesis_in_bf16_stays_close_to_fp32_and_sums_its_images_in_fp32():
    synthesis = SynthesisNetwork(8, 3, size=16, width=4).eval()
    styles = torch.randn(2, synthesis.layers, 8)
    with torch.no_grad():
        expected = synthesis(styles)
        with torch.autocast("cpu", torch.bfloat16):
            result = synthesis(styles)
    assert result.dtype == torch.float32
    assert (result - expected).norm() <= 0.05 * expected.norm()


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_network_is_one_graph_for_the_compiler(make):
    network = make()
    scene = images(2, 3, 16, 16)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(compiled(scene).float(), network(scene).float(), atol=0.02)


def test_generator_does_not_get_stuck_at_the_background_of_its_images():
    network, scenes = generator(1, 1, width=16, blocks=1), torch.ones(4, 1, 16, 16)
    for place, scene in enumerate(scenes):
        scene[:, 2 + 2 * place : 6 + 2 * place, 6:10] = -1
    white = F.l1_loss(torch.ones_like(scenes), scenes).item()
    optimizer = torch.optim.Adam(network.parameters(), 2e-4, (0.5, 0.999))
    for _ in range(60):
        loss = F.l1_loss(network(scenes), scenes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < white / 2
