"""The scenes: a router in a situation, and a story that it continues. Each docstring is a title.

The seeds were chosen, out of about sixty each, for paragraphs that read well; unselected samples are
in the model card.
"""

from collections.abc import Callable, Sequence

from demo.narrate import MIDWAY, console, show
from demo.service import CloudService
from demo.updates import show_updates
from demo.waiting import show_last_words, wait_until_serving
from edgewise import (
    CloudTimeouts,
    DeviceState,
    EdgewiseError,
    LatencyLog,
    Measurement,
    Privacy,
    Router,
)
from edgewise.device.source import DeviceSource

CHARGED = DeviceState(battery=0.8)
LOW = DeviceState(battery=0.03, charging=False)
PATIENT = CloudTimeouts(connect=60.0, first_token=60.0, between_tokens=60.0)  # a busy machine
INVITATION = (
    "Now you: [bold]make page[/] opens a page with a prompt box, this device and such a cloud. Pull "
    "the battery down while it writes. [bold].venv/bin/edgewise serve --open[/] is the same for "
    "this device alone, or with a cloud of yours."
)
ONE_A_SECOND = Measurement(position=11, uncached=11, first_token=1.0, tokens=50, decode_time=49.0)

Scene = Callable[[CloudService, LatencyLog], None]


def device(_cloud: CloudService, _log: LatencyLog) -> None:
    """A charged device, no cloud"""
    with Router(device=lambda: CHARGED) as router:
        show(router, "Once upon a time there was a little princess who lived in", seed=39)


def offline(_cloud: CloudService, _log: LatencyLog) -> None:
    """The battery almost empty, and offline"""
    with Router(offline=True, device=lambda: LOW) as router:
        show(router, "It was midnight, and the wind howled round the old castle, when", seed=29)


def updates(_cloud: CloudService, _log: LatencyLog) -> None:
    """A new revision of the model arrives while a text is written, then a bad one"""
    show_updates(CHARGED)


def low_battery(cloud: CloudService, log: LatencyLog) -> None:
    """The battery almost empty, with a cloud"""
    with router_with(cloud, LOW, log) as router:
        show(router, "The wolf knocked at the door and", seed=19)


def slow_device(cloud: CloudService, log: LatencyLog) -> None:
    """A slow device (pretended: one token a second), and 30 s to answer"""
    with router_with(cloud, CHARGED, log) as router:
        assert isinstance(router.device_source, DeviceSource)  # noqa: S101  # not one for tests
        log.add(router.device_source.key, ONE_A_SECOND)
        show(router, "High in the mountains lived a dragon who", seed=4, latency_budget=30.0)


def private(cloud: CloudService, log: LatencyLog) -> None:
    """The battery almost empty, and a private prompt"""
    with router_with(cloud, LOW, log) as router:
        show(
            router,
            "At the bottom of the garden lived a rabbit who",
            seed=77,
            privacy=Privacy.PRIVATE,
        )


def dying_cloud(cloud: CloudService, log: LatencyLog) -> None:
    """The battery almost empty, and a cloud that is killed midway"""

    def kill_midway(tokens: int) -> None:
        if tokens >= MIDWAY:
            cloud.kill()

    with router_with(cloud, LOW, log) as router:
        prompt = "The snow had fallen all night, and in the morning"
        show(router, prompt, seed=22, meanwhile=kill_midway)


ON_DEVICE: Sequence[Scene] = (device, offline, updates)  # shown while the cloud starts
WITH_CLOUD: Sequence[Scene] = (low_battery, slow_device, private, dying_cloud)


def router_with(cloud: CloudService, state: DeviceState, log: LatencyLog) -> Router:
    """A router with a cloud, on a device in the given state."""
    return Router(cloud=cloud.address, cloud_timeouts=PATIENT, device=lambda: state, latency=log)


def main(command: Sequence[str] = ()) -> int:
    """Show every scene; the exit status. `command` is CloudService's."""
    console.print(
        "[bold]edgewise[/] chooses where a text is written: on [green]this device[/] or in "
        "[cyan]a cloud[/]. A cloud service starts in the background: it imports TensorFlow and "
        "compiles its model, in half a minute, or some minutes on a busy machine. Meanwhile, the "
        "device alone."
    )
    log = LatencyLog()
    with CloudService(command) as cloud:
        try:
            for scene in ON_DEVICE:
                play(scene, cloud, log)
            wait_until_serving(cloud)
            for number, scene in enumerate(WITH_CLOUD):
                if cloud.exit_status is not None:
                    report_failure(cloud, WITH_CLOUD[number:])
                    return 1
                play(scene, cloud, log)
        except EdgewiseError as error:
            console.print(f"error: {error}", style="red", markup=False)
            return 1
    console.print("\nDone; the cloud service has been stopped.")
    console.print(INVITATION)
    return 0


def play(scene: Scene, cloud: CloudService, log: LatencyLog) -> None:
    """Show one scene below its title."""
    console.print(f"\n[bold]{scene.__doc__}[/]")
    scene(cloud, log)


def report_failure(cloud: CloudService, missing: Sequence[Scene]) -> None:
    """Show what the service said last, and what could not be shown."""
    show_last_words(cloud)
    console.print("Not shown, since they need a cloud:", style="red")
    for scene in missing:
        console.print(f"  {scene.__doc__}")
