"""Greedy generation by CTranslate2."""
# ruff: noqa: E402 - the clock starts before the imports

import time

STARTED = time.perf_counter()

import os
from collections.abc import Callable
from pathlib import Path

import ctranslate2
from protocol import options, serve

# CTranslate2 has code for AVX-512, which reads prompts faster, but uses it only when told to.
if "avx512bw" in Path("/proc/cpuinfo").read_text(encoding="ascii"):
    os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


class CTranslate2:
    """A folder of make_ct2.py, whose vocabulary is the ids in decimal."""

    def __init__(self, model: Path, threads: int) -> None:
        self.generator = ctranslate2.Generator(
            str(model), compute_type="int8", intra_threads=threads
        )

    def generate(self, prompt: list[int], new_tokens: int, known: Callable[[int], None]) -> None:
        """Write `new_tokens` tokens; see protocol.Generate.

        CTranslate2 calls back after each token. The end of text is suppressed by the minimum length.
        """

        def step(result: ctranslate2.GenerationStepResult) -> bool:
            known(result.token_id)
            return False

        self.generator.generate_batch(
            [[str(token) for token in prompt]],
            max_length=new_tokens,
            min_length=new_tokens,
            include_prompt_in_result=False,
            return_scores=False,
            callback=step,
        )


def main() -> None:
    """Load, then answer."""
    chosen = options()
    serve(CTranslate2(chosen.model, chosen.threads).generate, STARTED)


if __name__ == "__main__":
    main()
