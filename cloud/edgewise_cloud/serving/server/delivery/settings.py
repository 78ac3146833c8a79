"""Which channel is served, and how much downloads may take; importable without gRPC."""

from dataclasses import dataclass
from pathlib import Path

from edgewise_cloud.errors import ServeError

MIN_SHARE = 2**12  # bytes per second of a download: slower, and devices give up between chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySettings:
    """A channel's folder, and the limits of its downloads."""

    channel: Path | None = None  # None: no channel is served
    bandwidth: int = 10_000_000  # bytes per second, of all downloads together
    downloads: int = 16  # at once

    def __post_init__(self) -> None:
        """Make the path absolute: files are read later, perhaps from another folder."""
        if self.channel is not None:
            object.__setattr__(self, "channel", Path(self.channel).absolute())

    def check(self) -> None:
        """Raise ServeError for a folder that is no channel, and for limits out of range."""
        if self.downloads < 1:
            raise ServeError(f"--downloads is {self.downloads}; it must be at least 1")
        least = MIN_SHARE * self.downloads
        if not self.bandwidth >= least:
            raise ServeError(
                f"--delivery-bandwidth is {self.bandwidth}; it must be at least {least:,} bytes per "
                f"second for {self.downloads} --downloads at once"
            )
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
