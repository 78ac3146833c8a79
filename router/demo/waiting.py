"""Waiting for the cloud service, with a sign of life."""

import re
import time
from contextlib import suppress

from rich.text import Text

from demo.narrate import console
from demo.service import CloudService
from edgewise import Router, SourceFailedError

REPORT_EVERY = 30.0  # seconds, where a stage takes longer
COUNTED = re.compile(r" \d[\d,]* of \d.*")  # how far a stage has come


def wait_until_serving(cloud: CloudService) -> None:
    """Wait as long as it runs, with a clock; where none can be shown, a line for each stage."""
    stage, reported = "", 0.0
    console.print()
    with Router(cloud=cloud.address) as router, console.status("") as clock:
        while cloud.exit_status is None:
            with suppress(SourceFailedError):
                router.describe_cloud()
                console.print(f"The cloud serves, after {cloud.age:.0f} s.")
                return
            elapsed = cloud.age
            phase = cloud.phase or "importing TensorFlow"
            line = f"The cloud starts, {elapsed:.0f} s: {phase}"
            clock.update(Text(line, no_wrap=True, overflow="ellipsis"))
            new_stage = COUNTED.sub("", phase) != stage
            if not console.is_interactive and (new_stage or elapsed - reported >= REPORT_EVERY):
                console.print(line, markup=False)
                stage, reported = COUNTED.sub("", phase), elapsed
            time.sleep(0.2)


def show_last_words(cloud: CloudService) -> None:
    """Of a service that failed."""
    console.print(
        f"The cloud service failed (exit status {cloud.exit_status}). Its last words:", style="red"
    )
    for line in cloud.last_lines or ["(none)"]:
        console.print(f"  {line}", markup=False)
