"""Make our own device model folder from a Hugging Face GPT-2 folder with its vocabulary."""

import argparse
import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.quantization import Quantization
from edgewise_edge.runtime.stderr import captured_stderr


def main() -> None:
    """Convert, in the place of what is there already."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--type", type=Quantization, required=True)
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    with captured_stderr():
        convert(str(options.source), options.out, options.type)


if __name__ == "__main__":
    main()
