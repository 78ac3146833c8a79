"""What is in the wheels."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
NAMES = ["edgewise", "edgewise_cloud", "edgewise_edge", "edgewise_proto"]


def wheel(dist: Path, name: str) -> Path:
    (path,) = dist.glob(f"{name}-*.whl")
    return path


def files(dist: Path, name: str) -> set[str]:
    return set(zipfile.ZipFile(wheel(dist, name)).namelist())


@pytest.mark.parametrize("name", NAMES)
def test_a_wheel_has_its_package_types_and_licence(dist: Path, name: str) -> None:
    """And no tests, scripts or other folders of the repository."""
    found = files(dist, name)
    assert f"{name}/py.typed" in found
    assert any(file.endswith(".dist-info/licenses/LICENSE") for file in found)
    tops = {file.partition("/")[0] for file in found if ".dist-info/" not in file}
    also = {"edgewise_cloud": {"edgewise_edge"}, "edgewise": {"edgewise_command.py"}}
    assert tops == {name} | also.get(name, set())
    assert not [file for file in found if "test_" in file or "__pycache__" in file]


def test_keras_weights_are_in_the_cloud_package_only(dist: Path) -> None:
    """The edge package holds the device model; the cloud package adds its Keras weights."""
    device, server = files(dist, "edgewise_edge"), files(dist, "edgewise_cloud")
    assert "edgewise_edge/models/tales/model.tflite" in device
    assert "edgewise_edge/models/tales/model.safetensors" not in device
    assert "edgewise_edge/models/tales/model.safetensors" in server
    assert not device & server


def test_the_page_is_in_the_router_s_package(dist: Path) -> None:
    """It needs no build: the files of the repository are those that are served."""
    folder = ROOT / "router/edgewise/server/page"
    with zipfile.ZipFile(wheel(dist, "edgewise")) as archive:
        for file in ("index.html", "page.js", "page.css"):
            served = archive.read(f"edgewise/server/page/{file}")
            assert served == (folder / file).read_bytes()


def test_wheels_are_reproducible(dist: Path, tmp_path: Path) -> None:
    """The same files give the same bytes, in another folder and at another time."""
    (tmp_path / "edge").mkdir()
    for file in ("LICENSE", "edge/pyproject.toml"):  # the latter holds the version
        shutil.copy(ROOT / file, tmp_path / file)
    shutil.copytree(ROOT / "proto", tmp_path / "proto", symlinks=True, copy_function=shutil.copy)
    uv = Path(sys.executable).with_name("uv")
    subprocess.run(
        [
            *(uv, "build", "--quiet", "--offline", "--no-build-isolation", "--wheel"),
            *("--python", sys.executable, "--out-dir", tmp_path, tmp_path / "proto"),
        ],
        check=True,
    )
    name = "edgewise_proto"
    assert wheel(tmp_path, name).read_bytes() == wheel(dist, name).read_bytes()


@pytest.mark.parametrize("name", ["device", "cloud"])
def test_constraints_hold_every_locked_version(dist: Path, name: str) -> None:
    """Without hashes: with them, pip would refuse wheels that have none."""
    locked = (ROOT / f"requirements/{name}.txt").read_text()
    constraints = (dist / f"{name}.txt").read_text()
    assert constraints.splitlines() == [
        line.removesuffix(" \\") for line in locked.splitlines() if line[:1].isalnum()
    ]
    assert "--hash" not in constraints
