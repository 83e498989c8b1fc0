import json

import pytest
from installed import MODEL, install

NETWORKS = """
import translate, torch

def wave(in_channels: int, out_channels: int, *, width: int = 8):
    '''Waves at you.'''
    return torch.nn.Conv2d(in_channels, out_channels, width)

def needy(in_channels: int, *, width: int):
    return torch.nn.Conv2d(in_channels, 1, width)

@translate.hookimpl
def register_networks(register):
    register("wave", wave, role="generator")
    register("needy", needy, role="discriminator")
"""


@pytest.fixture
def plugins(site):
    install(site, "translate-dream", {"dream.py": MODEL}, models={"dream": "dream"})
    install(
        site, "translate-gone", {"gone.py": "import nothing_like_it"}, models={"gone": "gone"}, others={"bad": "gone"}
    )
    install(site, "translate-wave", {"wave.py": NETWORKS}, others={"wave": "wave"})


def test_models_shows_a_broken_one_with_its_reason(plugins, translate):
    dream, gone = json.loads(translate("models", "--json").out)
    assert dream["data"] == "unpaired a, b"
    assert dream["about"] == "Dreams of electric sheep."
    assert dream["distribution"] == "translate-dream"
    assert "No module named 'nothing_like_it'" in gone["error"]
    answer = translate("models")
    assert answer.status == 0
    assert "broken: The model 'gone' of translate-gone does not load" in answer.out


def test_a_checkout_without_models_says_what_to_run(site, translate):
    answer = translate("models")
    assert answer.status == 1
    assert "pip install -e ." in answer.err


def test_networks_come_with_options_parameters_and_their_first_line(plugins, translate):
    parts = json.loads(translate("models", "--networks", "--json").out)
    (wave,), (needy,) = parts["generator"], parts["discriminator"]
    assert wave["options"] == {"width": 8}
    assert (wave["parameters"], wave["stride"], wave["about"]) == (3 * 3 * 64 + 3, 1, "Waves at you.")
    assert needy["options"] == {"width": "(required)"}
    assert "width" in needy["error"]
    assert "wave" in translate("models", "--networks").out


def test_networks_and_losses_are_sorted_by_name(translate):
    for part in json.loads(translate("models", "--networks", "--json").out).values():
        assert part == sorted(part, key=lambda each: each["name"])


def test_plugins_lists_distributions_hooks_and_failures(plugins, translate):
    answer = translate("plugins", "--json")
    report = json.loads(answer.out)
    by_name = {each["name"]: each for each in report["distributions"]}
    assert by_name["translate-dream"] == {
        "name": "translate-dream",
        "version": "1.5",
        "models": ["dream"],
        "plugins": {},
    }
    assert by_name["translate-wave"]["plugins"] == {"wave": ["register_networks"]}
    assert by_name["translate-gone"]["plugins"] == {"bad": []}
    assert "nothing_like_it" in report["failures"]["bad (translate-gone)"]
    assert "warning: the plugin bad (translate-gone) was left out" in answer.err
    text = translate("plugins").out
    assert "wave: register_networks" in text
    assert "failed: bad (translate-gone)" in text


def test_plugins_shows_duplicates(plugins, site, translate):
    install(site, "translate-nightmare", {"nightmare.py": MODEL}, models={"dream": "nightmare"})
    assert json.loads(translate("plugins", "--json").out)["duplicates"] == {
        "dream": ["translate-dream", "translate-nightmare"]
    }
    assert "translate-dream and translate-nightmare both offer the model 'dream'" in translate("plugins").out
