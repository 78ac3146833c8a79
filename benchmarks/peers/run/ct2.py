"""CTranslate2."""

import os
from pathlib import Path

import ctranslate2

from benchmarks.peers.run import Generate, Known

# CTranslate2 has code for AVX-512, which reads prompts faster, but uses it only when told to.
if "avx512bw" in Path("/proc/cpuinfo").read_text(encoding="ascii"):
    os.environ.setdefault("CT2_FORCE_CPU_ISA", "AVX512")


def load(model: Path, threads: int) -> Generate:
    """A folder of make/ct2.py, whose vocabulary is the ids in decimal."""
    generator = ctranslate2.Generator(str(model), compute_type="int8", intra_threads=threads)

    def generate(prompt: list[int], new_tokens: int, known: Known) -> None:
        """CTranslate2 calls back after each token; the minimum length suppresses the end of text."""

        def step(result: ctranslate2.GenerationStepResult) -> bool:
            known(result.token_id)
            return False

        generator.generate_batch(
            [[str(token) for token in prompt]],
            max_length=new_tokens,
            min_length=new_tokens,
            include_prompt_in_result=False,
            return_scores=False,
            callback=step,
        )

    return generate
