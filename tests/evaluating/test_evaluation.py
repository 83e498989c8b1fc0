import dataclasses
import json

import pytest
import torch
from real_pictures import SIDE, folder, pictures

from translate.errors import DataError, UsageError
from translate.evaluating import evaluation
from translate.evaluating.evaluation import evaluate
from translate_features import efficientnet

CHEAP = {"features": "pixels", "device": "cpu", "precision": "fp32"}


def test_the_right_translation_has_no_error(translator_file, pairs):
    found = evaluate(translator_file(gain=-1), **pairs, **CHEAP)
    assert (found.made, found.real, found.half, found.pairs, found.size) == (12, 12, 6, 12, SIDE)
    assert found.errors["l1"].made.mean == 0
    assert found.errors["ssim"].made.mean == pytest.approx(1)
    assert found.distances["frechet"].value == pytest.approx(0, abs=1e-9)


def test_doing_nothing_is_at_the_ceiling(translator_file, pairs):
    found = evaluate(translator_file(gain=1), **pairs, **CHEAP)
    for distance in found.distances.values():
        assert distance.value == distance.ceiling
    for error in found.errors.values():
        assert error.made == error.unchanged


def test_a_middling_model_is_between_floor_and_ceiling(translator_file, tmp_path):
    inputs, others = pictures(40), 255 - pictures(40, seed=1)
    given = {"a": str(folder(tmp_path / "a", inputs)), "b": str(folder(tmp_path / "b", others))}
    found = evaluate(translator_file(gain=-0.4), **given, **CHEAP)
    kernel, frechet = found.distances["kernel"], found.distances["frechet"]
    assert kernel.floor < kernel.value < kernel.ceiling
    assert frechet.value < frechet.ceiling


def test_the_other_direction_can_be_measured(translator_file, pairs):
    found = evaluate(translator_file(gain=-1), to="a", **pairs, **CHEAP)
    assert found.to == "a"
    assert found.errors["l1"].made == found.errors["l1"].unchanged
    with pytest.raises(UsageError, match="does not translate to 'c'"):
        evaluate(translator_file(), to="c", **pairs, **CHEAP)


def test_numbers_depend_neither_on_the_batch_nor_on_the_order_of_files(translator_file, pairs, tmp_path):
    model = translator_file(gain=-0.7)
    images, names = pictures(12), [f"{number:02}" for number in range(11, -1, -1)]
    turned = {
        "a": str(folder(tmp_path / "c", images, names)),
        "b": str(folder(tmp_path / "d", 255 - images, names)),
    }
    first, batched, reordered = (
        evaluate(model, **given, batch=batch, **CHEAP) for given, batch in ((pairs, 16), (pairs, 5), (turned, 16))
    )
    for other in (batched, reordered):
        for name, error in first.errors.items():
            assert other.errors[name].made.mean == pytest.approx(error.made.mean, rel=1e-5)
        for name, distance in first.distances.items():
            assert other.distances[name].value == pytest.approx(distance.value, rel=1e-4)
            assert other.distances[name].ceiling == pytest.approx(distance.ceiling, rel=1e-4)


def test_the_answer_is_plain_values(translator_file, pairs):
    found = evaluate(translator_file(), **pairs, **CHEAP)
    plain = json.loads(json.dumps(dataclasses.asdict(found)))
    assert plain["distances"]["kernel"].keys() == {"value", "deviation", "floor", "ceiling"}
    assert plain["errors"]["psnr"]["made"].keys() == {"mean", "standard_error"}


def test_images_without_namesakes_are_compared_as_sets_only(translator_file, pairs, tmp_path):
    others = folder(tmp_path / "others", 255 - pictures(9), names="abcdefghi")
    found = evaluate(translator_file(), a=pairs["a"], b=str(others), **CHEAP)
    assert (found.pairs, found.errors, found.real) == (0, {}, 9)
    assert any("0 of 12 images of 'a' share their name" in note for note in found.notes)
    with pytest.raises(DataError, match=r"Nothing can be measured.*share their name"):
        evaluate(translator_file(), a=pairs["a"], b=str(others), **CHEAP | {"features": "none"})


def test_without_features_only_pairs_are_measured(translator_file, pairs):
    found = evaluate(translator_file(), **pairs, **CHEAP | {"features": "none"})
    assert (found.features, found.distances) == (None, {})
    assert found.errors["l1"].made.mean == 0


def test_pairs_of_other_sizes_are_brought_to_the_models(translator_file, tmp_path):
    a = folder(tmp_path / "a", pictures(4, shape=(3, SIDE, 3 * SIDE)))
    b = folder(tmp_path / "b", 255 - pictures(4, shape=(3, 2 * SIDE, 2 * SIDE)))
    found = evaluate(translator_file(), a=str(a), b=str(b), **CHEAP)
    assert (found.size, found.pairs) == (SIDE, 4)
    assert found.errors["l1"].made.mean < 0.05


def test_inputs_of_other_channels_have_no_error_of_their_own(translator_file, tmp_path):
    images = pictures(5, shape=(1, SIDE, SIDE))
    a, b = folder(tmp_path / "a", images), folder(tmp_path / "b", 255 - images.expand(-1, 3, -1, -1))
    found = evaluate(translator_file(channels=(1, 3)), a=str(a), b=str(b), **CHEAP)
    assert found.errors["l1"].unchanged is None
    assert found.distances["kernel"].ceiling > 0


def test_sides_are_those_that_the_model_learned_from(translator_file, tmp_path):
    images = pictures(5)
    data = str(folder(tmp_path / "data", torch.cat([255 - images, images], 3)))
    model = translator_file(parts=("right", "left"))
    found = evaluate(model, data=data, swap=True, **CHEAP)
    assert (found.pairs, found.errors["l1"].made.mean) == (5, 0)
    with pytest.raises(UsageError, match=r"'a' from the right half.*the left one: add --swap"):
        evaluate(model, data=data, **CHEAP)


def test_a_run_is_measured_on_what_it_held_out(translator_file, tmp_path):
    for part, images in (("train", pictures(6)), ("test", pictures(4, seed=1))):
        folder(tmp_path / "data" / f"{part}A", images)
        folder(tmp_path / "data" / f"{part}B", 255 - images)
    run = translator_file(path=tmp_path / "run").parent
    with pytest.raises(UsageError, match="is no run whose own held-out images could be used: give --a and --b"):
        evaluate(run, **CHEAP)
    settings = run / "run.toml"
    settings.write_text(f'[fit]\nmodel = "negative"\ndata = "{tmp_path / "data"}"\nsize = {SIDE}\n')
    found = evaluate(run, **CHEAP)
    assert (found.made, found.real) == (4, 4)
    settings.write_text(f'[fit]\nmodel = "negative"\na = "{tmp_path}/data/testA"\nb = "{tmp_path}/data/testB"\n')
    with pytest.raises(DataError, match="has no held-out images of both domains"):
        evaluate(run, **CHEAP)


def test_files_that_cannot_be_read_are_left_out_and_named(translator_file, pairs, tmp_path):
    (tmp_path / "positives" / "03.png").write_bytes(b"no image")
    (tmp_path / "negatives" / "05.png").write_bytes(b"no image")
    found = evaluate(translator_file(), **pairs, **CHEAP)
    assert (found.made, found.real, found.pairs) == (11, 11, 10)
    assert found.errors["l1"].made.mean == 0
    assert sum("Left out of" in note for note in found.notes) == 2
    for file in (tmp_path / "negatives").iterdir():
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"None of the images in .*negatives/ can be read"):
        evaluate(translator_file(), **pairs, **CHEAP)


def test_what_a_user_may_get_wrong(translator_file, sampler_file, pairs, tmp_path):
    translator, sampler = translator_file(), sampler_file()
    (tmp_path / "empty").mkdir()
    empty, images = str(tmp_path / "empty"), pairs["a"]
    for model, given, error, message in (
        (translator, pairs | {"features": "pixel"}, UsageError, "pixel.*Did you mean 'pixels'"),
        (translator, {"images": images}, UsageError, "--images does not fit: this model has two domains"),
        (sampler, pairs, UsageError, "does not fit: this model has one domain: give --images"),
        (translator, {"a": images}, UsageError, "--a without --b"),
        (translator, {"a": images, "b": empty}, DataError, "empty/ has no images"),
        (sampler, {"images": empty}, DataError, "empty/ has no images"),
        (sampler, {}, UsageError, "is no run .*: give --images"),
        (sampler, {"images": images, "to": "b"}, UsageError, "--to does not fit"),
        (sampler, {"images": images, "features": "none"}, UsageError, "leaves nothing to measure"),
        (sampler, {"images": images, "n": 1}, UsageError, "--n at least 2"),
        (translator, pairs | {"n": 64}, UsageError, "--n does not fit"),
        (translator, pairs | {"batch": 0}, UsageError, "--batch must be at least 1"),
    ):
        with pytest.raises(error, match=message):
            evaluate(model, **CHEAP | given)


def test_a_set_of_one_image_is_an_error(translator_file, tmp_path):
    a, b = folder(tmp_path / "a", pictures(3)), folder(tmp_path / "b", pictures(1))
    with pytest.raises(DataError, match="one of them has 1 image"):
        evaluate(translator_file(), a=str(a), b=str(b), **CHEAP)


def test_missing_weights_cost_the_distances_only_unless_they_are_needed(
    translator_file, sampler_file, pairs, monkeypatch
):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    default = CHEAP | {"features": None}
    found = evaluate(translator_file(), **pairs, **default)
    assert (found.features, found.distances, found.pairs) == (None, {}, 12)
    assert any("Sets of images are not compared" in note and "pip install" in note for note in found.notes)
    with pytest.raises(UsageError, match="pip install"):
        evaluate(translator_file(), **pairs, **CHEAP | {"features": "efficientnet"})
    with pytest.raises(UsageError, match="pip install"):
        evaluate(sampler_file(), images=pairs["a"], **default)


# Models without an input ---------------------------------------------------------------------------------------------


def greys(levels):
    return [torch.full((1, SIDE, SIDE), level, dtype=torch.uint8) for level in levels]


def test_samples_of_the_right_distribution_are_nearer_than_noise(sampler_file, tmp_path):
    images = folder(tmp_path / "images", greys(range(128, 256, 4)))
    found = evaluate(sampler_file(), images=str(images), n=40, batch=7, **CHEAP)
    assert (found.to, found.made, found.real, found.pairs) == (None, 40, 32, 0)
    assert f"None of the real images is held out: they are all of those in {images}/." in found.notes
    for distance in found.distances.values():
        assert distance.value < distance.ceiling / 10
    again = evaluate(sampler_file(), images=str(images), n=40, batch=16, **CHEAP)
    for name, distance in found.distances.items():
        assert again.distances[name].value == pytest.approx(distance.value, rel=1e-4)
        assert again.distances[name].ceiling == pytest.approx(distance.ceiling, rel=1e-4)


def test_classes_come_in_the_proportion_of_the_real_images(sampler_file, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        evaluation.Sampler,
        "__call__",
        lambda self, seeds, labels: seen.extend(labels) or torch.zeros(len(seeds), 1, SIDE, SIDE),
    )
    folder(tmp_path / "images" / "dark", greys([20, 40, 60, 70, 80, 100]))
    folder(tmp_path / "images" / "light", greys([200, 240]))
    model = sampler_file(classes=("light", "middle", "dark"))  # in another order than the folder's, and one more
    evaluate(model, images=str(tmp_path / "images"), n=16, batch=5, **CHEAP)
    assert sorted(seen) == [0] * 4 + [2] * 12


def test_a_class_that_the_model_does_not_know_is_an_error(sampler_file, tmp_path):
    for name in ("dark", "lights"):
        folder(tmp_path / "images" / name, greys([200, 240]))
    with pytest.raises(UsageError, match=r"no class 'lights'\. Did you mean 'light'"):
        evaluate(sampler_file(classes=("dark", "light")), images=str(tmp_path / "images"), n=4, **CHEAP)


def test_few_images_are_noted_to_bias_the_frechet_distance(translator_file, pairs, monkeypatch):
    model = translator_file()
    assert any("biased upwards" in note for note in evaluate(model, **pairs, **CHEAP).notes)
    monkeypatch.setattr(evaluation, "ENOUGH_IMAGES", 12)
    assert not any("biased" in note for note in evaluate(model, **pairs, **CHEAP).notes)


def test_pairs_of_tiny_images_are_noted_to_have_no_ssim(translator_file, pairs):
    found = evaluate(translator_file(side=8), **pairs, **CHEAP)
    assert found.errors.keys() == {"l1", "psnr"}
    assert any("SSIM is left out" in note for note in found.notes)
