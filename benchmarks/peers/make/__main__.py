"""Make one runtime's model from a Hugging Face GPT-2 folder; run by the Python that has the runtime.

The runtime's module has `make(source, out, form)`, whose docstring lists the forms.
"""

import argparse
from importlib import import_module
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("runtime", choices=["ct2", "edgewise", "llama_cpp", "onnx"])
parser.add_argument("source", type=Path)
parser.add_argument("out", type=Path)
parser.add_argument("form")
options = parser.parse_args()
module = import_module(f"benchmarks.peers.make.{options.runtime}")
module.make(options.source, options.out, options.form)
