"""Private APIs of libraries in our code, held against the table in CONTRIBUTING.md."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("proto", "edge", "cloud", "router")
PRIVATE_NAME = re.compile(r"_[a-z]\w*[a-z0-9]|_[A-Z]\w*", re.ASCII)
# Keras keeps what is not public in `src`, TensorFlow in what `tensorflow` does not export.
PRIVATE_MODULE = re.compile(r"[a-z_]\w*(\.\w+)*\.(_\w+|src|compiler|internal)(\.\w+)*", re.ASCII)
DOCUMENTED = {"_exit", "_value_"}  # of Python


@cache
def trees() -> tuple[ast.AST, ...]:
    """Our modules, without the generated stubs."""
    files = (file for part in PARTS for file in sorted((ROOT / part).rglob("*.py")))
    return tuple(
        ast.parse(file.read_text(encoding="utf-8")) for file in files if "_pb2" not in file.name
    )


def defined(node: ast.AST) -> Iterator[str]:
    """The names that a statement or expression of ours defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name


def used(node: ast.AST) -> Iterator[str]:
    """The private names, and the names of modules, that a statement or expression uses."""
    match node:
        case ast.Attribute(attr=name, ctx=ast.Load()) if PRIVATE_NAME.fullmatch(name):
            yield name
        case ast.ImportFrom(module=str(module), names=names):
            yield module
            yield from (alias.name for alias in names if PRIVATE_NAME.fullmatch(alias.name))
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.Call(func=ast.Attribute(attr="getLogger"), args=[ast.Constant(value=str(name))]):
            yield name


def is_foreign(name: str) -> bool:
    """Whether a name is private and of a library: neither Python's nor one of ours."""
    if name in DOCUMENTED or name.partition(".")[0] in sys.stdlib_module_names:
        return False
    return bool(PRIVATE_NAME.fullmatch(name) or PRIVATE_MODULE.fullmatch(name))


def rows() -> list[list[str]]:
    """The cells of the table."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("\n## Foreign private APIs\n")[1]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def code(cell: str) -> list[str]:
    """What is set as code in a cell."""
    return re.findall("`([^`]+)`", cell)


def test_every_foreign_private_api_is_listed() -> None:
    """And what is listed is used. Give a new one a bound, a canary and a row, or do without it."""
    ours = {name for tree in trees() for node in ast.walk(tree) for name in defined(node)}
    found = {name for tree in trees() for node in ast.walk(tree) for name in used(node)}
    listed = {name for row in rows() for name in code(row[1]) if is_foreign(name)}
    assert {name for name in found - ours if is_foreign(name)} == listed


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0].strip("`"))
def test_a_row_has_its_bound_and_its_canaries(row: list[str]) -> None:
    """The bound is that of a part's requirement."""
    (library,), (bound,) = code(row[0]), code(row[2])
    projects = [tomllib.loads((ROOT / part / "pyproject.toml").read_text()) for part in PARTS]
    required = [
        text
        for project in (project["project"] for project in projects)
        for group in (project["dependencies"], *project.get("optional-dependencies", {}).values())
        for text in group
    ]
    named = [text for text in required if re.match(rf"{library}(\[\w+\])?>", text)]
    assert any(text.endswith(bound) for text in named), f"{named} have no bound {bound}"
    missing = [name for name in code(row[3]) if "/" in name and not (ROOT / name).is_file()]
    assert not missing
