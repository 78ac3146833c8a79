"""The check-up of `edgewise doctor`."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgewise import (
    DeviceState,
    ModelError,
    Router,
    SourceFailedError,
    VocabularyMismatchError,
)
from edgewise.cli.exit_codes import ExitCode
from edgewise.cli.options.router import RouterOptions
from edgewise.device.state import read_device_state
from edgewise_edge import Manifest


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether something that was asked for is usable: what it is, or why it is not."""

    name: str  # of the model or its folder, or the cloud's address
    usable: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What there is, and what of it is usable."""

    config: Path | None
    model: Finding
    manifest: Manifest | None  # None if it cannot be read
    device: DeviceState
    cloud: Finding | None  # None if none is set

    @property
    def exit_code(self) -> ExitCode:
        """The model counts first: nothing works without one."""
        if not self.model.usable:
            return ExitCode.INVALID
        return ExitCode.CLOUD if self.cloud and not self.cloud.usable else ExitCode.OK

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        manifest = self.manifest
        shape = manifest and {
            "revision": manifest.revision,
            "memory": manifest.memory,
            "architecture": asdict(manifest.architecture),
        }
        return {
            "version": version("edgewise"),
            "config": self.config and str(self.config),
            "model": asdict(self.model) | (shape or {}),
            "device": asdict(self.device),
            "cloud": self.cloud and asdict(self.cloud),
        }


def examine(config: Path | None, options: RouterOptions) -> Report:
    """Check everything, whatever of it is broken. Raises ConfigurationError as `generate` would."""
    cloud = None if options.offline else options.cloud
    try:
        router = options.router()
    except ModelError as error:
        return Report(
            config=config,
            model=Finding(options.model, usable=False, detail=str(error)),
            manifest=None,
            device=read_device_state(),
            cloud=_check_cloud(cloud, lambda: _answers(options)),
        )
    with router:
        return Report(
            config=config,
            model=_check_model(router),
            manifest=router.model,
            device=router.device_state(),
            cloud=_check_cloud(cloud, lambda: f"serves {router.describe_cloud()}"),
        )


def _check_model(router: Router) -> Finding:
    try:
        router.verify_model()
    except ModelError as error:
        return Finding(router.model.name, usable=False, detail=str(error))
    return Finding(router.model.name, usable=True, detail=str(router.availability()))


def _check_cloud(address: str | None, describe: Callable[[], str]) -> Finding | None:
    if not address:
        return None
    try:
        return Finding(address, usable=True, detail=describe())
    except (SourceFailedError, ModelError) as error:
        return Finding(address, usable=False, detail=str(error))


def _answers(options: RouterOptions) -> str:
    """Without the device's model: the bundled one stands in."""
    with replace(options, model="tales").router() as router:
        try:
            return router.describe_cloud() or ""
        except VocabularyMismatchError:
            return "answers; its model could not be compared with the device's"
