"""The options that make the router: its model, its cloud, the limits of its device."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import typer

from edgewise import CloudSecurity, Limits, Mode, Observer, Privacy, Router
from edgewise.cli.options.groups import CLOUD, LIMITS, MODEL, ROUTING
from edgewise.cli.options.values import TOKEN_VARIABLE, file_path, not_empty, parse_size, read_token
from edgewise.device.state import DeviceProbe, read_device_state
from edgewise_edge import bundled_models

_LIMITS = Limits()
Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        metavar="NAME|FOLDER",
        parser=not_empty,
        help="A bundled or fetched model, or the folder of one that 'edgewise-cloud convert' made.",
        autocompletion=bundled_models,
        rich_help_panel=MODEL,
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="CPU threads for the model, 1 or more.",
        show_default="all cores, up to 4",
        rich_help_panel=MODEL,
    ),
]


def _keep_file_to_its_cloud(context: typer.Context, value: str | None) -> str | None:
    """How the config file says to connect is for the cloud that it names: its token is for no other."""
    values = context.default_map or {}
    if values.get("cloud") not in {None, value}:
        for name in [name for name in values if name.startswith("cloud_")]:
            del values[name]
    return value


@dataclass(frozen=True, kw_only=True)
class CloudOptions:
    """Which cloud to use, and how to connect to it."""

    cloud: Annotated[
        str | None,
        typer.Option(
            "-c",
            "--cloud",
            metavar="HOST:PORT",
            help="Where 'edgewise-cloud serve' listens.",
            envvar="EDGEWISE_CLOUD",
            callback=_keep_file_to_its_cloud,
            is_eager=True,
            show_default="no cloud",
            rich_help_panel=CLOUD,
        ),
    ] = None
    cloud_tls: Annotated[
        bool,
        typer.Option(
            "--cloud-tls",
            show_default="off",
            help="Connect with TLS; --cloud-ca and --cloud-certificate imply it.",
            rich_help_panel=CLOUD,
        ),
    ] = False
    cloud_ca: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            parser=file_path,
            help="Trust this certificate authority only.",
            show_default="well-known authorities",
            rich_help_panel=CLOUD,
        ),
    ] = None
    cloud_certificate: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            parser=file_path,
            help="Client certificate, for a cloud that asks for one; needs --cloud-key.",
            show_default="none",
            rich_help_panel=CLOUD,
        ),
    ] = None
    cloud_key: Annotated[
        Path | None,
        typer.Option(
            metavar="PEM",
            parser=file_path,
            help="Key of the client certificate, unencrypted.",
            show_default="none",
            rich_help_panel=CLOUD,
        ),
    ] = None
    cloud_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            parser=file_path,
            help="File with the token for the cloud.",
            show_default=f"the variable {TOKEN_VARIABLE}",
            rich_help_panel=CLOUD,
        ),
    ] = None
    cloud_insecure: Annotated[
        bool,
        typer.Option(
            "--cloud-insecure",
            show_default="off",
            help="Without TLS and token, connect to other machines too: others can read prompts.",
            rich_help_panel=CLOUD,
        ),
    ] = False
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            show_default="off",
            help="Never connect, even if a cloud is set.",
            rich_help_panel=CLOUD,
        ),
    ] = False

    def security(self) -> CloudSecurity:
        """Raises ConfigurationError."""
        return CloudSecurity(
            tls=self.cloud_tls,
            root_certificates=self.cloud_ca,
            client_certificate=self.cloud_certificate,
            client_key=self.cloud_key,
            token=read_token(self.cloud_token_file),
            insecure=self.cloud_insecure,
        )


@dataclass(frozen=True, kw_only=True)
class LimitOptions:
    """Beyond which state the device does not answer, if the cloud may; as in Limits."""

    min_battery: Annotated[
        float,
        typer.Option(
            metavar="0..1",
            help="Charge to keep; ignored while charging.",
            rich_help_panel=LIMITS,
        ),
    ] = _LIMITS.min_battery
    memory_reserve: Annotated[
        str,
        typer.Option(
            metavar="SIZE",
            help="Memory to keep free, such as 200MB or 1.5GiB.",
            rich_help_panel=LIMITS,
        ),
    ] = "64MiB"
    max_memory_pressure: Annotated[
        float,
        typer.Option(
            metavar="0..1",
            help="Share of time that programs may wait for memory.",
            rich_help_panel=LIMITS,
        ),
    ] = _LIMITS.max_memory_pressure
    max_temperature: Annotated[
        float | None,
        typer.Option(
            metavar="CELSIUS",
            help="Highest temperature of the processor.",
            show_default="the sensor's own limit, or 90",
            rich_help_panel=LIMITS,
        ),
    ] = _LIMITS.max_temperature
    max_queue: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Generations that share the device, 1 or more.",
            rich_help_panel=LIMITS,
        ),
    ] = _LIMITS.max_queue
    queue_timeout: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="How long to wait for the device while that many run; 0: not at all.",
            rich_help_panel=LIMITS,
        ),
    ] = _LIMITS.queue_timeout

    def limits(self) -> Limits:
        """Raises ConfigurationError."""
        values = {part.name: getattr(self, part.name) for part in fields(Limits)}
        reserve = parse_size("memory_reserve", self.memory_reserve)
        return Limits(**values | {"memory_reserve": reserve})


@dataclass(frozen=True, kw_only=True)
class RouterOptions(LimitOptions, CloudOptions):
    """What a Router takes. The config file may set each of these."""

    model: Model = "tales"
    threads: Threads = None
    keep_alive: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Unload the model after this time without work, such as while the cloud answers.",
            show_default="keep it",
            rich_help_panel=MODEL,
        ),
    ] = None
    mode: Annotated[
        Mode,
        typer.Option(
            metavar="MODE",
            help=f"Which source to use or prefer: {', '.join(Mode)}.",
            rich_help_panel=ROUTING,
        ),
    ] = Mode.PREFER_ON_DEVICE

    def router(
        self,
        device: DeviceProbe = read_device_state,
        *,
        default_privacy: Privacy = Privacy.ALLOW_CLOUD,
        observers: Iterable[Observer] = (),
    ) -> Router:
        """Raises ConfigurationError and ModelError."""
        return Router(
            self.model,
            cloud=self.cloud,
            cloud_security=self.security(),
            mode=self.mode,
            limits=self.limits(),
            offline=self.offline,
            threads=self.threads,
            keep_alive=self.keep_alive,
            device=device,
            default_privacy=default_privacy,
            observers=observers,
        )
