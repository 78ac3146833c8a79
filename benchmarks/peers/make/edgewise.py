"""Our own device model folder."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.quantization import Quantization
from edgewise_edge.runtime.stderr import captured_stderr


def make(source: Path, out: Path, form: str) -> None:
    """Forms: those of `edgewise-cloud convert --quantize`. Replaces what is there."""
    shutil.rmtree(out, ignore_errors=True)
    with captured_stderr():
        convert(str(source), out, Quantization(form))
