"""The shared networks: sizes and counts as published, and layers that are quick without computing anything else."""

import inspect
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from translate.errors import UsageError
from translate_networks.layers import BlurPool, ReflectionPad, instance_norm
from translate_networks.patchgan import multiscale, patchgan, pixel
from translate_networks.resnet import resnet
from translate_networks.unet import unet

KINDS = ("generator", "discriminator")
FORMATS = (torch.contiguous_format, torch.channels_last)
GENERATORS = {
    "resnet": lambda: resnet(3, 3, blocks=2, width=8),
    "resnet-resize": lambda: resnet(3, 3, blocks=1, width=8, upsample="resize", norm="batch", dropout=0.5),
    "resnet-antialias": lambda: resnet(3, 3, blocks=1, width=8, antialias=True),
    "unet": lambda: unet(3, 3, size=32, width=8),
    "unet-instance": lambda: unet(3, 3, size=64, downs=3, width=8, norm="instance"),
}
DISCRIMINATORS = {
    "patchgan": lambda: patchgan(3, width=8),
    "patchgan-batch": lambda: patchgan(3, layers=2, width=8, norm="batch"),
    "patchgan-antialias": lambda: patchgan(3, layers=2, width=8, antialias=True),
    "multiscale": lambda: multiscale(3, size=32, layers=2, width=8),
    "pixel": lambda: pixel(3, width=8),
}
ALL = GENERATORS | DISCRIMINATORS


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(*shape, memory_format=torch.contiguous_format):
    return (torch.rand(shape) * 2 - 1).to(memory_format=memory_format)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (lambda: resnet(3, 3), 11_378_179),
        (lambda: resnet(3, 3, blocks=6), 7_837_699),
        (lambda: unet(3, 3, size=256), 54_413_955),
        (lambda: unet(3, 3, size=128), 41_828_995),
        (lambda: resnet(3, 3, antialias=True), 11_378_179),
        (lambda: patchgan(3), 2_764_737),
        (lambda: patchgan(3, antialias=True), 2_764_737),
        (lambda: patchgan(6, norm="batch"), 2_768_705),
    ],
)
def test_parameter_counts_are_those_of_the_references(network, count):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in network().parameters()) == count


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96)])
@pytest.mark.parametrize("memory_format", FORMATS)
def test_generator_keeps_shape_and_format_and_stays_in_range(make, height, width, memory_format):
    network = make().to(memory_format=memory_format)
    assert height % network.stride == 0
    result = network(images(2, 3, height, width, memory_format=memory_format))
    assert result.shape == (2, 3, height, width)
    assert result.is_contiguous(memory_format=memory_format)
    assert result.abs().max() <= 1


def test_generator_takes_its_least_size():
    assert resnet(1, 3, blocks=1, width=8)(images(1, 1, 8, 8)).shape == (1, 3, 8, 8)


def test_generators_translate_between_channel_counts():
    assert resnet(1, 3, blocks=1, width=4)(images(1, 1, 16, 16)).shape == (1, 3, 16, 16)
    assert unet(3, 5, size=16, width=4)(images(1, 3, 16, 16)).shape == (1, 5, 16, 16)


def test_unet_trains_on_one_image_down_to_one_pixel():
    network = unet(3, 3, size=32, width=8)
    assert network.stride == 32
    result = network(images(1, 3, 32, 32))
    result.sum().backward()
    gradient = network.encoders[-1][0].weight.grad
    assert result.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize(("size", "downs"), [(4, 2), (64, 6), (96, 5), (256, 8), (512, 8), (250, 2)])
def test_unet_halves_as_often_as_the_size_allows(size, downs):
    with torch.device("meta"):
        assert unet(1, 1, size=size, width=1).stride == 2**downs


@pytest.mark.parametrize(("downs", "dropouts"), [(8, 3), (7, 3), (6, 2), (5, 1), (4, 0)])
def test_unet_drops_out_in_the_first_decoders_of_full_width(downs, dropouts):
    with torch.device("meta"):
        network = unet(3, 3, size=256, downs=downs, width=1)
    dropping = [any(isinstance(layer, nn.Dropout) for layer in decoder) for decoder in network.decoders]
    assert dropping == [False] * (downs - dropouts) + [True] * dropouts


def test_unet_skips_carry_the_encoders_features():
    network = unet(1, 1, size=4, width=4, norm="none", dropout=0.0).double()
    scene = images(1, 1, 4, 4).double()
    outer = network.encoders[0](scene)
    inner = network.decoders[1](F.relu(network.encoders[1](F.leaky_relu(outer, 0.2))))
    expected = network.decoders[0](F.relu(torch.cat([outer, inner], 1)))
    assert torch.allclose(network(scene), expected)


@pytest.mark.parametrize(("layers", "antialias", "patch"), [(1, 0, 16), (2, 0, 34), (3, 0, 70), (1, 1, 18), (3, 1, 84)])
def test_patchgan_sees_patches_of_the_stated_size(layers, antialias, patch):
    network = patchgan(1, layers=layers, width=2, norm="none", antialias=bool(antialias))
    scene = images(1, 1, 128, 128).requires_grad_()
    logits = network(scene)
    middle = logits.shape[-1] // 2
    (gradient,) = torch.autograd.grad(logits[0, 0, middle, middle], scene)
    rows, columns = gradient[0, 0].nonzero().unbind(1)
    assert rows.max() - rows.min() + 1 == patch
    assert columns.max() - columns.min() + 1 == patch


@pytest.mark.parametrize("antialias", [False, True])
def test_patchgan_gives_a_map_of_logits(antialias):
    assert patchgan(3, width=4, antialias=antialias)(images(2, 3, 256, 128)).shape == (2, 1, 30, 14)


@pytest.mark.parametrize("make", [patchgan, pixel])
def test_discriminators_give_as_many_scores_as_asked_for(make):
    assert make(3, out_channels=5, width=4)(images(2, 3, 32, 32)).shape[:2] == (2, 5)


def test_multiscale_scores_the_image_and_its_halves():
    network = multiscale(3, size=64, scales=3, layers=1, width=4, out_channels=2)
    scene = images(2, 3, 64, 64)
    scores = network(scene)
    assert scores.shape == (2, 6, 30, 30)
    half = F.avg_pool2d(scene, 3, 2, padding=1, count_include_pad=False)
    assert torch.equal(scores[:, :2], network.scales[0](scene))
    assert torch.equal(scores[:, 2:4], F.interpolate(network.scales[1](half), size=(30, 30)))


def test_multiscale_weighs_every_scale_the_same_in_a_mean():
    network = multiscale(3, size=64, scales=3, layers=1, width=4)
    for number, discriminator in enumerate(network.scales):
        nn.init.zeros_(discriminator[-1].weight)
        nn.init.constant_(discriminator[-1].bias, 10.0**number)
    assert network(images(1, 3, 64, 64)).mean().item() == pytest.approx(111 / 3)


def test_multiscale_scores_constant_images_alike_at_every_scale():
    network = multiscale(3, size=32, layers=1, width=4, norm="none")
    network.scales[1].load_state_dict(network.scales[0].state_dict())
    middle = network(torch.full((1, 3, 64, 64), 0.3))[0, :, 15, 15]
    assert middle[0].item() == pytest.approx(middle[1].item(), rel=1e-5)


def test_multiscale_names_the_least_size():
    with pytest.raises(UsageError, match="48 pixels or more; got 32"):
        multiscale(3, size=32)
    assert multiscale(3, size=48, width=2)(images(1, 3, 48, 48)).shape == (1, 2, 4, 4)


def test_pixel_scores_each_pixel_alone():
    scene = images(1, 3, 8, 8).requires_grad_()
    logits = pixel(3, width=4, norm="none")(scene)
    assert logits.shape == (1, 1, 8, 8)
    (gradient,) = torch.autograd.grad(logits[0, 0, 2, 3], scene)
    assert gradient.abs().sum(1).nonzero().tolist() == [[0, 2, 3]]


@pytest.mark.parametrize("make", DISCRIMINATORS.values(), ids=DISCRIMINATORS)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_discriminators_can_be_differentiated_twice(make, memory_format):
    network = make().to(memory_format=memory_format)
    scene = images(2, 3, 32, 32, memory_format=memory_format).requires_grad_()
    (gradient,) = torch.autograd.grad(network(scene).sum(), scene, create_graph=True)
    gradient.square().sum().backward()
    assert next(network.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize(("init", "expected"), [("normal", 0.02), ("xavier", 0.02 * (2 / (32 * 16 + 64 * 16)) ** 0.5)])
def test_initial_weights_have_the_stated_deviation(init, expected):
    network = patchgan(3, layers=2, width=32, norm="batch", init=init)
    middle, norm = network[2], network[3]  # the convolution is 4×4 from 32 to 64 channels
    assert middle.weight.std().item() == pytest.approx(expected, rel=0.05)
    assert middle.weight.mean().item() == pytest.approx(0, abs=expected / 20)
    assert norm.weight.mean().item() == pytest.approx(1, abs=0.01)
    assert norm.weight.std().item() == pytest.approx(0.02, rel=0.4)
    assert all(not layer.bias.any() for layer in network if getattr(layer, "bias", None) is not None)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_instance_norm_equals_the_native_one_and_keeps_the_format(batch, memory_format):
    fast = images(batch, 5, 9, 7, memory_format=memory_format).requires_grad_()
    native = fast.detach().contiguous().requires_grad_()
    weights = images(batch, 5, 9, 7)
    result, expected = instance_norm(fast), F.instance_norm(native)
    assert result.is_contiguous(memory_format=memory_format)
    assert torch.allclose(result, expected, atol=1e-5)
    (weights * result).sum().backward()
    (weights * expected).sum().backward()
    assert torch.allclose(fast.grad, native.grad, atol=1e-5)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_instance_norm_has_correct_derivatives_of_both_orders(memory_format):
    scene = images(2, 2, 3, 3, memory_format=memory_format).double().requires_grad_()
    assert torch.autograd.gradcheck(instance_norm, scene)
    assert torch.autograd.gradgradcheck(instance_norm, scene)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("batch", [1, 2])
def test_instance_norm_takes_a_gradient_of_either_format(batch, memory_format):
    scene = images(batch, 5, 8, 8, memory_format=memory_format).requires_grad_()
    gradient = images(batch, 5, 8, 8)
    rows = gradient.flatten(2).transpose(1, 2).contiguous()  # (N, pixels, C), as of features taken by position
    expected, found = (
        torch.autograd.grad(instance_norm(scene), scene, each)[0]
        for each in (gradient, rows.transpose(1, 2).unflatten(2, (8, 8)))
    )
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_instance_norm_of_constant_images_is_zero(dtype, memory_format):
    flat = torch.full((2, 3, 64, 64), 100.3, dtype=dtype).to(memory_format=memory_format).requires_grad_()
    result = instance_norm(flat)
    result.sum().backward()
    assert result.abs().max() < 1e-3
    assert flat.grad.isfinite().all()


@pytest.mark.parametrize("memory_format", FORMATS)
def test_instance_norm_takes_bf16_statistics_in_fp32(memory_format):
    scene = (images(2, 4, 64, 64) * 0.1 + 3).to(torch.bfloat16).to(memory_format=memory_format)
    result = instance_norm(scene)  # with a mean rounded to bf16 the result's would be up to 0.1
    assert result.dtype == torch.bfloat16
    assert result.float().mean((2, 3)).abs().max() < 5e-3
    assert torch.allclose(result.float(), F.instance_norm(scene.float()), atol=0.02)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_reflection_keeps_dtype_and_format_under_autocast(memory_format):
    scene = images(2, 3, 6, 8).to(torch.bfloat16).to(memory_format=memory_format)
    with torch.autocast("cpu", torch.bfloat16):
        padded = ReflectionPad(2)(scene)
    assert padded.dtype == torch.bfloat16
    assert padded.is_contiguous(memory_format=memory_format)
    assert torch.equal(padded.float(), F.pad(scene.float(), (2, 2, 2, 2), mode="reflect"))


def test_blur_pool_keeps_constant_images_and_halves_sides():
    pooled = BlurPool()(torch.full((1, 2, 9, 6), 0.7))
    assert pooled.shape == (1, 2, 5, 3)
    assert torch.allclose(pooled, torch.tensor(0.7))


def test_blur_pool_has_the_filter_of_the_paper():
    assert torch.equal(impulse_response(BlurPool(), 8, 4, along="input"), outer(1, 2, 1) / 16)


def test_antialiased_resnet_doubles_with_the_filter_of_the_paper():
    network = resnet(3, 3, blocks=1, width=4, antialias=True)
    doubling, _ = (layer for layer in network.layers if isinstance(layer, nn.Upsample))
    assert torch.equal(impulse_response(doubling, 4, 8, along="output"), outer(1, 3, 3, 1) / 16)
    assert torch.equal(doubling(torch.ones(1, 1, 4, 4)), torch.ones(1, 1, 8, 8))


def outer(*taps):
    return torch.tensor(taps, dtype=torch.float32).outer(torch.tensor(taps, dtype=torch.float32))


def impulse_response(layer, side, other, *, along):
    """What one pixel inside takes from the input's pixels, or gives to the output's; without the zeros around it."""
    scene = torch.zeros(1, 1, side, side)
    if along == "input":
        matrix = torch.autograd.functional.jacobian(layer, scene)[0, 0, other // 2, other // 2, 0, 0]
    else:
        scene[..., side // 2, side // 2] = 1
        matrix = layer(scene)[0, 0]
    rows, columns = (matrix.sum(axis).nonzero().flatten() for axis in (1, 0))
    return matrix[rows][:, columns]


@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("antialias", [False, True])
def test_resnet_encodes_as_its_layers_do(norm, antialias):
    network = resnet(3, 3, blocks=4, width=4, norm=norm, antialias=antialias)
    scene = images(2, 3, 16, 16)
    blocks = [place for place, layer in enumerate(network.layers) if hasattr(layer, "layers")]
    convolutions = [place for place, layer in enumerate(network.layers) if isinstance(layer, nn.Conv2d)]
    found = network.encode(scene)
    for place, features in zip([0, *convolutions[1:3], blocks[0], blocks[2]], found, strict=True):
        assert torch.equal(features, network.layers[: place + 1](scene))
    assert [features.shape[2] for features in found] == ([22, 16, 8, 4, 4] if antialias else [22, 8, 4, 4, 4])


def test_antialiased_resnet_encodes_at_the_places_of_the_reference():
    with torch.device("meta"):
        assert resnet(3, 3, antialias=True).levels == [0, 4, 8, 12, 16]


def test_resnet_encodes_without_the_layers_that_follow():
    network = resnet(3, 3, blocks=3, width=4)
    for layer in network.layers[network.levels[-1] + 1 :]:
        layer.register_forward_hook(lambda *_: pytest.fail("ran too far"))
    assert len(network.encode(images(1, 3, 8, 8))) == 5
    assert len(resnet(3, 3, blocks=1, width=4).encode(images(1, 3, 8, 8))) == 4


def test_unet_encodes_as_its_encoders_do():
    network = unet(3, 3, size=64, width=4, norm="none")
    scene = images(2, 3, 64, 64)
    found = network.encode(scene)
    assert [tuple(features.shape[1:]) for features in found] == [
        (3, 64, 64),
        (4, 32, 32),
        (8, 16, 16),
        (16, 8, 8),
        (32, 4, 4),
    ]
    assert torch.equal(found[0], scene)
    assert torch.equal(found[2], network.encoders[1](F.leaky_relu(network.encoders[0](scene), 0.2)))
    assert len(unet(3, 3, size=8, width=4).encode(images(1, 3, 8, 8))) == 3


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_bf16_stays_close_to_fp32(make):
    network = make().eval().to(memory_format=torch.channels_last)
    scene = images(2, 3, 64, 64, memory_format=torch.channels_last)
    with torch.no_grad():
        expected = network(scene)
        with torch.autocast("cpu", torch.bfloat16):
            result = network(scene)
    assert (result.float() - expected).norm() <= 0.05 * expected.norm()


@pytest.mark.parametrize("make", ALL.values(), ids=ALL)
def test_network_is_one_graph_for_the_compiler(make):
    network = make().eval().to(memory_format=torch.channels_last)
    scene = images(2, 3, 64, 64, memory_format=torch.channels_last)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(compiled(scene), network(scene), atol=0.02)


def test_plugin_offers_its_networks_without_importing_torch():
    program = "import sys, translate_networks; assert 'torch' not in sys.modules, sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_plugin_says_of_each_network_what_it_is():
    import translate_networks

    offered = {}
    translate_networks.register_networks(lambda name, factory, *, role: offered.update({(role, name): factory}))
    generators, discriminators = ({name for role, name in offered if role == kind} for kind in KINDS)
    assert {"resnet", "unet"} <= generators
    assert {"patchgan", "multiscale", "pixel"} <= discriminators
    for factory in offered.values():
        assert inspect.getdoc(factory).splitlines()[0]
