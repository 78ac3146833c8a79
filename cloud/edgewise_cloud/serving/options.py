"""The options of `edgewise-cloud serve`, and those that `serve-ray` shares with it."""

from pathlib import Path
from typing import Annotated

import typer

from edgewise_cloud.serving.engine.settings import EngineKind, EngineSettings, Precision
from edgewise_cloud.serving.observe.logs import LogFormat
from edgewise_cloud.serving.server.delivery.settings import DeliverySettings

ENGINE, DELIVERY = EngineSettings(), DeliverySettings()  # defaults of the command line
LIMITS, SECURITY = "Limits", "Security"
CHANNEL = "Channel"
OBSERVING = "Logs, metrics and traces"

Models = Annotated[
    list[str],
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Bundled model, folder with Keras weights, KerasHub preset, or hf://USER/MODEL. Give it "
        "again for a model of another vocabulary, whose devices are served too.",
    ),
]
DEFAULT_MODELS = ["tales"]
Slots = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Requests running at once; each takes memory.",
        rich_help_panel=LIMITS,
    ),
]
Queue = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="Requests waiting for a slot.", rich_help_panel=LIMITS),
]
PerCaller = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Requests of one caller, running and waiting.",
        show_default="an even share once others ask",
        rich_help_panel=LIMITS,
    ),
]
Engine = Annotated[
    EngineKind,
    typer.Option(
        help="What computes: Keras in float32, or the device's model of 8 bits on LiteRT, which is faster "
        "on processors and less exact.",
    ),
]
Dtype = Annotated[
    Precision,
    typer.Option(help="Type of weights and caches; bfloat16 halves memory, for accelerators."),
]
Grace = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0,
        help="Seconds for open requests to finish at shutdown.",
        rich_help_panel=LIMITS,
    ),
]
Logs = Annotated[
    LogFormat,
    typer.Option(
        help="Lines for people, or a JSON object on each, with the progress at start.",
        rich_help_panel=OBSERVING,
    ),
]
Host = Annotated[
    str,
    typer.Option(
        metavar="HOST", help="Address to listen on; other than loopback needs TLS and tokens."
    ),
]
Port = Annotated[
    int,
    typer.Option(
        "--port", "-p", metavar="PORT", min=0, max=65535, help="Port; 0 takes any free one."
    ),
]
TlsCertificate = Annotated[
    Path | None,
    typer.Option(
        metavar="PEM",
        help="PEM file; serve over TLS.",
        show_default="no TLS",
        rich_help_panel=SECURITY,
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option(
        metavar="PEM",
        help="PEM file; the certificate's key, not encrypted.",
        show_default="no TLS",
        rich_help_panel=SECURITY,
    ),
]
TlsClientCa = Annotated[
    Path | None,
    typer.Option(
        metavar="PEM",
        help="PEM file; admit only clients with a certificate signed by it.",
        show_default="any client",
        rich_help_panel=SECURITY,
    ),
]
Tokens = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Admit only callers with a token listed in this file; 'token' makes them.",
        show_default="any caller",
        rich_help_panel=SECURITY,
    ),
]
Insecure = Annotated[
    bool,
    typer.Option(
        "--insecure-i-know",
        help="Allow other addresses than loopback without TLS and tokens.",
        show_default="off",
        rich_help_panel=SECURITY,
    ),
]
ChannelFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Serve the files of this channel to devices, too; 'channel init' makes one.",
        show_default="no channel",
        rich_help_panel=CHANNEL,
    ),
]
DeliveryBandwidth = Annotated[
    int,
    typer.Option(
        metavar="BYTES",
        help="Bytes per second for all downloads together.",
        rich_help_panel=CHANNEL,
    ),
]
Downloads = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Downloads at once.", rich_help_panel=CHANNEL),
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT",
        min=0,
        max=65535,
        help="Serve Prometheus metrics on this port; 0 takes any free one.",
        show_default="no metrics",
        rich_help_panel=OBSERVING,
    ),
]
MetricsHost = Annotated[
    str,
    typer.Option(metavar="HOST", help="Address to serve metrics on.", rich_help_panel=OBSERVING),
]
Traces = Annotated[
    bool,
    typer.Option(
        "--traces",
        help="Send OpenTelemetry traces, set by the OTEL_* variables.",
        show_default="off",
        rich_help_panel=OBSERVING,
    ),
]
