"""Any text in any file of /sys and /proc: no request fails for it."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise import Router
from edgewise.device.power import read_low_power_mode, read_sysfs_power
from edgewise.policy.types import DeviceState
from edgewise.testing import ScriptedDevice
from edgewise_edge.memory import available_memory, memory_pressure

SUPPLY_FILES = [
    "type", "scope", "present", "status", "online", "capacity", "energy_now", "energy_full",
    "charge_now", "charge_full", "charge_full_design", "model_name",
]  # fmt: skip
GROUP_FILES = [
    "memory.max", "memory.high", "memory.current", "memory.stat", "memory.limit_in_bytes",
    "memory.usage_in_bytes",
]  # fmt: skip
# Half of what they say is plausible, so that the readers get beyond the first file.
numbers = st.sampled_from(
    ["0", "1", "2", "50", "100", "255", "-1", "5000000", "max", "nan", "9" * 30]
)
words = st.sampled_from(
    ["Battery", "Mains", "USB_PD", "Device", "Charging", "Discharging", "low-power"]
)
texts = st.binary(max_size=40) | (numbers | words).map(lambda text: f"{text}\n".encode())
lines = st.lists(
    st.sampled_from(
        [
            "0::/app", "4:memory:/app", "0::/../app", "4:memory", "0::", "full avg10=12.5 avg60=1",
            "full avg10=nan", "30 24 0:26 / MOUNT rw - cgroup2 none rw", "30 24 0:26 /app MOUNT rw - cgroup2",
            "31 24 0:27 / MOUNT rw - cgroup cgroup rw,memory", "30 24 0:26 / \\000\\777 rw - cgroup2 x",
            "30 24 - cgroup2", "MemAvailable: 5 kB",
        ]
    ).map(str.encode)
    | st.binary(max_size=40),
    max_size=5,
).map(b"\n".join)  # fmt: skip


def files(names, contents):
    """Some of these files with any contents."""
    return st.dictionaries(st.sampled_from(names), contents)


trees = st.fixed_dictionaries(
    {
        "supplies/BAT0": files(SUPPLY_FILES, texts),
        "supplies/AC": files(SUPPLY_FILES, texts),
        "mount": files(GROUP_FILES, texts),
        "mount/app": files(GROUP_FILES, texts | lines),
        "proc/self": files(["cgroup", "mountinfo"], lines),
        "proc/pressure": files(["memory"], lines),
        "firmware": files(["platform_profile"], texts),
    }
)


def state_of(root: Path) -> DeviceState:
    """The device's state by the files below a folder."""
    power = read_sysfs_power(root / "supplies")
    return DeviceState(
        available_memory=available_memory(root / "proc"),
        memory_pressure=memory_pressure(root / "proc"),
        battery=power.battery,
        charging=power.charging,
        low_power_mode=read_low_power_mode(root / "firmware" / "platform_profile"),
    )


def write(tree, root: Path) -> None:
    """Make these files, with the real place of the mount in them."""
    for folder, named in tree.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, content in named.items():
            mount = str(root / "mount").encode()
            (root / folder / name).write_bytes(content.replace(b"MOUNT", mount))


@settings(deadline=None, max_examples=60)
@given(trees)
def test_any_files_give_a_possible_state(tree):
    """Each value is possible or unknown, and nothing raises."""
    with tempfile.TemporaryDirectory() as folder:
        write(tree, Path(folder))
        state = state_of(Path(folder))
    assert state.available_memory is None or 0 <= state.available_memory < 2**63
    assert state.memory_pressure is None or 0 <= state.memory_pressure <= 1
    assert state.battery is None or 0 <= state.battery <= 1
    assert state.charging in (None, True, False)


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text()


@settings(deadline=None, max_examples=50)
@given(
    st.builds(
        DeviceState,
        memory_pressure=anything,
        battery=anything,
        charging=anything,
        temperature=anything,
        temperature_limit=anything,
        low_power_mode=anything,
    )
)
def test_any_state_answers_a_private_request(state):
    """Whatever a probe makes up: only a lack of memory refuses it."""
    with Router(ScriptedDevice("an answer"), device=lambda: state) as router:
        assert router.generate("a prompt", privacy="private").text == "an answer"
