"""Our own device model folder."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edgewise_cloud.console import without_native_logs
from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.quantization import Quantization


def make(source: Path, out: Path, form: str) -> None:
    """Forms: those of `edgewise-cloud convert --quantize`. Replaces what is there."""
    shutil.rmtree(out, ignore_errors=True)
    with without_native_logs():
        convert(str(source), out, Quantization(form))
