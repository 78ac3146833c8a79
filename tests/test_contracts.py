"""The public contracts: exported names, import paths and the gRPC protocol."""

import subprocess
import sys
from pathlib import Path

import pytest

import edgewise
import edgewise_edge
from edgewise_proto import generation_pb2 as pb

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", [edgewise, edgewise_edge])
def test_all_is_sorted_and_complete(package: object) -> None:
    """Every name in `__all__` exists."""
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


PUBLIC = [
    "edgewise.Router",
    "edgewise.cli.main",
    "edgewise.metrics.Metrics",
    "edgewise.testing.ScriptedDevice",
    "edgewise.tracing.Tracing",
    "edgewise_cloud.cli.main",
    "edgewise_cloud.serving.on_ray.proxy.add_for_all",
    "edgewise_cloud.serving.on_ray.proxy.add_for_loopback",
    "edgewise_cloud.serving.on_ray.replica.build",
    "edgewise_edge.complete",
    "edgewise_edge.profiling.profile",
    "edgewise_edge.trial.try_model",
    "edgewise_proto.generation_pb2.GenerateRequest",
    "edgewise_proto.generation_pb2_grpc.GeneratorStub",
]


def test_public_import_paths_stay() -> None:
    """Imported in a new process, as an app would."""
    imports = [path.rpartition(".") for path in PUBLIC]
    script = "; ".join(f"from {module} import {name}" for module, _, name in imports)
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_every_field_of_the_protocol_is_documented() -> None:
    """Each field and enum value in generation.proto has a comment above it."""
    lines = (ROOT / "proto/edgewise_proto/generation.proto").read_text().splitlines()
    assert "package edgewise.v1;" in lines
    fields = [n for n, line in enumerate(lines) if "=" in line and line.startswith("  ")]
    assert len(fields) > 20
    for number in fields:
        assert lines[number - 1].strip().startswith("//"), lines[number]


def test_messages_hold_no_text() -> None:
    """Prompts and answers are token ids; strings only name models and vocabularies."""
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
