"""The public contracts: exported names, import paths and the gRPC protocol."""

import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

import edgewise
import edgewise_cloud
import edgewise_edge
import edgewise_proto
from edgewise.cloud.status import OWN_WORDS
from edgewise_proto import generation_pb2 as pb

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("package", [edgewise, edgewise_edge])
def test_all_is_sorted_and_complete(package: object) -> None:
    """Every name in `__all__` exists."""
    assert package.__all__ == sorted(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)


def project(part: str) -> dict[str, object]:
    """What a part's pyproject.toml says of it."""
    return tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]


def test_the_four_parts_have_one_version() -> None:
    """The edge's, by SemVer."""
    version = project("edge")["version"]
    parts = (edgewise, edgewise_cloud, edgewise_edge, edgewise_proto)
    assert {part.__version__ for part in parts} == {version}
    assert all("version" in project(part)["dynamic"] for part in ("proto", "cloud", "router"))
    assert [number.isdigit() for number in version.split(".")] == [True] * 3


def test_a_part_takes_the_others_of_its_minor_version() -> None:
    """They use each other's internals."""
    series = project("edge")["version"].rpartition(".")[0]
    ours = {
        name
        for part in ("proto", "edge", "cloud", "router")
        for name in project(part)["dependencies"]
        if name.startswith("edgewise")
    }
    assert ours == {f"edgewise-edge=={series}.*", f"edgewise-proto=={series}.*"}


def test_an_unknown_name_of_a_part_is_an_attribute_error() -> None:
    """Only the version is read late."""
    for part in (edgewise, edgewise_cloud, edgewise_edge, edgewise_proto):
        assert not hasattr(part, "__versoin__")


def test_the_api_reference_builds(tmp_path: Path) -> None:
    """Without warnings; every public module has a page."""
    variables = [f"BIN={Path(sys.executable).parent}", f"DOCS={tmp_path / 'docs'}"]
    subprocess.run(
        ["make", "--silent", "-o", ".venv/ready", "docs", *variables], check=True, cwd=ROOT
    )
    pages = {str(path.relative_to(tmp_path / "docs")) for path in tmp_path.rglob("*.html")}
    assert {"edgewise.html", "edgewise/metrics.html", "edgewise_edge/trial.html"} <= pages


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
    "edgewise_proto.delivery_pb2.FetchRequest",
    "edgewise_proto.delivery_pb2_grpc.DeliveryStub",
    "edgewise_proto.generation_pb2.GenerateRequest",
    "edgewise_proto.generation_pb2_grpc.GeneratorStub",
]


def test_public_import_paths_stay() -> None:
    """Imported in a new process, as an app would."""
    imports = [path.rpartition(".") for path in PUBLIC]
    script = "; ".join(f"from {module} import {name}" for module, _, name in imports)
    done = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("file", ["generation.proto", "delivery.proto"])
def test_every_field_of_the_protocol_is_documented(file: str) -> None:
    """Each field and enum value has a comment above it."""
    lines = (ROOT / "proto/edgewise_proto" / file).read_text().splitlines()
    assert "package edgewise.v1;" in lines
    fields = [n for n, line in enumerate(lines) if re.fullmatch(r"  \w.* = \d+;", line)]
    assert len(fields) > 5
    for number in fields:
        assert lines[number - 1].strip().startswith("//"), lines[number]


UNAVAILABLE = re.compile(r'StatusCode\.UNAVAILABLE,\s*"([^"]+)"')


def test_the_router_knows_the_words_of_a_service_that_cannot_answer_now() -> None:
    """All of them, and no others: for any other text it advises to check TLS and the address."""
    sources = (ROOT / "cloud/edgewise_cloud/serving").rglob("*.py")
    generator = [source for source in sources if "delivery" not in source.parts]
    said = [UNAVAILABLE.findall(source.read_text(encoding="utf-8")) for source in generator]
    assert set(chain(*said)) == OWN_WORDS


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
        ("GetLoadRequest", "vocabulary"),
        ("GetModelRequest", "vocabulary"),
        ("GetModelResponse", "name"),
        ("GetModelResponse", "revision"),
        ("GetModelResponse", "vocabulary"),
        ("ScoreRequest", "vocabulary"),
    }
