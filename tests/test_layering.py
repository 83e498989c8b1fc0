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
LAYERS = {
    0: {"bars", "calls", "errors", "files", "wording"},
    1: {"data", "device", "distributed", "hookspecs", "losses", "model", "networks", "players", "plugins"},
    2: {"training", "applying", "evaluating", "benchmarking", "testing"},
    3: {"cli", "__main__"},
}
"""A package or module of the core may import its own layer and those below."""


def layer(module: str) -> int:
    """Of "translate.cli.fit": 3."""
    part = module.split(".")[1]
    return next(number for number, parts in LAYERS.items() if part in parts)


def parsed(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imported(nodes) -> set[str]:
    """The modules of the core that these statements import, and everything else by its own name."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else str(node.module))
    return found


def at_module_level(tree: ast.Module) -> set[str]:
    """What importing the module imports, packages on the way included; not what functions or type checkers import."""
    nodes = [node for statement in tree.body for node in statements(statement)]
    return imported(nodes)


def statements(node: ast.stmt):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield from statements(child)


@pytest.mark.parametrize("module", MODULES)
def test_the_core_imports_no_plugin(module):
    roots = {name.partition(".")[0] for name in imported(ast.walk(parsed(module)))}
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


@pytest.mark.parametrize("module", [name for name in MODULES if name != "translate"])
def test_dependencies_point_one_way(module):
    for other in imported(ast.walk(parsed(module))):
        if other.startswith("translate."):
            assert layer(other) <= layer(module), f"{module} imports {other}"


def test_no_module_imports_itself_on_a_detour():
    graph = {module: {other for other in at_module_level(parsed(module)) if other in MODULES} for module in MODULES}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_all_names_are_exported_sorted_and_importable():
    assert list(translate.__all__) == sorted(translate.__all__)
    assert set(translate.__all__) == set(translate._HOMES)
    for name in translate.__all__:
        home = importlib.import_module(f"translate.{translate._HOMES[name]}")
        assert getattr(translate, name) is getattr(home, name)
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
