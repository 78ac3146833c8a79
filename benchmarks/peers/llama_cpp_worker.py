"""Greedy generation by llama.cpp, through the low-level API of llama-cpp-python."""
# ruff: noqa: E402 - the clock starts before the imports

import time

STARTED = time.perf_counter()

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import numpy as np
from protocol import options, serve

CONTEXT = 1024
# Kept here, as llama.cpp does not keep it alive.
SILENT = llama_cpp.llama_log_callback(lambda _level, _text, _data: None)


class LlamaCpp:
    """A GGUF model with one sequence of up to CONTEXT tokens; the file is mapped into memory."""

    def __init__(self, model: Path, threads: int) -> None:
        llama_cpp.llama_log_set(SILENT, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(
            os.fsencode(model), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = CONTEXT
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.logits_shape = (vocabulary,)

    def generate(self, prompt: list[int], new_tokens: int, known: Callable[[int], None]) -> None:
        """Write `new_tokens` tokens; see protocol.Generate."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), False)
        tokens = prompt
        for _ in range(new_tokens):
            tokens = [int(self.logits(tokens).argmax())]
            known(tokens[0])

    def logits(self, tokens: list[int]) -> np.ndarray:
        """Append tokens to the sequence; the logits after the last, float32, valid until the next."""
        ids = (llama_cpp.llama_token * len(tokens))(*tokens)  # the batch does not keep them alive
        batch = llama_cpp.llama_batch_get_one(ids, len(tokens))
        if llama_cpp.llama_decode(self.context, batch):
            message = "llama_decode failed"
            raise RuntimeError(message)
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self.context), self.logits_shape)


def main() -> None:
    """Load, then answer."""
    chosen = options()
    serve(LlamaCpp(chosen.model, chosen.threads).generate, STARTED)


if __name__ == "__main__":
    main()
