import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installed import install
from installed import translate as in_a_process

import translate as package

COMMANDS = """
import translate, typer

def greet(name: str, loudly: bool = False):
    \"\"\"Say hello.\"\"\"
    print(f"hello {name}" + "!" * loudly)

def fail():
    raise translate.TranslateError("The milk is sour; buy some.")

def stop():
    raise KeyboardInterrupt

@translate.hookimpl
def register_commands(register):
    for command in (greet, fail, stop):
        register(command.__name__, command)
    register("fit", greet)
"""


@pytest.fixture
def greeter(site):
    install(site, "translate-greeter", {"greeter.py": COMMANDS}, others={"greeter": "greeter"})


@pytest.mark.parametrize("words", ["--help", "fit --help", "models --help", "plugins", "greet you"])
def test_help_comes_without_torch(site, words):
    install(site, "translate-greeter", {"greeter.py": COMMANDS}, others={"greeter": "greeter"})
    program = "import sys; from translate.cli.main import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-c", program, *words.split()]
    done = subprocess.run(command, capture_output=True, check=False, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_help_lists_what_plugins_add_and_the_models_unloaded(site):
    install(site, "translate-greeter", {"greeter.py": COMMANDS}, others={"greeter": "greeter"})
    install(site, "translate-dream", {"dream.py": "raise Exception('imported')"}, models={"dream": "dream"})
    assert "greet" in in_a_process("--help", site=site).stdout
    answer = in_a_process("fit", "--help", site=site)
    assert "From translate-dream." in answer.stdout
    assert "translate-greeter" not in answer.stderr, "a built-in's help needs no plugin"


def test_a_command_of_a_plugin_runs_like_a_built_in(greeter, translate):
    assert translate("greet", "you", "--loudly").out == "hello you!\n"
    assert translate("greet").status == 2


def test_a_name_that_a_built_in_has_is_refused_with_a_warning(greeter, translate):
    answer = translate("--help")
    assert "the command 'fit' of translate-greeter (greeter) was left out" in answer.err
    assert "Train a model" in answer.out


def test_an_error_is_one_line_and_a_traceback_only_for_debug(greeter, translate):
    assert translate("fail") == (1, "", "error: The milk is sour; buy some.\n")
    for words in (("--debug", "fail"), ("fail", "--debug")):
        assert "Traceback" in translate(*words).err


def test_an_interrupt_leaves_with_130_and_says_nothing(greeter, translate):
    assert translate("stop").status == 130


def test_near_matches_of_commands_are_offered(greeter, translate):
    assert translate("modles") == (2, "", "error: There is no command 'modles'. Did you mean 'models'?\n")
    assert "Did you mean 'greet'?" in translate("gret").err


def test_two_plugins_with_one_command_do_not_cost_the_help(greeter, site, translate):
    install(site, "translate-rival", {"rival.py": COMMANDS}, others={"rival": "rival"})
    answer = translate("--help")
    assert answer.status == 0
    assert "translate-greeter (greeter) and translate-rival (rival) both offer the command 'greet'" in answer.err
    assert translate("greet").status == 1


def test_version_and_wrong_usage(site, translate):
    assert translate("--version") == (0, f"translate {package.__version__}\n", "")
    answer = translate("apply")
    assert answer.status == 2
    assert answer.err.lower() == "error: missing argument 'model'. see `translate apply --help`.\n"
    assert translate().status == 2


def test_a_package_that_another_distribution_overwrote_is_noticed(tmp_path):
    shutil.copytree(Path(package.__file__).parent, tmp_path / "translate")
    (tmp_path / "translate" / "__init__.py").write_text('__version__ = "3.0"')
    program = "import sys; from translate.cli.main import main; sys.exit(main())"
    answer = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "Another distribution has overwritten the module `translate`. Run `pip uninstall translate" in answer.stderr
