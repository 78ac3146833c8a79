"""The device that a request is tried on, where it is not this one."""

from dataclasses import dataclass, replace
from typing import Annotated

import typer

from edgewise import DeviceState
from edgewise.cli.options.groups import ASSUMED
from edgewise.cli.options.values import fraction, parse_size


@dataclass(frozen=True, kw_only=True)
class AssumedDevice:
    """A device other than this one."""

    battery: Annotated[
        float | None,
        typer.Option(
            metavar="0..1",
            help="Its charge.",
            callback=fraction,
            show_default="this device's",
            rich_help_panel=ASSUMED,
        ),
    ] = None
    on_battery: Annotated[
        bool,
        typer.Option(
            "--on-battery",
            help="No charger is connected.",
            show_default="this device's",
            rich_help_panel=ASSUMED,
        ),
    ] = False
    available_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Its free memory, such as 200MB or 1.5GiB.",
            show_default="this device's",
            rich_help_panel=ASSUMED,
        ),
    ] = None

    no_network: Annotated[
        bool,
        typer.Option(
            "--no-network",
            help="It has no network.",
            show_default="this device's",
            rich_help_panel=ASSUMED,
        ),
    ] = False

    def over(self, state: DeviceState) -> DeviceState:
        """`state` with these assumptions. Raises ConfigurationError for an invalid size."""
        if self.battery is not None:
            state = replace(state, battery=self.battery)
        if self.on_battery:
            state = replace(state, charging=False)
        if self.available_memory is not None:
            size = parse_size("available_memory", self.available_memory)
            state = replace(state, available_memory=size)
        if self.no_network:
            state = replace(state, network=False)
        return state
