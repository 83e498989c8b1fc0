import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from translate.data.augmentation.parsing import Augmentation, check, crops, parse
from translate.errors import DataError, UsageError

ROOT = Path(__file__).parents[2]
SIDE = 32


def pixels(channels: int = 3, dtype: torch.dtype = torch.uint8, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if dtype == torch.float32:
        return torch.rand(channels, SIDE, SIDE, generator=generator) * 3000 - 1000
    largest = 256 if dtype == torch.uint8 else 65536
    return torch.randint(largest, (channels, SIDE, SIDE), generator=generator).to(dtype)


def labels(dtype: torch.dtype = torch.uint8, channels: int = 1) -> torch.Tensor:
    codes = torch.tensor([0, 1, 7, 40, 41]) * (1000 if dtype == torch.uint16 else 1)
    return codes[torch.randint(5, (channels, SIDE, SIDE), generator=torch.Generator().manual_seed(1))].to(dtype)


def batch(channels: int = 3, count: int = 4) -> torch.Tensor:
    return torch.rand(count, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(2)) * 2 - 1


def on_host(parsed, images, kinds, seed):
    """The images after albumentations, with the range of each dtype, and of floats the image's own."""
    if parsed.albumentations is None:
        return images
    whole = {torch.uint8: (0, 255), torch.uint16: (0, 65535)}
    ranges = [whole[image.dtype] if image.dtype in whole else torch.aminmax(image) for image in images]
    return parsed.albumentations(images, kinds, seed, [tuple(map(float, each)) for each in ranges])


def on_device(parsed, batches, kinds, seed):
    """The batches after kornia."""
    return parsed.kornia(batches, kinds, seed) if parsed.kornia else batches


def values(tensor: torch.Tensor) -> set[float]:
    return set(tensor.to(torch.float64).unique().tolist())


def table(library: str, name: str, **options: object) -> str:
    return "\n".join(
        [f"[[{library}]]", f'transform = "{name}"', *(f"{k} = {json.dumps(v)}" for k, v in options.items())]
    )


def written(folder: Path, *tables: str) -> str:
    (folder / "mine.toml").write_text("\n".join(tables))
    return str(folder / "mine.toml")


# ------------------------------------------------------------------ names


def test_built_in_operations_keep_their_arguments():
    parsed = parse("crop, flip,zoom(0.5, 1)")
    assert parsed.built_in == {"crop": (), "flip": (), "zoom": (0.5, 1.0)}
    assert parsed.albumentations is None
    assert parsed.kornia is None
    assert parse("none").built_in == {}


@pytest.mark.parametrize(
    ("text", "answer"),
    [("crop,flip", True), ("flip", False), ("none", False), ("flip,zoom(0.5, 1)", True), ("flip,blur", False)],
)
def test_whether_images_are_cut_is_known(text, answer):
    assert crops(text) is answer


def test_without_transforms_nothing_changes():
    image, images = pixels(), batch()
    assert on_host(parse("crop"), [image], ["images"], 0) == [image]
    assert on_device(parse("crop"), [images], ["images"], 0) == [images]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "write none"),
        ("none,flip", "leave one of them out"),
        ("flip,flip", "comes twice"),
        ("flop", "Did you mean 'flip'"),
        ("colr", "Did you mean 'colour'"),
        ("crop(3)", "write crop alone"),
        ("zoom", "write zoom"),
        ("zoom(1, 0.5)", "write zoom"),
        ("zoom(0, 1)", "write zoom"),
        ("zoom(True, 1)", "write zoom"),
        ("affine(degree=3)", "no option 'degree'. Did you mean 'degrees'"),
        ("affine(degrees=-3)", "degrees: Input should be greater than or equal to 0, got -3"),
        ("affine(x)", "0: Input should be a valid number"),
        ("1 + 1", "is no augmentation"),
        ("colour(hue=os.getcwd())", "is no augmentation"),
        ("mine.toml", "There is no file 'mine.toml'"),
    ],
)
def test_wrong_names_are_refused_with_what_to_do(text, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=re.escape(says)):
        check(text)
    with pytest.raises(UsageError, match=re.escape(says)):
        parse(text)


def in_a_process(code: str, **environment: str) -> None:
    changed = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    changed.pop("NO_ALBUMENTATIONS_UPDATE", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=changed, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_built_in_operations_load_neither_torch_nor_the_libraries():
    in_a_process(
        "import sys; from translate.data.augmentation.parsing import check, crops\n"
        "check('crop,flip,vflip,rotate90,zoom(0.5, 1)'); crops('crop'); check('none')\n"
        "assert not {'torch', 'numpy', 'kornia', 'albumentations', 'cv2'} & set(sys.modules)"
    )


def test_albumentations_asks_no_server():
    guard = (
        "import socket, sys\nasked = []\n"
        "def refuse(*a, **k): asked.append(a); raise OSError('no network')\n"
        "socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse\n"
    )
    in_a_process(
        guard + "from translate.data.augmentation.parsing import check; check('colour,affine'); assert not asked, asked"
    )
    # the guard does see what albumentations does by itself
    in_a_process(guard + "import warnings; warnings.simplefilter('ignore'); import albumentations; assert asked")


# ------------------------------------------------------------------ files


def test_a_toml_file_holds_transforms_of_both_libraries(tmp_path):
    file = written(
        tmp_path,
        table("kornia", "RandomAffine", degrees=10.0, translate=[0.1, 0.1], p=0.5),
        table("albumentations", "GaussianBlur", blur_limit=[3, 7], p=0.3),
    )
    parsed = parse(f"flip,{file}")
    assert parsed.built_in == {"flip": ()}
    assert parsed.albumentations is not None
    assert parsed.kornia is not None


def test_the_file_of_the_documentation_can_be_read(tmp_path):
    page = (ROOT / "docs" / "augmentation.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    check(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[kornia]", "cannot be read"),
        ("", "lists no transform"),
        ("[[korna]]", "Did you mean 'kornia'"),
        ("[kornia]\np = 1", "write [[kornia]]"),
        ("[[kornia]]\np = 1", 'no line `transform = "…"`'),
        (table("kornia", "RandomAffin"), "Did you mean 'RandomAffine'"),
        (table("kornia", "RandomAffine", degree=3), "RandomAffine has no option 'degree'. Did you mean 'degrees'"),
        (table("kornia", "RandomAffine"), "RandomAffine cannot be built: "),
        (table("kornia", "RandomMixUpV2"), "no transform 'RandomMixUpV2'"),
        (table("albumentations", "GaussianBlur", blur_limits=3), "no option 'blur_limits'. Did you mean 'blur_limit'"),
        (table("albumentations", "GaussianBlur", p=3), "p: Input should be less than or equal to 1, got 3"),
        (table("albumentations", "OneOf"), "comes from a file that albumentations.save wrote"),
        (table("albumentations", "MaskDropout"), "needs more than images (mask)"),
    ],
)
def test_wrong_toml_is_refused_by_file_transform_and_option(text, says, tmp_path):
    file = written(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        check(file)
    assert file in str(caught.value)


@pytest.fixture
def saved(tmp_path) -> Path:
    import albumentations as A

    choice = A.OneOf([A.Affine(rotate=(-20, 20)), A.GaussNoise(), A.SomeOf([A.HorizontalFlip(p=1)], n=1)], p=0.9)
    A.save(
        A.Compose([choice, A.Sequential([A.GaussNoise(p=0.5), A.Affine(rotate=(-20, 20), p=0.5)])]), tmp_path / "a.json"
    )
    A.save(A.load(tmp_path / "a.json"), tmp_path / "a.yaml", data_format="yaml")
    return tmp_path / "a.json"


def test_both_formats_of_albumentations_give_the_same(saved):
    image = pixels()
    first, second = (parse(str(file)) for file in (saved, saved.with_suffix(".yaml")))
    results = [[on_host(each, [image], ["images"], seed)[0] for seed in range(8)] for each in (first, second)]
    assert all(map(torch.equal, *results))
    assert not all(torch.equal(result, image) for result in results[0])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda leaf: leaf.update(__class_fullname__="Affin"), "no transform 'Affin' of single images. Did you mean"),
        (lambda leaf: leaf.update(rotates=3), "'rotates' are not valid"),
        (lambda leaf: leaf.update(rotate="far"), "cannot be read as a pipeline of albumentations: rotate"),
        (lambda leaf: leaf.pop("__class_fullname__"), "is no pipeline as albumentations.save writes it"),
    ],
)
def test_a_wrong_pipeline_is_refused(saved, change, says):
    pipeline = json.loads(saved.read_text())
    change(pipeline["transform"]["transforms"][0]["transforms"][0])
    saved.write_text(json.dumps(pipeline))
    with pytest.raises(ValueError, match=re.escape(says)):
        check(str(saved))


def test_what_is_no_json_is_refused(saved):
    saved.write_text("{")
    with pytest.raises(ValueError, match=r"a\.json cannot be read as a pipeline"):
        check(str(saved))


# ------------------------------------------------------------------ what transforms may be

HOST_GEOMETRY = {
    "Affine": {"rotate": [-30, 30], "scale": [0.8, 1.2], "translate_percent": [-0.1, 0.1], "shear": [-10, 10]},
    "D4": {},
    "ElasticTransform": {"alpha": 50.0, "sigma": 4.0},
    "GridDistortion": {},
    "HorizontalFlip": {},
    "OpticalDistortion": {},
    "Perspective": {},
    "RandomGridShuffle": {},
    "RandomResizedCrop": {"size": [SIDE, SIDE]},
    "Rotate": {},
    "SafeRotate": {},
    "ThinPlateSpline": {},
    "Transpose": {},
    "VerticalFlip": {},
}
HOST_COLOUR = """
    AdditiveNoise Blur CLAHE ChannelShuffle ColorJitter Defocus Downscale Equalize FancyPCA GaussNoise GlassBlur
    HueSaturationValue ISONoise ImageCompression MedianBlur MotionBlur PixelDropout PlasmaShadow Posterize RGBShift
    RandomBrightnessContrast RandomFog RandomGamma RandomRain RandomShadow RandomToneCurve SaltAndPepper Sharpen
    ShotNoise Solarize Spatter Superpixels ToGray UnsharpMask ZoomBlur
"""
DEVICE_GEOMETRY = {
    "RandomAffine": {"degrees": 30.0, "translate": [0.1, 0.1], "scale": [0.8, 1.2], "shear": 10.0},
    "RandomCrop": {"size": [SIDE, SIDE], "padding": 4},
    "RandomElasticTransform": {"kernel_size": [15, 15], "sigma": [4.0, 4.0]},
    "RandomErasing": {},  # of labels, too: what is erased is 0
    "RandomHorizontalFlip": {},
    "RandomPerspective": {},
    "RandomResizedCrop": {"size": [SIDE, SIDE]},
    "RandomRotation": {"degrees": 30.0},
    "RandomRotation90": {"times": [-1, 2]},
    "RandomShear": {"shear": 10.0},
    "RandomTranslate": {"translate_x": [-0.2, 0.2]},
    "RandomVerticalFlip": {},
}
DEVICE_COLOUR = {
    "ColorJiggle": {"brightness": 0.2, "hue": 0.1},
    "ColorJitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2, "hue": 0.1},
    "RandomAutoContrast": {},
    "RandomBoxBlur": {},
    "RandomBrightness": {"brightness": [0.7, 1.3]},
    "RandomChannelDropout": {},
    "RandomChannelShuffle": {},
    "RandomClahe": {},
    "RandomContrast": {"contrast": [0.7, 1.3]},
    "RandomEqualize": {},
    "RandomGamma": {"gamma": [0.7, 1.3]},
    "RandomGaussianBlur": {"kernel_size": [5, 5], "sigma": [0.1, 2.0]},
    "RandomGaussianIllumination": {},
    "RandomGaussianNoise": {"std": 0.1},
    "RandomGrayscale": {},
    "RandomInvert": {},
    "RandomJPEG": {},
    "RandomLinearIllumination": {},
    "RandomMedianBlur": {},
    "RandomMotionBlur": {"kernel_size": 5, "angle": 30.0, "direction": 0.5},
    "RandomPlanckianJitter": {},
    "RandomPlasmaBrightness": {},
    "RandomPosterize": {},
    "RandomRGBShift": {},
    "RandomSaltAndPepperNoise": {},
    "RandomSaturation": {"saturation": [0.7, 1.3]},
    "RandomSharpness": {},
    "RandomSnow": {},
    "RandomSolarize": {},
}
NAMED = ("colour", "affine", "perspective", "blur(p=1)", "noise(p=1)", "compression(p=1)", "elastic")
HOST = HOST_GEOMETRY | {name: {} for name in HOST_COLOUR.split()}
DEVICE = DEVICE_GEOMETRY | DEVICE_COLOUR


def of_library(folder: Path, library: str, names: dict[str, dict], p: float = 0.7) -> Augmentation:
    return parse(written(folder, *(table(library, name, **{"p": p, **options}) for name, options in names.items())))


@pytest.mark.parametrize("name", HOST)
def test_the_same_image_twice_stays_the_same_on_the_host(name, tmp_path):
    one = of_library(tmp_path, "albumentations", {name: HOST[name]})
    image, changed = pixels(), False
    for seed in range(8):
        first, second, label = on_host(one, [image, image, labels()], ["images", "images", "labels"], seed)
        assert torch.equal(first, second)
        assert (first.shape, first.dtype) == (image.shape, image.dtype)
        assert values(label) <= values(labels())
        assert name in HOST_GEOMETRY or torch.equal(label, labels())
        changed |= not torch.equal(first, image)
    assert changed


@pytest.mark.parametrize("name", DEVICE)
def test_the_same_batch_twice_stays_the_same_on_the_device(name, tmp_path):
    one = of_library(tmp_path, "kornia", {name: DEVICE[name]})
    codes = labels()[None].expand(4, -1, -1, -1) / 127.5 - 1
    state, changed = torch.random.get_rng_state(), False
    for seed in range(4):
        first, second, label = one.kornia([batch(), batch(), codes], ["images", "images", "labels"], seed)
        assert torch.equal(first, second)
        assert first.shape == batch().shape
        assert first.abs().max() <= 1
        assert values(label) <= values(codes)
        assert name in DEVICE_GEOMETRY or torch.equal(label, codes)
        changed |= not torch.allclose(first, batch(), atol=1e-3)
    assert changed
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("name", HOST_GEOMETRY)
def test_images_that_differ_in_channels_move_alike_on_the_host(name, tmp_path):
    """Noise before it draws more numbers for three channels than for one, and must not disturb the geometry."""
    one = of_library(tmp_path, "albumentations", {"GaussNoise": {"std_range": [0, 0]}, name: HOST_GEOMETRY[name]})
    image = pixels()
    for seed in range(4):
        whole, single, five = on_host(one, [image, image[1:2], image[[2, 1, 0, 1, 2]]], ["images"] * 3, seed)
        assert torch.equal(whole[1:2], single)
        assert torch.equal(whole[[2, 1, 0, 1, 2]], five)


@pytest.mark.parametrize("name", DEVICE_GEOMETRY)
def test_images_that_differ_in_channels_move_alike_on_the_device(name, tmp_path):
    one = of_library(tmp_path, "kornia", {"RandomGaussianNoise": {"std": 0.0}, name: DEVICE_GEOMETRY[name]})
    images = batch()
    for seed in range(4):
        whole, single, five = one.kornia([images, images[:, 1:2], images[:, [2, 1, 0, 1, 2]]], ["images"] * 3, seed)
        torch.testing.assert_close(whole[:, 1:2], single)
        torch.testing.assert_close(whole[:, [2, 1, 0, 1, 2]], five)


def test_labels_move_with_their_images_on_the_host(tmp_path):
    nearest = {
        name: {**options, "interpolation": 0} if name in ("Affine", "Perspective", "ElasticTransform") else options
        for name, options in HOST_GEOMETRY.items()
        if name in ("Affine", "D4", "ElasticTransform", "HorizontalFlip", "Perspective", "RandomGridShuffle")
    }
    chain = of_library(tmp_path, "albumentations", {"GaussianBlur": {}, **nearest}, p=0.6)
    chain_without_blur = of_library(tmp_path, "albumentations", {"GaussianBlur": {"p": 0.0}, **nearest}, p=0.6)
    for seed in range(16):
        (label,) = on_host(chain, [labels()], ["labels"], seed)
        image, same = on_host(chain_without_blur, [labels(), labels()], ["images", "labels"], seed)
        assert torch.equal(image, label)
        assert torch.equal(same, label)


def test_labels_move_with_their_images_on_the_device(tmp_path):
    names = ("RandomAffine", "RandomHorizontalFlip", "RandomPerspective", "RandomRotation90")
    nearest = {n: {**DEVICE_GEOMETRY[n], **({"resample": "nearest"} if "Flip" not in n else {})} for n in names}
    chain = of_library(tmp_path, "kornia", {"RandomGaussianBlur": DEVICE_COLOUR["RandomGaussianBlur"], **nearest})
    plain = of_library(tmp_path, "kornia", {"RandomInvert": {"p": 0.0}, **nearest})
    codes = labels()[None].expand(4, -1, -1, -1) / 127.5 - 1
    for seed in range(16):
        _, label = chain.kornia([batch(), codes], ["images", "labels"], seed)
        image, same = plain.kornia([codes, codes], ["images", "labels"], seed)
        torch.testing.assert_close(image, label)
        assert torch.equal(same, label)


@settings(max_examples=25, deadline=None)
@given(
    names=st.lists(st.sampled_from(NAMED), min_size=1, max_size=4, unique=True),
    seed=st.integers(0, 2**63 - 1),
    dtype=st.sampled_from([torch.uint8, torch.uint16, torch.float32]),
    channels=st.sampled_from([1, 3]),
)
def test_pairs_stay_aligned_under_any_registered_augmentations(names, seed, dtype, channels):
    parsed = parse(",".join(names))
    image, label = pixels(channels, dtype), labels(torch.uint16)
    kinds = ["images", "images", "labels"]
    first, second, third = on_host(parsed, [image, image, label], kinds, seed)
    assert torch.equal(first.to(torch.float64), second.to(torch.float64))
    assert (first.shape, first.dtype, third.dtype) == (image.shape, dtype, torch.uint16)
    assert values(third) <= values(label)
    codes = label.float()[None].expand(2, -1, -1, -1) / 32767.5 - 1
    first, second, third = on_device(parsed, [batch(channels, 2), batch(channels, 2), codes], kinds, seed)
    assert torch.equal(first, second)
    assert values(third) <= values(codes)


# ------------------------------------------------------------------ draws


def test_results_depend_on_the_seed_alone_in_any_thread(saved):
    parsed = parse(f"{saved},perspective,noise,blur")
    image = pixels()

    def run(seed: int) -> torch.Tensor:
        return on_host(parsed, [image], ["images"], seed)[0]

    alone = [run(seed) for seed in range(40)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(run, [*range(40)] * 2))
    assert all(map(torch.equal, alone * 2, together))
    assert len({result.numpy().tobytes() for result in alone}) == 40


def test_transforms_draw_independently_of_each_other(tmp_path):
    """One seed for all would apply all of one probability together or none of them."""
    flips = {"HorizontalFlip": {}, "VerticalFlip": {}}
    parsed = of_library(tmp_path, "albumentations", flips, p=0.5)
    image = pixels()
    turned = [image, image.flip(2), image.flip(1), image.flip((1, 2))]
    seen = [on_host(parsed, [image], ["images"], seed)[0] for seed in range(400)]
    counts = [sum(torch.equal(result, one) for result in seen) for one in turned]
    assert sum(counts) == 400
    assert all(70 < count < 130 for count in counts)


def test_rows_of_a_batch_draw_for_themselves():
    (result,) = parse("affine").kornia([batch(3, 1).expand(4, -1, -1, -1)], ["images"], 0)
    assert len({row.numpy().tobytes() for row in result}) == 4


# ------------------------------------------------------------------ depths and ranges


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_integers_come_back_exactly(dtype, tmp_path):
    parsed = of_library(tmp_path, "albumentations", {"HorizontalFlip": {}}, p=1)
    image = pixels(2, dtype)
    (flipped,) = on_host(parsed, [image], ["images"], 0)
    assert torch.equal(flipped.int(), image.int().flip(2))


def test_colours_are_changed_within_the_range_that_counts(tmp_path):
    """Twelve bits in sixteen: brighter by a tenth of 4095, not of 65535."""
    options = {"brightness_limit": [0.1, 0.1], "contrast_limit": [0, 0]}
    parsed = of_library(tmp_path, "albumentations", {"RandomBrightnessContrast": options}, p=1)
    image = torch.full((1, 8, 8), 2000).to(torch.uint16)
    (result,) = parsed.albumentations([image], ["images"], 0, [(0.0, 4095.0)])
    assert result.int().unique().tolist() == [round(2000 + 0.1 * 4095)]


def test_floats_of_any_range_keep_it():
    (result,) = on_host(parse("perspective"), [pixels(1, torch.float32)], ["images"], 0)
    assert result.min() >= -1001
    assert 1500 < result.max() <= 2001


# ------------------------------------------------------------------ what does not go together


@pytest.mark.parametrize(
    ("library", "name", "options"),
    [
        ("albumentations", "Resize", {"height": 8, "width": 8}),
        ("albumentations", "RandomCrop", {"height": 8, "width": 8}),
        ("albumentations", "ToFloat", {}),
        ("albumentations", "ToTensorV2", {}),
        ("kornia", "Resize", {"size": [8, 8]}),
        ("kornia", "CenterCrop", {"size": 8}),
    ],
)
def test_a_change_of_size_or_type_is_found_at_once_however_rare(library, name, options, tmp_path):
    parsed = of_library(tmp_path, library, {name: options}, p=1e-6)
    with pytest.raises(DataError, match=rf"mine.toml \({name}\) cannot be applied to images of 3 channels: it makes"):
        on_host(parsed, [pixels()], ["images"], 0) + on_device(parsed, [batch()], ["images"], 0)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_colour_transforms_that_need_three_channels_say_so(channels, tmp_path):
    message = f"cannot be applied to images of {channels} channel"
    with pytest.raises(DataError, match=message):
        on_host(of_library(tmp_path, "albumentations", {"ISONoise": {}}, 1e-6), [pixels(channels)], ["images"], 0)
    with pytest.raises(DataError, match=message):
        of_library(tmp_path, "kornia", {"RandomHue": {}}, 1e-6).kornia([batch(channels)], ["images"], 0)


def test_labels_that_would_be_blended_are_refused(tmp_path):
    blended = {"Affine": {"rotate": [-30, 30], "mask_interpolation": 1}}
    with pytest.raises(DataError, match=r"Affine\) cannot be applied to label images of 1 channel: it makes values"):
        on_host(of_library(tmp_path, "albumentations", blended), [labels()], ["labels"], 0)
    with pytest.raises(DataError, match="label images of 3 channels: it makes values"):
        on_host(of_library(tmp_path, "albumentations", {"Morphological": {}}), [labels(channels=3)], ["labels"], 0)
    with pytest.raises(DataError, match=r"RandomThinPlateSpline\) cannot be applied to label images of 1 channel"):
        of_library(tmp_path, "kornia", {"RandomThinPlateSpline": {}}).kornia([batch(1)], ["labels"], 0)
