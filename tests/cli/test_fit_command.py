import re
from pathlib import Path

import pytest
from installed import MODEL, install

from translate.training import run
from translate.training.config import FitConfig


@pytest.fixture
def dream(site):
    install(site, "translate-dream", {"dream.py": MODEL}, models={"dream": "dream"})


@pytest.fixture
def started(dream, monkeypatch) -> list[tuple[FitConfig, bool]]:
    """The runs that were asked for."""
    runs: list[tuple[FitConfig, bool]] = []
    monkeypatch.setattr(run, "fit", lambda config, *, resume=False: runs.append((config, resume)))
    return runs


@pytest.fixture
def config_file(tmp_path: Path) -> str:
    file = tmp_path / "run.toml"
    file.write_text(
        '[fit]\nmodel = "dream"\na = "x"\nb = "y"\nepochs = 3.0\nsize = 64\n[options]\nstrength = 2.0\nsharp = true\n'
    )
    return str(file)


def test_the_help_has_the_engines_options_and_the_models_own(dream, translate):
    text = " ".join(translate("fit", "dream", "--help").out.replace("│", " ").split())
    for panel in ("Data", "Length", "Run", "Engine", "Model: dream"):
        assert f"─ {panel} ─" in text
    assert "Dreams of electric sheep." in text
    # how typer writes a type differs between its versions: <int range>, INTEGER RANGE
    assert re.search(r"--batch <?int\w* range>? \[x>=1\] Images of each domain in a step. \[default: 1\]", text, re.I)
    assert re.search(
        r"--strength <?float range>? \[x>=0\] How much, in \[0, 10\). Below 10. \[default: 1.0\]", text, re.I
    )
    assert re.search(r"--mode [<[]soft\|hard[>\]] How. \[default: soft\]", text)
    assert "--sharp --no-sharp" in text
    assert "Where. [default: [1, 2]]" in text
    assert "--blur-radius" in text


def test_only_the_data_options_that_the_model_needs_are_there(dream, site, translate):
    text = translate("fit", "dream", "--help").out
    assert all(f"{flag} " in text for flag in ("--a", "--b", "--data", "--swap", "--test-a", "--test-b", "--test-data"))
    assert "--images" not in text
    single = MODEL.replace('Unpaired("a", "b")', 'Images("images")').replace('"dream"', '"single"')
    install(site, "translate-single", {"single.py": single}, models={"single": "single"})
    text = translate("fit", "single", "--help").out
    assert "--images" in text
    assert "--test-images" in text
    assert not any(f"{flag} " in text for flag in ("--a", "--b", "--data", "--swap", "--test-a", "--test-data"))


def test_only_given_options_are_passed_on(started, translate):
    answer = translate(
        "fit", "dream", "--a", "x", "--b", "y", "--steps", "5", "--sharp", "--scales", "[4]", "--mode", "hard"
    )
    assert answer.status == 0, answer.err
    ((config, resume),) = started
    assert config.model_fields_set == {"model", "options", "a", "b", "steps"}
    assert config.options == {"sharp": True, "scales": [4], "mode": "hard"}
    assert (config.model, config.steps, resume) == ("dream", 5, False)


def test_flags_go_before_the_config_file_which_goes_before_defaults(started, config_file, translate):
    words = ("--config", config_file, "--size", "32", "--strength", "4", "--resume")
    for command in (("fit", "dream", *words), ("fit", *words), ("fit", f"--config={config_file}", *words[2:])):
        assert translate(*command).status == 0
    (first, resume), *others = started
    assert all(other == (first, resume) for other in others)
    assert resume
    assert (first.a, first.size, first.epochs, first.batch) == ("x", 32, 3.0, 1)
    assert first.options == {"strength": 4.0, "sharp": True}


def test_a_flag_replaces_what_it_excludes_in_the_file(started, config_file, translate):
    assert translate("fit", "--config", config_file, "--steps", "7").status == 0
    assert translate("fit", "--config", config_file, "--data", "z").status == 0
    (steps, _), (data, _) = started
    assert (steps.steps, steps.epochs) == (7, None)
    assert (data.data, data.a, data.b) == ("z", None, None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("drem", "There is no model 'drem'. Did you mean 'dream'?"),
        ("dream --preprocess stretch", "Invalid value for '--preprocess': 'stretch' is not one of 'resize-and-crop'"),
        ("dream --strenght 1", "There is no option --strenght. Did you mean --strength or --store?"),
        ("dream --strength -1", "--strength"),
        ("dream --mode medium", "--mode"),
        ("dream --epochs 0", "--epochs: Input should be greater than 0"),
        ("dream --steps 1 --epochs 1", "--epochs and --steps exclude each other"),
        ("dream --config missing.toml", "missing.toml cannot be read"),
        ("--config missing.toml", "missing.toml cannot be read"),
    ],
)
def test_wrong_usage_is_explained_with_status_2(started, translate, words, message):
    answer = translate("fit", *words.split())
    assert answer.status == 2
    assert message in answer.err
    assert not started


def test_a_value_that_only_the_models_config_can_check_is_wrong_usage_too(dream, translate, tmp_path):
    answer = translate("fit", "dream", "--strength", "10", "--steps", "1", "--run", str(tmp_path / "run"))
    assert answer.status == 2
    assert "--strength: Input should be less than 10, got 10.0." in answer.err


def test_a_config_for_another_model_is_refused(started, config_file, site, translate):
    text = MODEL.replace('"dream"', '"other"')
    install(site, "translate-other", {"other.py": text}, models={"other": "other"})
    answer = translate("fit", "other", "--config", config_file)
    assert answer.status == 2
    assert "is one for dream" in answer.err


def test_a_config_without_a_model_says_so(started, tmp_path, translate):
    (tmp_path / "bare.toml").write_text("[fit]\nsteps = 1\n")
    answer = translate("fit", "--config", str(tmp_path / "bare.toml"))
    assert answer.status == 2
    assert "names no model" in answer.err


def test_an_option_that_the_engine_has_is_refused_by_name(site, translate):
    text = MODEL.replace("    sharp: bool", "    batch: bool")
    install(site, "translate-dream", {"dream.py": text}, models={"dream": "dream"})
    answer = translate("fit", "dream")
    assert answer.status == 1
    assert "The model 'dream' declares --batch, which the engine already has" in answer.err
