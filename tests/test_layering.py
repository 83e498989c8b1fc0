"""The core names no architecture and imports no plugin; dependencies point one way; what is exported is there."""

import ast
import importlib
import re
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import translate

ROOT = Path(__file__).parents[1]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "translate").rglob("*.py"))
}
PLUGINS = sorted(path.stem for path in (ROOT / "plugins").iterdir() if not path.name.startswith((".", "_")))

ARCHITECTURES = (
    "cyclegan|pix2pix|stylegan|stargan|dcgan|pggan|progan|cogan|biggan|munit|dualgan|discogan|unrolledgan|gan3d"
    "|patchgan|pixelgan|spade|bicyclegan"
)
ORDER = [
    {"errors", "version"},
    {"atomic_files", "cache", "formatting", "progress", "random_bits", "spec_parsing", "threads", "validation"},
    # what plugins declare and offer
    {"domains", "players"},
    {"plugins"},
    {"networks"},
    {"losses", "model"},
    {"device"},
    {"distributed"},
    # the images, from pixels up to batches
    {"data.images"},
    {"contact_sheet"},
    {"data.synthesis", "data.augmentation"},
    {"data.options"},
    {"data.files"},
    {"built_in", "data.datasets"},
    {"data.layout"},
    {"data.batches"},
    {"data.loading", "data.check"},
    # what is done with a model
    {"applying"},
    {"evaluating"},
    {"training"},
    {"benchmarking"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
"""Folders and files of the core, the lowest first: each may import what stands in a set below its own, and itself."""


def place(module: str) -> tuple[int, str]:
    """Where a module stands in the order, and the folder or file that it belongs to: "translate.cli.fit" to "cli"."""
    inner = module.removeprefix("translate.")
    found = [
        (number, part) for number, parts in enumerate(ORDER) for part in parts if f"{inner}.".startswith(f"{part}.")
    ]
    assert len(found) == 1, f"{module} has no place of its own in ORDER"
    return found[0]


def imported(module: str) -> set[str]:
    """The modules of the core that a module imports, anywhere in it, and everything else by its own name.

    Imports inside functions and under TYPE_CHECKING count like all others. A package stands for its own __init__.py.
    """
    found = set()
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else str(node.module))
    return found


def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


FACE = "translate"
"""The package itself hands out names of all modules; no module of the core imports them from it."""


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_no_plugin(module):
    roots = {name.partition(".")[0] for name in imported(module)}
    assert not roots & set(PLUGINS)


@pytest.mark.parametrize("module", MODULES)
def test_the_core_names_no_architecture_outside_docstrings(module):
    tree = parsed(module)
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        names = [value for value in (getattr(node, field, None) for field in ("id", "attr", "arg", "name")) if value]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            names.append(node.value)
        for name in names:
            assert not re.search(ARCHITECTURES, str(name), re.IGNORECASE), f"{MODULES[module]}:{node.lineno}: {name!r}"


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {FACE, "translate.data"}))
def test_dependencies_point_one_way(module):
    own_number, own_part = place(module)
    for other in imported(module):
        if other.split(".")[0] == FACE:
            assert other != FACE, f"{module} imports the package itself, which imports everything"
            number, part = place(other)
            assert part == own_part or number < own_number, f"{module} imports {other}, which stands above it"


def test_no_file_imports_itself_on_a_detour():
    graph = {module: imported(module) & MODULES.keys() for module in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_check_for_circles_finds_imports_inside_functions_and_for_type_checkers():
    assert "translate.training.run" in imported("translate"), "under TYPE_CHECKING"
    assert "translate.cli.app" in imported("translate.cli.main"), "inside a function"


def test_all_names_are_exported_sorted_and_importable():
    assert list(translate.__all__) == sorted(translate.__all__)
    imports = [node for node in ast.walk(parsed(FACE)) if isinstance(node, ast.ImportFrom)]
    for_type_checkers = {alias.asname: node.module for node in imports for alias in node.names}
    for name in translate.__all__:
        home = f"translate.{translate._MODULES[name]}"
        assert getattr(translate, name) is getattr(importlib.import_module(home), name)
        assert for_type_checkers[name] == home
    assert set(translate.__all__) <= set(dir(translate))
    with pytest.raises(AttributeError, match="has no attribute 'Modle'"):
        translate.Modle  # noqa: B018


def test_every_plugin_has_an_entry_point():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = ("translate.models", "translate")
    targets = {target for group in groups for target in project["entry-points"][group].values()}
    for name in PLUGINS:
        assert name.startswith("translate_")
        assert any((ROOT / "plugins" / file).is_file() for file in (f"{name}/__init__.py", f"{name}.py"))
        assert name in targets, f"{name} has no entry point in pyproject.toml"
    assert {target for target in targets if not target.startswith("translate.")} == set(PLUGINS)
