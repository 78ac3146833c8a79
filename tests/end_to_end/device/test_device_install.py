"""A device's environment: built packages, locked requirements, no TensorFlow."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).with_name("uv")

CODE = """
import importlib.util, json, sys
import edgewise_edge
from edgewise import Router
with Router() as router:
    generation = router.generate("Once upon a time", max_tokens=8, seed=1)
heavy = ["tensorflow", "keras", "keras_hub", "edgewise_cloud"]
print(json.dumps({
    "found": [name for name in heavy if importlib.util.find_spec(name)],
    "grpc": "grpc" in sys.modules,
    "source": generation.source,
    "text": generation.text,
    "complete": edgewise_edge.complete("Once upon a time", max_tokens=8, seed=1).text,
    "where": edgewise_edge.__file__,
}))
"""


def uv(*arguments: str | Path) -> None:
    subprocess.run([UV, "--quiet", *arguments], check=True, cwd=ROOT)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the device's three parts and of the cloud."""
    folder = tmp_path_factory.mktemp("wheels")
    for part in ("proto", "edge", "router", "cloud"):
        uv(
            "build",
            "--wheel",
            "--no-build-isolation",
            "--python",
            sys.executable,
            "-o",
            folder,
            part,
        )
    return folder


def test_a_device_completes_a_prompt_without_tensorflow(wheels: Path, tmp_path: Path) -> None:
    """From wheels and `requirements/device.txt`, which bring nothing heavy."""
    environment = tmp_path / "device"
    uv("venv", "--python", sys.executable, environment)
    python = environment / "bin/python"
    install = ("pip", "install", "--python", python)
    uv(*install, "--require-hashes", "-r", "requirements/device.txt")
    uv(*install, "--no-deps", *(w for w in wheels.glob("*.whl") if "cloud" not in w.name))
    done = subprocess.run(
        [python, "-I", "-c", CODE], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    found = json.loads(done.stdout)
    assert found["found"] == []
    assert found["grpc"] is False
    assert found["source"] == "on_device"
    assert found["text"] == found["complete"] != ""
    assert Path(found["where"]).is_relative_to(environment)


def test_keras_weights_are_in_the_cloud_package_only(wheels: Path) -> None:
    """The edge package holds the device model; the cloud package adds its Keras weights."""
    (edge,) = wheels.glob("edgewise_edge-*.whl")
    (cloud,) = wheels.glob("edgewise_cloud-*.whl")
    device, server = (set(zipfile.ZipFile(wheel).namelist()) for wheel in (edge, cloud))
    assert "edgewise_edge/models/tales/model.tflite" in device
    assert "edgewise_edge/models/tales/model.safetensors" not in device
    assert "edgewise_edge/models/tales/model.safetensors" in server
    assert not device & server
