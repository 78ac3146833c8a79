"""What is checked when an engine is loaded."""

from pathlib import Path

import pytest

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models import forward
from edgewise_cloud.serving.engine.load_engine import load_engine
from edgewise_cloud.serving.engine.settings import EngineSettings


@pytest.mark.parametrize("wrong", [False, True])
def test_programs_are_compared_with_numpy(
    exact_folder: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    """An engine whose logits differ from those of the checkpoint is closed, and refused."""
    if wrong:
        right = forward.logits
        monkeypatch.setattr(forward, "logits", lambda *given: 1.01 * right(*given))
        with pytest.raises(CheckpointError, match="read wrongly"):
            load_engine(str(exact_folder), EngineSettings(slots=2))
        return
    load_engine(str(exact_folder), EngineSettings(slots=2)).close()
