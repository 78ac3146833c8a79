"""A first start of `serve --engine litert`."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise_cloud.serving.engine.settings import EngineKind, EngineSettings
from tests.support.progress import Recorded

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.request import ServedModel
    from edgewise_cloud.serving.model.interface import Programs

SETTINGS = EngineSettings(kind=EngineKind.LITERT, slots=5)


@dataclass
class FirstStart:
    """A checkpoint that was loaded once, and what was said meanwhile."""

    checkpoint: Path
    model: "ServedModel"
    programs: "Programs"
    progress: Recorded
