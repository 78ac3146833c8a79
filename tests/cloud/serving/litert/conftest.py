"""A tiny model as the LiteRT engine serves it."""

import pytest

from edgewise_cloud.serving.engine.load_engine import load_model
from tests.conftest import write_checkpoint
from tests.support import attention_kernel
from tests.support.litert_start import SETTINGS, FirstStart
from tests.support.progress import Recorded


@pytest.fixture(scope="session")
def first_start(tmp_path_factory: pytest.TempPathFactory) -> FirstStart:
    """Of a model whose heads the kernel can read: two of 16 numbers."""
    if not attention_kernel.compiled():
        pytest.skip("there is no C compiler")
    checkpoint = write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "small", width=32)
    progress = Recorded()
    model, programs = load_model(str(checkpoint), SETTINGS, progress)
    return FirstStart(checkpoint, model, programs, progress)
