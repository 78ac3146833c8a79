"""What the packages promise as a whole."""

import ast
import sys
from pathlib import Path

import pytest

import edgewise
import edgewise_edge
from edgewise_proto import generation_pb2 as pb

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", [edgewise, edgewise_edge])
def test_all_is_sorted_and_there(package: object) -> None:
    """Every exported name exists, in order."""
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


@pytest.mark.parametrize(
    ("part", "forbidden"),
    [
        ("proto/edgewise_proto", {"edgewise", "edgewise_cloud", "edgewise_edge"}),
        ("edge/edgewise_edge", {"edgewise", "edgewise_cloud", "edgewise_proto", "grpc", "keras"}),
        ("router/edgewise", {"edgewise_cloud", "tensorflow", "keras", "keras_hub"}),
        ("cloud/edgewise_cloud", {"edgewise"}),
    ],
)
def test_dependencies_point_one_way(part: str, forbidden: set[str]) -> None:
    """The edge needs nobody, the router needs no cloud, the cloud needs no router."""
    imported = set()
    for path in (ROOT / part).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    assert imported - set(sys.stdlib_module_names)
    assert not imported & forbidden


def test_every_field_of_the_contract_is_documented() -> None:
    """A comment stands over each field, message, enum value and call of generation.proto."""
    lines = (ROOT / "proto/edgewise_proto/generation.proto").read_text().splitlines()
    fields = [n for n, line in enumerate(lines) if "=" in line and line.startswith("  ")]
    assert len(fields) > 20
    blocks = " ".join(lines)
    assert "package edgewise.v1;" in blocks
    for number in fields:
        assert lines[number - 1].strip().startswith("//"), lines[number]


def test_the_wire_has_no_text() -> None:
    """Prompts cross as token ids: strings name models and vocabularies only."""
    strings = {
        (message.name, field.name)
        for message in pb.DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if field.type == field.TYPE_STRING
    }
    assert strings == {
        ("GenerateRequest", "vocabulary"),
        ("GetModelResponse", "name"),
        ("GetModelResponse", "revision"),
        ("GetModelResponse", "vocabulary"),
    }
