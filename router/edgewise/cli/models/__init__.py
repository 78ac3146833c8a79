"""`edgewise models`: the models on this device, and where they come from."""

from edgewise.cli.models.commands import models

__all__ = ["models"]
