"""A scripted device and cloud, to test an app without a model, a socket or a sleep.

from edgewise import Router
from edgewise.testing import ScriptedCloud, ScriptedDevice, fails_after

story = "Once upon a time there was a fox."
cloud = ScriptedCloud(story)
with Router(ScriptedDevice(story, fails_after(4)), cloud=cloud) as router:
    assert router.generate("Tell me a story").text == story
assert [request.generated for request in cloud.requests] == ["Once"]

Only the two sources are scripted: the router, its policy, handoffs, events and privacy are the real
ones. A token is one byte of the text. See docs/testing.md.
"""

from edgewise.generation.attempt import Attempt
from edgewise.testing.cloud import ScriptedCloud
from edgewise.testing.device import ScriptedDevice
from edgewise.testing.scripts import (
    Script,
    completes,
    ends_after,
    fails_after,
    hands_off_after,
    hangs_after,
    waits_for,
)
from edgewise.testing.source import Answer, ReceivedRequest

__all__ = [
    "Answer",
    "Attempt",
    "ReceivedRequest",
    "Script",
    "ScriptedCloud",
    "ScriptedDevice",
    "completes",
    "ends_after",
    "fails_after",
    "hands_off_after",
    "hangs_after",
    "waits_for",
]
