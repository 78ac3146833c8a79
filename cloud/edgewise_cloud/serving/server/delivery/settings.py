"""Which channel is served, and how much downloads may take; importable without gRPC."""

from dataclasses import dataclass
from pathlib import Path

from edgewise_cloud.errors import ServeError

MIN_BANDWIDTH = 2**16  # bytes per second: slower, and devices give up waiting for their turn


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """A channel's folder, and the limits of its downloads."""

    channel: Path | None = None  # None: no channel is served
    bandwidth: float = 10e6  # bytes per second, of all downloads together
    downloads: int = 16  # at once

    def __post_init__(self) -> None:
        """Make the path absolute: files are read later, perhaps from another folder."""
        if self.channel is not None:
            object.__setattr__(self, "channel", Path(self.channel).absolute())

    def check(self) -> None:
        """Raise ServeError for a folder that is no channel, and for limits out of range."""
        if self.bandwidth < MIN_BANDWIDTH:
            raise ServeError(
                f"--delivery-bandwidth is {self.bandwidth:g}; it must be at least {MIN_BANDWIDTH:,} "
                "bytes per second"
            )
        if self.downloads < 1:
            raise ServeError(f"--downloads is {self.downloads}; it must be at least 1")
        if self.channel is None:
            return
        try:
            found = (self.channel / "metadata").is_dir()
        except (OSError, ValueError) as error:
            raise ServeError(f"--channel {self.channel} cannot be read: {error}") from error
        if not found:
            raise ServeError(
                f"--channel is {self.channel}, which holds no channel: it has no folder metadata; "
                "make one with 'edgewise-cloud channel init'"
            )
