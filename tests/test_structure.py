"""Who may import whom: the packages one way, the rooms of the builder in the order of the pipeline, tests nobody's."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PACKAGES = ("sa_med2d_20m", "shards", "builder")
"""Each may import those before it."""

ROOMS = (
    {"errors"},
    {"readers"},
    {"annotations", "sources"},
    {"cases", "fetch"},
    {"conversion", "layouts"},
    {"release"},
    {"run"},
    {"commands"},
    {"command_line"},
    {"__main__"},
)
"""Of the builder, by tier. A room imports from lower tiers only, never from its own or a higher one."""


def imported(text: str, package: str) -> Iterator[str]:
    """Full names that a module imports anywhere: on top, in functions, for types only, by name out of a table.

    Args:
        text: The module's.
        package: The module's package, for relative imports.
    """
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Import(names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module, names, level):
                above = package.split(".")[: len(package.split(".")) + 1 - (level or 0)] if level else []
                yield from (".".join([*above, *filter(None, [module]), alias.name]) for alias in names)
            case ast.Constant(str(name)) if re.fullmatch(r"(builder|shards)(\.\w+)+", name):  # a table of modules
                yield name


def modules(folder: str) -> list[Path]:
    """Modules below a folder of the project, by path from its root; the file itself for a single module."""
    found = sorted((ROOT / folder).rglob("*.py")) or [ROOT / f"{folder}.py"]
    return [path.relative_to(ROOT) for path in found]


def imports_of(module: Path) -> set[str]:
    return set(imported((ROOT / module).read_text(), ".".join(module.parts[:-1])))


def room_of(name: str) -> str:
    return name.split(".")[1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import shards.tar as tar, os", {"shards.tar", "os"}),
        ("def read():\n    from shards import tar, png", {"shards.tar", "shards.png"}),
        ("if TYPE_CHECKING:\n    from builder.run.plan import Task", {"builder.run.plan.Task"}),
        ("from . import rules\nfrom ..errors import CaseError", {"builder.readers.rules", "builder.errors.CaseError"}),
        ("READERS = {'.nii': 'builder.readers.nifti'}", {"builder.readers.nifti"}),
    ],
)
def test_every_way_to_import_is_seen(text: str, expected: set[str]) -> None:
    assert set(imported(text, "builder.readers")) == expected


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    closed = {*PACKAGES[PACKAGES.index(package) + 1 :], "tests"}
    assert [
        f"{module} imports {name}"
        for module in modules(package)
        for name in sorted(imports_of(module))
        if name.split(".")[0] in closed
    ] == []


def test_the_loader_stands_alone() -> None:
    """It is copied next to training scripts as a single file."""
    assert [name for name in imports_of(Path("sa_med2d_20m.py")) if name.split(".")[0] in PACKAGES] == []


def test_rooms_of_the_builder_import_one_way() -> None:
    tiers = {room: number for number, tier in enumerate(ROOMS) for room in tier}
    found = {room_of(".".join(module.with_suffix("").parts)) for module in modules("builder")} - {"__init__"}
    assert found == set(tiers), "a new room needs its tier in ROOMS"
    assert [
        f"{module} imports {name}"
        for module in modules("builder")
        for room in [room_of(".".join(module.with_suffix("").parts))]
        for name in sorted(imports_of(module))
        if name.startswith("builder.") and room_of(name) != room and tiers[room_of(name)] >= tiers[room]
    ] == []


def test_only_the_command_line_of_shards_knows_the_hub() -> None:
    outside = [module for module in modules("shards") if module.parts[1] not in ("hub", "command_line.py")]
    assert [
        str(module) for module in outside if any(name.startswith("shards.hub") for name in imports_of(module))
    ] == []


def test_no_test_imports_another() -> None:
    """What two tests share lies in tests/support; fixtures come by their names."""
    wrong = []
    for module in modules("tests"):
        for name in sorted(imports_of(module)):
            parts = name.split(".")
            if parts[0] == "tests" and any(part == "conftest" or part.startswith("test_") for part in parts):
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_a_conftest_holds_fixtures_only() -> None:
    for module in modules("tests"):
        if module.name == "conftest.py":
            defined = [
                node for node in ast.parse((ROOT / module).read_text()).body if isinstance(node, ast.FunctionDef)
            ]
            kinds = [node for node in defined if not node.name.startswith("pytest_")]  # those are pytest's hooks
            assert all("fixture" in ast.unparse(node.decorator_list[0]) for node in kinds if node.decorator_list)
            assert all(node.decorator_list for node in kinds), f"{module} defines what is no fixture"


def test_support_holds_no_test() -> None:
    names = [module.name for module in modules("tests/support")]
    assert [name for name in names if name.startswith("test_")] == []


@pytest.mark.parametrize("package", ["builder", "shards"])
def test_folders_of_tests_are_those_of_the_package(package: str) -> None:
    folders = {module.parent for module in modules(f"tests/{package}")}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder.relative_to("tests")).is_dir()] == []


def test_what_is_skipped_without_torch_runs_where_it_is_installed() -> None:
    commands = (ROOT / "Makefile").read_text().split("\ncluster:")[1].split("\n\n")[0]
    assert "torch" in commands
    asking = [
        module.as_posix()
        for module in modules("tests")
        if "benchmarks" not in module.parts
        and re.search(r"(importorskip|find_spec)\((\"torch\"|module)", (ROOT / module).read_text())
    ]
    assert len(asking) > 5
    assert [module for module in asking if module not in commands] == []
