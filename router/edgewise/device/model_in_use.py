"""Which source of the device a new text uses."""

from pathlib import Path
from typing import Protocol

from edgewise.device.installed_model import InstalledModel, OnSwitch
from edgewise.device.source import DeviceSource
from edgewise.generation.source import DeviceTokenSource, ModelAvailability, require_device_source
from edgewise.latency.log import LatencyLog
from edgewise_edge.store.active import STATE_FILE, is_name, store_root
from edgewise_edge.store.catalog import bundled_models


class ModelInUse(Protocol):
    """The model of a router."""

    @property
    def source(self) -> DeviceTokenSource:
        """What texts use now. Raises ModelNotFoundError where the model is not on the device."""

    def for_text(self) -> DeviceTokenSource:
        """What a new text uses, from its first token to its last. Raises as `source`."""

    def availability(self) -> ModelAvailability:
        """Whether the model is on the device, and whether it is loaded; cheap."""

    def warm_up(self) -> None:
        """Load it. Raises ModelError or RuntimeFailedError."""

    def vocabulary(self) -> str:
        """The fingerprint of its vocabulary; "" for a model that is not on the device."""

    def unload(self) -> None:
        """Unload it once the running attempts have ended."""


class FixedModel:
    """A model folder, or a source: always the same."""

    def __init__(self, source: DeviceTokenSource) -> None:
        self.source = source

    def __str__(self) -> str:
        """Its name and revision."""
        return f"{self.source.manifest.name}@{self.source.manifest.revision}"

    def for_text(self) -> DeviceTokenSource:
        """See ModelInUse."""
        return self.source

    def availability(self) -> ModelAvailability:
        """See ModelInUse."""
        return self.source.availability()

    def warm_up(self) -> None:
        """See ModelInUse."""
        self.source.warm_up()

    def vocabulary(self) -> str:
        """See ModelInUse."""
        return self.source.tokenizer.fingerprint

    def unload(self) -> None:
        """See ModelInUse."""
        self.source.unload()


def open_model(
    model: str | Path | DeviceTokenSource,
    latency: LatencyLog,
    threads: int | None,
    keep_alive: float | None,
    *,
    root: Path | None = None,
    missing: str = "",
    on_switch: OnSwitch | None = None,
) -> ModelInUse:
    """The model of a router. Raises ModelError, and ConfigurationError for what is no source."""
    if not isinstance(model, str | Path):
        return FixedModel(require_device_source(model))
    if isinstance(model, str) and (_is_installed_name(model, root) or (missing and is_name(model))):
        return InstalledModel(
            model, latency, threads, keep_alive, root=root, missing=missing, on_switch=on_switch
        )
    # As a path: a name would be looked up in the store of EDGEWISE_STORE, which may be another one.
    return FixedModel(DeviceSource(Path(model), latency, threads, keep_alive))


def _is_installed_name(model: str, root: Path | None = None) -> bool:
    """Whether `model` names a bundled model, or one that the store knows; cheap."""
    return is_name(model) and (
        model in bundled_models()
        or ((root or store_root()) / "models" / model / STATE_FILE).exists()
    )
