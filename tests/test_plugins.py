import sys

import pytest
from cli import installed
from cli.installed import MODEL, install

from translate.errors import PluginError, UsageError
from translate.model import find_model
from translate.plugins import registry

site = installed.site

LOSS = """
import translate

@translate.hookimpl
def register_losses(register):
    register(translate.AdversarialLoss("zero", lambda real, fake: 0, lambda fake: 0, "Nothing."))
"""


def hook(name: str, body: str = "pass", arguments: str = "register") -> str:
    return f"import translate\n@translate.hookimpl\ndef {name}({arguments}):\n    {body}\n"


@pytest.mark.parametrize("text", ["import nothing_like_it", "1 / 0", "raise SystemExit(3)", "x ="])
def test_a_broken_plugin_costs_one_warning(site, capsys, text):
    install(site, "translate-zero", {"zero.py": LOSS}, others={"zero": "zero"})
    install(site, "translate-broken", {"broken.py": text}, others={"broken": "broken"})
    assert list(registry.losses()) == ["zero"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: the plugin broken (translate-broken) was left out: ")
    assert list(registry.failures()) == ["broken (translate-broken)"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (hook("register_loses"), "register_loses"),
        (hook("register_losses", arguments="registre"), "registre"),
        (LOSS + hook("register_loses"), "register_loses"),
    ],
)
def test_an_unknown_hook_or_argument_refuses_the_plugin_whole(site, capsys, text, word):
    install(site, "translate-typo", {"typo.py": text}, others={"typo": "typo"})
    install(site, "translate-zero", {"zero.py": LOSS.replace('"zero"', '"nought"')}, others={"zero": "zero"})
    assert list(registry.losses()) == ["nought"]
    assert word in registry.failures()["typo (translate-typo)"]
    (line,) = capsys.readouterr().err.splitlines()
    assert "Known hooks: register_augmentations" in line


def test_a_hook_that_raises_costs_its_own_plugin_only(site, capsys):
    install(site, "translate-zero", {"zero.py": LOSS}, others={"zero": "zero"})
    install(site, "translate-broken", {"broken.py": hook("register_losses", "1 / 0")}, others={"broken": "broken"})
    assert list(registry.losses()) == ["zero"]
    assert (
        "the plugin translate-broken (broken), register_losses was left out: ZeroDivisionError"
        in capsys.readouterr().err
    )


def test_two_owners_of_one_loss_are_both_named(site):
    for name in ("zero", "nought"):
        install(site, f"translate-{name}", {f"{name}.py": LOSS}, others={name: name})
    with pytest.raises(PluginError, match=r"translate-nought \(nought\) and translate-zero \(zero\) both offer"):
        registry.losses()


def test_two_distributions_with_one_model_are_both_named(site):
    for name in ("one", "two"):
        install(site, f"translate-{name}", {f"{name}.py": MODEL}, models={"dream": name})
    assert registry.model_names() == {"dream": "translate-one and translate-two"}
    with pytest.raises(
        PluginError, match="translate-one and translate-two both offer the model 'dream'; uninstall one"
    ):
        registry.model("dream")


def test_names_come_from_metadata_and_a_model_is_imported_when_used(site):
    install(site, "translate-dream", {"dream.py": MODEL}, models={"dream": "dream"})
    install(site, "translate-broken", {"broken.py": "1 / 0"}, models={"broken": "broken"})
    assert registry.model_names() == {"broken": "translate-broken", "dream": "translate-dream"}
    assert "dream" not in sys.modules
    assert registry.model("dream").name == "dream"
    assert registry.distribution_of("dream") == ("translate-dream", "1.5")
    assert "broken" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "The model 'dream' of translate-dream does not load: ZeroDivisionError"),
        (MODEL.replace('name = "dream"', 'name = "sleep"'), "registers 'sleep'"),
        (MODEL.replace('    data = translate.Unpaired("a", "b")\n', ""), "needs a class attribute `data`"),
        (MODEL.replace("register_models", "register_model"), "unknown hook 'register_model'"),
        ("", "registers no model"),
    ],
)
def test_a_model_that_breaks_the_contract_is_refused_with_the_reason(site, text, message):
    install(site, "translate-dream", {"dream.py": text}, models={"dream": "dream"})
    with pytest.raises(PluginError, match=message):
        find_model("dream")


def test_an_unknown_model_is_wrong_usage_with_near_matches(site):
    install(site, "translate-dream", {"dream.py": MODEL}, models={"dream": "dream"})
    with pytest.raises(UsageError, match=r"There is no model 'dreem'\. Did you mean 'dream'\?"):
        registry.model("dreem")


def test_without_any_model_a_checkout_says_what_to_run(site):
    with pytest.raises(PluginError, match=r"pip install -e \."):
        registry.model("cyclegan")


def test_a_variable_limits_which_distributions_load(site, monkeypatch):
    for name in ("zero", "nought"):
        install(site, f"translate-{name}", {f"{name}.py": LOSS}, others={name: name}, models={name: name})
    monkeypatch.setenv("TRANSLATE_PLUGINS", "translate-zero, translate-other")
    assert list(registry.find_entry_points(registry.PLUGIN_GROUP)) == list(registry.model_names()) == ["zero"]
    monkeypatch.setenv("TRANSLATE_PLUGINS", "")
    assert not registry.find_entry_points(registry.PLUGIN_GROUP)
    with pytest.raises(UsageError, match="None is known"):
        registry.model("zero")


def test_a_variable_traces_every_hook_call_with_its_arguments(site, monkeypatch, capsys):
    install(site, "translate-zero", {"zero.py": LOSS}, others={"zero": "zero"})
    install(site, "translate-dream", {"dream.py": MODEL}, models={"dream": "dream"})
    monkeypatch.setenv("TRANSLATE_TRACE", "1")
    registry.losses()
    registry.model("dream")
    registry.manager().hook.run_ticked(run=site, metrics={"step": 7})
    lines = capsys.readouterr().err
    for words in ("hook register_losses(register=", "-> zero", "hook register_models(register=", "-> dream"):
        assert words in lines
    assert "hook run_ticked(" in lines
    assert "metrics={'step': 7}) -> nobody" in lines


def test_registries_know_near_matches_and_owners(site):
    install(site, "translate-zero", {"zero.py": LOSS}, others={"zero": "zero"})
    assert registry.losses().provider("zero") == "translate-zero (zero)"
    with pytest.raises(UsageError, match=r"There is no adversarial loss 'zeero'\. Did you mean 'zero'\?"):
        registry.losses()["zeero"]
