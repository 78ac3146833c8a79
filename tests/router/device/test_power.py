"""Battery, charger, low-power profile and temperature, on made-up trees of sysfs."""

from pathlib import Path

import pytest

from edgewise.device.power import (
    Power,
    _from_sysfs,
    read_low_power_mode,
    read_power,
    read_temperature,
)

BATTERY = {"type": "Battery", "capacity": "50", "status": "Discharging"}
MAINS = {"type": "Mains", "online": "1"}
USB = {"type": "USB", "online": "1"}
MOUSE = {"type": "Battery", "scope": "Device", "capacity": "5", "status": "Charging"}


@pytest.fixture
def power_of(tmp_path):
    """What is read of these supplies, each a dictionary of its files."""

    def read(**supplies: dict[str, str]) -> Power:
        for name, files in supplies.items():
            (tmp_path / name).mkdir()
            for file, text in files.items():
                (tmp_path / name / file).write_text(text + "\n")
        return _from_sysfs(tmp_path)

    return read


@pytest.mark.parametrize(
    ("status", "charging"), [("Discharging", False), ("Charging", True), ("Full", True)]
)
def test_a_laptops_battery(power_of, status, charging):
    """The charge is a share, and the battery's own status tells whether it charges."""
    assert power_of(BAT0=BATTERY | {"status": status}) == Power(battery=0.5, charging=charging)


@pytest.mark.parametrize("charger", [MAINS, USB], ids=["mains", "usb"])
@pytest.mark.parametrize(("online", "charging"), [("1", True), ("0", False)])
def test_a_charger(power_of, charger, online, charging):
    """A charger that is online feeds a battery that does not charge; an unplugged one does not."""
    power = power_of(AC=charger | {"online": online}, BAT0=BATTERY | {"status": "Not charging"})
    assert power == Power(battery=0.5, charging=charging)


def test_one_charger_of_several_is_enough(power_of):
    """Any charger that is online counts."""
    power = power_of(AC=MAINS | {"online": "0"}, BAT0=BATTERY, USBC=USB)
    assert power.charging is True


def test_a_mouse_is_no_battery_of_the_system(power_of):
    """A device's battery tells neither the system's charge nor whether it charges."""
    assert power_of(A_MOUSE=MOUSE, BAT0=BATTERY) == Power(battery=0.5, charging=False)


def test_a_mouse_alone_is_no_battery(power_of):
    """A desktop with a wireless mouse has no battery."""
    assert power_of(MOUSE=MOUSE, AC=MAINS) == Power(battery=None, charging=None)


def test_a_battery_of_system_scope_counts(power_of):
    """A battery that says it is the system's is one like those that do not say."""
    assert power_of(BAT0=BATTERY | {"scope": "System"}).battery == 0.5


def test_two_batteries(power_of):
    """Of two batteries the mean charge is told, and either one's charging."""
    power = power_of(
        BAT0=BATTERY | {"capacity": "20"}, BAT1=BATTERY | {"capacity": "80", "status": "Charging"}
    )
    assert power == Power(battery=0.5, charging=True)


def test_a_charge_is_never_above_one(power_of):
    """A battery that reports more than it can hold is full."""
    assert power_of(BAT0=BATTERY | {"capacity": "104"}).battery == 1.0


def test_an_empty_battery_is_known_to_be_empty(power_of):
    """A charge of zero is a charge, not an unknown one."""
    assert power_of(BAT0=BATTERY | {"capacity": "0"}).battery == 0.0


@pytest.mark.parametrize("capacity", ["", "full", "-1", "5 %", "0x32"])
def test_a_garbled_charge_is_unknown(power_of, capacity):
    """A capacity that is no number is as good as no battery."""
    assert power_of(BAT0=BATTERY | {"capacity": capacity}) == Power()


def test_a_garbled_charge_beside_a_good_one(power_of):
    """Of two batteries, one of them garbled, the other is told."""
    power = power_of(BAT0=BATTERY | {"capacity": "full"}, BAT1=BATTERY | {"capacity": "80"})
    assert power.battery == 0.8


@pytest.mark.parametrize("missing", ["type", "capacity"])
def test_a_battery_without_its_files_is_unknown(power_of, missing):
    """A supply that does not say what it is, or how full, is no battery."""
    files = {name: text for name, text in BATTERY.items() if name != missing}
    assert power_of(BAT0=files) == Power()


@pytest.mark.parametrize("folder", ["", "no such folder"], ids=["empty", "missing"])
def test_a_machine_without_supplies_has_no_battery(tmp_path, folder):
    """Where there is no supply, or no folder for one, nothing is known."""
    assert read_power(tmp_path / folder) == Power(battery=None, charging=None)


@pytest.mark.parametrize(
    ("text", "low_power"),
    [("low-power\n", True), ("balanced\n", False), ("performance\n", False), ("", False)],
)
def test_the_firmwares_profile_tells_low_power_mode(tmp_path, text, low_power):
    """Only the low-power profile is low-power mode."""
    profile = tmp_path / "platform_profile"
    profile.write_text(text)
    assert read_low_power_mode(profile) is low_power


@pytest.mark.parametrize("name", ["", "missing"], ids=["unreadable", "missing"])
def test_without_a_profile_low_power_mode_is_unknown(tmp_path: Path, name):
    """A machine without such a choice is not said to have chosen."""
    assert read_low_power_mode(tmp_path / name) is None


def test_this_machines_temperature_is_a_number_or_unknown():
    """Whatever sensors there are, the answer is a float or None."""
    assert isinstance(read_temperature(), float | None)


def test_a_programmable_charger_counts_as_a_charger(power_of):
    """USB-PD chargers report 2, 'Online Programmable'."""
    power = power_of(BAT0=BATTERY | {"status": "Not charging"}, PD=USB | {"online": "2"})
    assert power == Power(battery=0.5, charging=True)


def test_a_supply_of_another_device_does_not_charge_this_one(power_of):
    """A graphics card's own USB port, say."""
    assert power_of(BAT0=BATTERY, UCSI=USB | {"scope": "Device"}).charging is False


def test_a_battery_that_does_not_tell_may_or_may_not_charge(power_of):
    """Unknown is not 'no'."""
    assert power_of(BAT0=BATTERY | {"status": "Unknown"}).charging is None
