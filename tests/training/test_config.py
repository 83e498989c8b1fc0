"""The options of a run: validated, explained, completed from what the run's record has."""

import pytest
import tomli_w

from translate.errors import UsageError
from translate.plugins import registry
from translate.training.config import FitConfig, complete, fit_config, length_of, model_options, read_config

KIND = registry.model("cyclegan")
GIVEN = {"model": "cyclegan", "a": "sans", "b": "serif", "size": 32, "steps": 100, "precision": "fp32"}


def stored(**changes):
    """What run.toml holds of a run that was started with GIVEN and these."""
    config = complete(KIND, fit_config(GIVEN | changes), None)
    fit = config.model_dump(mode="json", exclude_none=True, exclude={"options", "run"})
    environment = {"plugin_version": "0.1.0"}
    return {"fit": fit, "options": config.options, "asked": length_of(config), "environment": environment}


# ------------------------------------------------------------------ validation, in the words of the command line


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stepps": 3}, "There is no option --stepps. Did you mean 'steps'"),
        ({"batch": 0}, "--batch: Input should be greater than or equal to 1, got 0."),
        ({"precision": "fp8"}, "--precision: Input should be 'auto', 'bf16', 'fp16' or 'fp32', got 'fp8'."),
        ({"epochs": 3}, "--epochs and --steps exclude each other; give one length"),
        ({"augment": "flop"}, "There is no augmentation 'flop'. Did you mean 'flip'"),
        ({"load_size": 16}, "--load-size 16 is smaller than --size 32"),
    ],
)
def test_a_bad_value_is_explained(changes, sentence):
    with pytest.raises(UsageError) as caught:
        fit_config(GIVEN | changes)
    assert sentence in str(caught.value)


def test_every_bad_value_is_named_at_once():
    with pytest.raises(UsageError) as caught:
        fit_config({"batch": 0, "keep": 0})
    lines = str(caught.value).splitlines()
    assert {line.split(":")[0] for line in lines} == {"--model is required.", "--batch", "--keep"}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lambda_cycel": 3}, "There is no option --lambda-cycel. Did you mean"),
        ({"lambda_cycle": -1}, "--lambda-cycle: Input should be greater than or equal to 0, got -1."),
        ({"generator": "resnet(9)"}, "--generator: 'resnet(9)' is no network"),
        ({"adversarial": "lsgann"}, "There is no adversarial loss 'lsgann'. Did you mean 'lsgan'"),
    ],
)
def test_a_models_own_options_are_explained_alike(options, sentence):
    with pytest.raises(UsageError) as caught:
        model_options(KIND, options)
    assert sentence in str(caught.value)


def test_a_models_options_are_all_there_with_their_defaults():
    options = model_options(KIND, {"pool_size": 3})
    assert options.keys() == KIND.Config.model_fields.keys()
    assert (options["pool_size"], options["lambda_cycle"]) == (3, 10.0)


def test_the_length_is_the_one_that_was_asked_for():
    assert length_of(fit_config(GIVEN)) == {"steps": 100}
    assert length_of(FitConfig(model="x", minutes=2)) == {"minutes": 2}
    assert length_of(FitConfig(model="x")) == {}


# ------------------------------------------------------------------ files


def test_a_file_is_read_back(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(tomli_w.dumps(stored()))
    config = fit_config(read_config(file))
    assert (config.a, config.size, config.steps) == ("sans", 32, 100)
    assert config.options == model_options(KIND, {})


@pytest.mark.parametrize("content", [b"steps = ", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_wrong_usage(tmp_path, content):
    file = tmp_path / "run.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=r"run\.toml is not TOML"):
        read_config(file)


# ------------------------------------------------------------------ completing


def test_a_new_run_has_what_is_given_and_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    config = complete(KIND, FitConfig(model="cyclegan", a="photos", b="serif", options={"pool_size": 3}), None)
    assert config.a == str(tmp_path / "photos"), "paths become absolute"
    assert config.b == "serif", "names of data sets stay names"
    assert (config.batch, config.options["pool_size"], config.options["lambda_cycle"]) == (1, 3, 10.0)


def test_a_models_preset_stands_between_defaults_and_what_is_given():
    kind = registry.model("stylegan2")
    config = complete(kind, FitConfig(model="stylegan2", images="x", batch=8), None)
    assert (config.batch, config.size, config.discriminator_augment) == (8, 64, "ada")
    assert complete(KIND, FitConfig(model="cyclegan", a="x", b="y"), None).batch == 1


def test_help_shows_the_preset(capsys):
    from translate.cli.main import main

    assert main(["fit", "stylegan2", "--help"]) == 0
    assert "[default: 32]" in capsys.readouterr().out


def test_resuming_with_nothing_or_the_same_is_the_same_run():
    record = stored(options={"pool_size": 3})
    for given in ({"model": "cyclegan"}, GIVEN, GIVEN | {"options": {"pool_size": 3}}, GIVEN | {"precision": "auto"}):
        config = complete(KIND, fit_config(given | {"run": "runs/x"}), record)
        assert config.model_dump(exclude={"run"}) == fit_config(
            record["fit"] | {"options": record["options"]}
        ).model_dump(exclude={"run"})
        assert config.run == "runs/x"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"size": 64}, "--size: 32 in the run, 64 now"),
        ({"seed": 1}, "--seed: 0 in the run, 1 now"),
        ({"precision": "bf16"}, "--precision: 'fp32' in the run, 'bf16' now"),
        ({"a": "other"}, "--a: 'sans' in the run, 'other' now"),
        ({"micro_batches": 1, "batch": 2}, "--batch: 1 in the run, 2 now"),
        ({"options": {"lambda_cycle": 5}}, "--lambda-cycle: 10.0 in the run, 5.0 now"),
    ],
)
def test_a_difference_is_refused_by_showing_it(changes, line):
    with pytest.raises(UsageError) as caught:
        complete(KIND, fit_config(GIVEN | {"run": "runs/x"} | changes), stored())
    first, *differences, last = str(caught.value).splitlines()
    assert first == "The run runs/x was started with other options:"
    assert differences == [f"  {line}"]
    assert last == "Choose another --run for these."


def test_another_model_is_refused_by_name():
    with pytest.raises(UsageError, match="The run x trains cyclegan, not pix2pix"):
        complete(registry.model("pix2pix"), fit_config(GIVEN | {"model": "pix2pix", "run": "x"}), stored())


def test_what_leaves_no_mark_on_the_weights_may_change():
    changes = {"keep": 5, "log_every": 3, "checkpoint_every": 7, "device": "cpu"}
    config = complete(KIND, fit_config(GIVEN | changes), stored())
    assert {name: getattr(config, name) for name in changes} == changes


@pytest.mark.parametrize("length", [{"steps": 200}, {"epochs": 3.0}, {"minutes": 5.0}])
def test_a_run_may_be_lengthened_in_any_unit(length):
    config = complete(KIND, fit_config({"model": "cyclegan", "run": "x"} | length), stored())
    assert length_of(config) == length


@pytest.mark.parametrize("asked", [{"minutes": 5.0}, {"epochs": 2.0}])
def test_asking_for_the_same_length_again_keeps_the_steps_that_were_fixed(asked):
    record = stored() | {"asked": asked}
    config = complete(KIND, fit_config({"model": "cyclegan", "run": "x"} | asked), record)
    assert length_of(config) == {"steps": 100}


def test_options_that_an_older_plugin_wrote_are_upgraded():
    class Renamed(KIND.Config):
        @classmethod
        def upgrade(cls, values, version):
            assert version == "0.1.0"
            return {"lambda_cycle" if name == "cycle_weight" else name: value for name, value in values.items()}

    kind = type("Renamed", (KIND,), {"Config": Renamed})
    record = stored()
    record["options"]["cycle_weight"] = record["options"].pop("lambda_cycle") + 1
    assert complete(kind, fit_config({"model": "cyclegan", "run": "x"}), record).options["lambda_cycle"] == 11
