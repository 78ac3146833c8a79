"""Editing `.tflite` files through LiteRT's own schema classes."""

import flatbuffers
from ai_edge_litert import schema_py_generated as schema


def share_buffers(model: bytes) -> bytes:
    """The same model with constants of equal bytes stored once.

    The converter stores a constant anew for each type of use: an embedding table that is looked up
    and multiplied with would lie in the file twice.
    """
    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    first: dict[bytes, int] = {}
    same = {}
    for index, buffer in enumerate(parsed.buffers):
        if buffer.data is not None and len(buffer.data):
            same[index] = first.setdefault(bytes(buffer.data), index)
    for subgraph in parsed.subgraphs:
        for tensor in subgraph.tensors:
            tensor.buffer = same.get(tensor.buffer, tensor.buffer)
    for index, kept in same.items():
        if index != kept:
            parsed.buffers[index].data = None
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), b"TFL3")
    return bytes(builder.Output())
