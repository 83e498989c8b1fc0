"""The code on the pages runs."""

import re
import shlex
import sys
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import PAGES, SMALL, fences, module, prose
from refresh import commands
from typer.core import TyperCommand

from translate.cli.flags import flag_name
from translate.cli.main import main
from translate.testing import check_model
from translate.training.config import FitConfig, fit_config

LANGUAGES = {"python", "sh", "toml", "text"}
OTHER_PROGRAMS = {"pip", "python", "python3", "source"}
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


@pytest.mark.parametrize("page", [page for page in PAGES if fences(page, "python")])
def test_python_fences_run_and_so_do_the_tests_in_them(page, workspace, installed, monkeypatch):
    found = types.ModuleType(page.partition(".")[0].replace("-", "_"))
    monkeypatch.setitem(sys.modules, found.__name__, found)
    exec(compile(module(page), str(PAGES[page]), "exec"), vars(found))
    for name, value in list(vars(found).items()):
        if name.startswith("test_"):
            value()


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_has_a_language_that_is_checked_here(page):
    assert {fence.language for fence in fences(page)} <= LANGUAGES


@pytest.mark.parametrize("page", PAGES)
def test_configs_are_valid(page):
    for fence in fences(page, "toml"):
        values = tomllib.loads(fence.text)
        if "fit" in values:
            fit_config({**values["fit"], "options": values.get("options", {})})


# ------------------------------------------------------------------ commands


def command_lines(page: str) -> Iterator[list[str]]:
    """The words after `translate` of every command in a sh fence, and of every one with an option in the prose."""
    lines = [line for fence in fences(page, "sh") for line in fence.text.splitlines()]
    lines += re.findall(r"`([^`\n]*\btranslate \w[^`\n]* --[^`\n]*)`", prose(page))
    for line in lines:
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            while words and ASSIGNMENT.fullmatch(words[0]):
                del words[0]
            program = Path(words[0]).name
            if program == "torchrun":
                words = words[words.index("translate") :]
                program = words[0]
            if program == "translate":
                yield words[1:]
            else:
                assert program in OTHER_PROGRAMS, f"{line}: what is {program}?"


@pytest.fixture
def only_parsed(installed, workspace, monkeypatch):
    """Commands are parsed to the end and not run; the pages' plugins are installed."""
    monkeypatch.setattr(TyperCommand, "invoke", lambda self, context: None)
    for fence in fences("tutorial.md", "toml"):
        (workspace / "run.toml").write_text(fence.text)


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_their_options_exist(page, only_parsed, capsys):
    for words in command_lines(page):
        assert main(words) == 0, f"translate {shlex.join(words)}: {capsys.readouterr().err}"


def test_options_that_the_prose_names_exist(only_parsed, capsys):
    known = {"--help", "--logdir", *map(flag_name, FitConfig.model_fields)}  # also those of models to come
    for words in [*commands(), ("fit", "simgan"), ("fit", "restorer")]:
        assert main([*words, "--help"]) == 0
        known |= set(re.findall(r"--[a-z][\w-]*", capsys.readouterr().out))
    for page in PAGES:
        named = re.findall(r"`(--[a-z][\w-]*)", prose(page))
        assert set(named) <= known, f"{page} names {sorted(set(named) - known)}"


# ------------------------------------------------------------------ plugins


def test_the_readmes_plugin_keeps_the_contract(installed):
    check_model("simgan", refiner=SMALL["generator"], discriminator=SMALL["discriminator"])


def test_the_readmes_plugin_trains_and_translates_once_installed(run):
    parts = ("--refiner", SMALL["generator"], "--discriminator", SMALL["discriminator"])
    run("fit", "simgan", "--a", "drawings", "--b", "photos", "--size", "32", "--steps", "2", "--run", "runs/s", *parts)
    assert "4 written" in run("apply", "runs/s", "photos", "refined")


def test_every_hook_of_the_guide_works_once_installed(run):
    parts = ("--generator", "pointwise(width=4)", "--discriminator", SMALL["discriminator"], "--adversarial", "pearson")
    printed = run("fit", "restorer", "--data", "blur", "--size", "32", "--steps", "2", "--run", "runs/r", *parts)
    for words in ("r: restorer, 2 steps", "generators.l1", "new samples: runs/r/samples", "r is done"):
        assert words in printed
    assert run("count", "runs/r", "--losses").startswith("1 discriminators.adversarial")
