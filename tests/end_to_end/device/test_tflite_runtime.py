"""The older target: tflite-runtime 2.14 with NumPy 1, in an environment of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.quantization import Quantization, Target
from edgewise_cloud.errors import ConversionError
from edgewise_edge import DeviceModel, complete

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).with_name("uv")

CODE = """
import importlib.util, json, sys
import numpy
from edgewise_edge import DeviceModel, complete
model = DeviceModel.load(sys.argv[1], threads=1)
print(json.dumps({
    "litert": importlib.util.find_spec("ai_edge_litert") is not None,
    "numpy": numpy.__version__,
    "backend": model.runtime.backend.name,
    "text": complete("Once upon a time", model=sys.argv[1], max_tokens=30, temperature=0).text,
    "scores": [score.logprob for score in model.score(range(60, 160), top=20)[1:]],
}))
"""

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="tflite-runtime 2.14 has packages up to Python 3.11"
)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with requirements/tflite-runtime.txt and edgewise-edge."""
    environment = tmp_path_factory.mktemp("older") / "environment"
    executable = environment / "bin/python"
    install = [UV, "--quiet", "pip", "install", "--python", executable]
    build = [UV, "--quiet", "build", "--wheel", "--no-build-isolation", "--python", sys.executable]
    for command in (
        [UV, "--quiet", "venv", "--python", sys.executable, environment],
        [*install, "--require-hashes", "-r", "requirements/tflite-runtime.txt"],
        [*build, "-o", environment, "edge"],
    ):
        subprocess.run(command, check=True, cwd=ROOT)
    (wheel,) = environment.glob("*.whl")
    subprocess.run([*install, "--no-deps", wheel], check=True)
    return executable


@pytest.mark.parametrize("quantization", ["none", "float16", "int8"])
def test_a_model_generates_the_same_text_and_scores_as_on_litert(
    python: Path, checkpoint: Path, tmp_path: Path, quantization: str
) -> None:
    """Greedily, through the plain Interpreter API."""
    folder = tmp_path / "model"
    convert(str(checkpoint), folder, Quantization(quantization), Target.TFLITE_RUNTIME)
    done = subprocess.run(
        [python, "-I", "-c", CODE, folder],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "prepared weights" not in done.stderr  # it has none, which is no reason to warn
    found = json.loads(done.stdout)
    assert found["litert"] is False
    assert found["numpy"].startswith("1.")
    assert found["backend"] == "the TFLite interpreter"
    model = DeviceModel.load(folder)
    assert model.runtime.backend.name == "LiteRT"
    expected = [score.logprob for score in model.score(range(60, 160))[1:]]
    assert found["scores"] == pytest.approx(expected, abs=0.05 if quantization == "int8" else 1e-3)
    here = complete("Once upon a time", model=folder, max_tokens=30, temperature=0).text
    assert found["text"] == here != ""


def test_an_unsupported_quantization_is_refused_before_any_work(
    checkpoint: Path, tmp_path: Path
) -> None:
    """It has no blockwise scales."""
    with pytest.raises(ConversionError, match="tflite-runtime cannot run int4 models"):
        convert(str(checkpoint), tmp_path / "out", Quantization.INT4, Target.TFLITE_RUNTIME)
    assert not (tmp_path / "out").exists()


def test_a_model_for_litert_only_is_refused(python: Path, checkpoint: Path, tmp_path: Path) -> None:
    """The error says to convert it for this target."""
    folder = tmp_path / "model"
    convert(str(checkpoint), folder, Quantization.INT8)
    done = subprocess.run(
        [python, "-I", "-c", CODE, folder],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert "ModelIncompatibleError" in done.stderr
    assert "--target tflite-runtime" in done.stderr
