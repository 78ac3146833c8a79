"""Make one runtime's model from a Hugging Face GPT-2 folder; run by the Python that has the runtime.

RUNTIME is edgewise, llama_cpp or onnx; the docstring of its `make(source, out, form)` lists the forms.
"""

from importlib import import_module

from benchmarks.measure import arguments

parser = arguments(__doc__, "source", "out")
parser.add_argument("runtime")
parser.add_argument("form")
options = parser.parse_args()
module = import_module(f"benchmarks.peers.make.{options.runtime}")
module.make(options.source, options.out, options.form)
