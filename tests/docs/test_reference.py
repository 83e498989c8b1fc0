"""The reference pages are complete and exact."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

from pages import PAGES

import translate
from translate.plugins import hooks as hookspecs
from translate.plugins import registry
from translate.version import DISTRIBUTION

GUIDE = PAGES["writing-a-plugin.md"].read_text(encoding="utf-8")


def test_every_hook_has_a_heading_with_exactly_its_arguments():
    hooks = [getattr(hookspecs, name) for name in registry._hook_names()]
    expected = {f"{hook.__name__}({', '.join(inspect.signature(hook).parameters)})" for hook in hooks}
    section = GUIDE.partition("\n## Every hook\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^### (.+)$", section, re.MULTILINE)) == expected


def test_every_public_name_is_listed_with_its_home():
    rows = re.findall(r"^\| `(\w+)` \| `([\w.]+)` \| \S", GUIDE, re.MULTILINE)
    assert dict(rows) == {name: f"translate.{translate._MODULES[name]}" for name in translate.__all__}


def test_the_command_line_page_is_what_the_commands_print():
    script = Path(__file__).with_name("refresh.py")
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"run `python tests/docs/refresh.py`\n{done.stderr}"


def test_every_model_has_a_page_that_the_table_names():
    table = PAGES["models.md"].read_text(encoding="utf-8")
    for name, distribution in registry.model_names().items():
        if distribution == DISTRIBUTION:
            assert f"{name}.md" in PAGES, f"docs/models/{name}.md is missing"
            assert f"(models/{name}.md)" in table
