import json
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch
from installed import install

from translate.cli import machine, name_clash


@pytest.fixture
def healthy(site, monkeypatch):
    """As if installed, whether this checkout is or not."""
    monkeypatch.setattr(machine, "version", lambda name: "0.1.0" if name == name_clash.DISTRIBUTION else version(name))


def test_a_healthy_installation_has_no_problem(healthy, translate):
    answer = translate("doctor", "--json")
    report = json.loads(answer.out)
    assert (answer.status, report["problems"]) == (0, [])
    assert report["versions"]["torch"] == version("torch")
    cpu = report["devices"][0]
    assert (cpu["device"], cpu["threads"]) == ("cpu", torch.get_num_threads())
    assert "no problem found" in translate("doctor").out


def test_another_distribution_with_the_same_module_is_a_problem_with_a_remedy(healthy, site, translate):
    install(site, "translate-toolkit", {})
    (site / "translate_toolkit-1.5.dist-info" / "top_level.txt").write_text("translate\n")
    answer = translate("doctor", "--json")
    (problem,) = json.loads(answer.out)["problems"]
    assert answer.status == 1
    assert problem.startswith("translate-toolkit also install")
    assert "pip uninstall translate-toolkit translate-img2img" in problem


def test_a_checkout_that_is_not_installed_says_what_to_run(site, monkeypatch, translate):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(machine, "version", missing)
    answer = translate("doctor")
    assert answer.status == 1
    assert "Run `pip install -e .` there." in answer.out
    assert "not installed" in answer.out


def test_failed_plugins_are_named(healthy, site, translate):
    install(site, "translate-gone", {"gone.py": "import nothing_like_it"}, others={"gone": "gone"})
    answer = translate("doctor")
    assert answer.status == 0
    assert "failed plugin: gone (translate-gone): ModuleNotFoundError" in answer.out
