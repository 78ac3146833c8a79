"""What tests of revisions need: texts of one revision, and model files that fail."""

import numpy as np
from ai_edge_litert.schema_py_generated import Model, TensorType

from edgewise import DeviceState, Router
from edgewise_edge import Manifest
from edgewise_edge.store.catalog import BUNDLED

BUNDLED_REVISION = Manifest.read(BUNDLED / "tales").revision
DEVICE = DeviceState(available_memory=10**10, battery=0.9, charging=False)
PROMPT = "Once upon a time"


def text_of(router: Router, max_tokens: int = 8) -> tuple[str, str]:
    """The revision that answered, and what."""
    found = router.generate(PROMPT, max_tokens=max_tokens, temperature=0)
    return found.model.partition("@")[2], found.text


def giving_nan() -> bytes:
    """The bundled model file with NaN in its vectors: layer norms and biases."""
    data = bytearray((BUNDLED / "tales" / "model.tflite").read_bytes())
    model = Model.GetRootAs(data, 0)
    for subgraph in (model.Subgraphs(number) for number in range(model.SubgraphsLength())):
        for tensor in (subgraph.Tensors(number) for number in range(subgraph.TensorsLength())):
            content = model.Buffers(tensor.Buffer()).DataAsNumpy()
            if (
                tensor.Type() == TensorType.FLOAT32
                and tensor.ShapeLength() == 1
                and isinstance(content, np.ndarray)
                and content.size >= 256
            ):
                content.view(np.float32)[:] = np.nan
    return bytes(data)
