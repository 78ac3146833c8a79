"""llama.cpp, through the low-level API of llama-cpp-python."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import llama_cpp
import numpy as np

from benchmarks.peers.run import Generate

CONTEXT = 1024
# Kept here, as llama.cpp does not keep it alive.
SILENT = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


def load(model: Path, threads: int) -> Generate:
    """A GGUF file, mapped into memory, with one sequence of up to CONTEXT tokens."""
    llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    loaded = llama_cpp.llama_model_load_from_file(
        os.fsencode(model), llama_cpp.llama_model_default_params()
    )
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = CONTEXT
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
    context = llama_cpp.llama_init_from_model(loaded, params)
    vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(loaded))

    def next_token(tokens: list[int]) -> int:
        """Append tokens to the sequence; the likeliest one after the last."""
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)  # the batch does not keep them alive
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(ids, len(tokens))):
            raise RuntimeError("llama_decode failed")
        logits = llama_cpp.llama_get_logits(context)
        return int(np.ctypeslib.as_array(logits, (vocabulary,)).argmax())

    def generate(prompt: list[int], new_tokens: int) -> Iterator[int]:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), False)
        tokens = prompt
        for _ in range(new_tokens):
            tokens = [next_token(tokens)]
            yield tokens[0]

    return generate
