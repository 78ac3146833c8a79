"""How much patience there is with a cloud."""

from dataclasses import dataclass, fields

from edgewise.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTimeouts:
    """Seconds. Only tokens count as an answer: what keeps a connection alive does not.

    Raises ConfigurationError for what is no time.
    """

    connect: float = 2.0  # until the connection stands and the cloud has said what it serves
    first_token: float = 10.0
    between_tokens: float = 10.0
    probe_interval: float = 10.0  # at most, between two looks at a cloud that failed

    def __post_init__(self) -> None:
        """Check."""
        for part in fields(self):
            value = getattr(self, part.name)
            if not 0 < value <= 3600:
                raise ConfigurationError(
                    f"{part.name} is {value}; it must be a number of seconds above 0, and an hour "
                    "at most"
                )
