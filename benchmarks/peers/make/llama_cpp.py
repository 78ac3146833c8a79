"""A GGUF file for llama.cpp.

llama.cpp itself quantises, by its defaults. Q8_0 stores every matrix in 8 bits, including the
embedding, which is also the head; F16 and BF16 likewise in 16, F32 in 32. Q4_0 stores the layers'
matrices in 4 bits (blocks of 32 with one float16 scale) and the embedding, being the head, in Q6_K.
Position embeddings, layer norms and biases stay float32. Only token ids are fed, so the file needs
no vocabulary, except for llama.cpp's server.
"""

import ctypes
import os
import tempfile
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

from benchmarks.peers.make import Checkpoint, read


def make(source: Path, out: Path, form: str) -> None:
    """Forms: F32, F16, BF16, Q8_0, Q4_0; after "server ", with a vocabulary for the server."""
    server, kind = form.startswith("server "), form.removeprefix("server ")
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_{'ALL' if kind == 'F32' else 'MOSTLY'}_{kind}")
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        plain = Path(scratch) / "float32.gguf"
        write(read(source), plain, vocabulary=server)
        paths = os.fsencode(plain), os.fsencode(out)
        if llama_cpp.llama_model_quantize(*paths, ctypes.byref(params)):
            raise RuntimeError(f"llama.cpp could not quantise {plain}")


def write(model: Checkpoint, out: Path, *, vocabulary: bool) -> None:
    """Write the model unquantised; GGUF's dense weights have the shape (outputs, inputs)."""
    writer = gguf.GGUFWriter(out, "gpt2")
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.width)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(4 * model.width)
    writer.add_head_count(model.heads)
    writer.add_layer_norm_eps(1e-5)
    writer.add_vocab_size(model.vocabulary)
    if vocabulary:
        add_vocabulary(writer, model.vocabulary)
    else:
        writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GPT2, model.layers)
    for name, tensor in model.tensors.items():
        # Attention masks, which are no weights, have no name there.
        if renamed := names.get_name(f"transformer.{name}", (".weight", ".bias")):
            dense = ".c_" in name and tensor.ndim == 2
            writer.add_tensor(renamed, np.ascontiguousarray(tensor.T) if dense else tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_vocabulary(writer: gguf.GGUFWriter, size: int) -> None:
    """Give each id its decimal digits as text, and let the last one end the text.

    The server sends no token while its text ends within a UTF-8 sequence: digits never do.
    """
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([str(token) for token in range(size)])
    writer.add_token_types([gguf.TokenType.NORMAL] * (size - 1) + [gguf.TokenType.CONTROL])
    writer.add_token_merges(["1 0"])  # there must be one
    writer.add_bos_token_id(size - 1)
    writer.add_eos_token_id(size - 1)
