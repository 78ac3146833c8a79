"""Battery, charger, low-power profile and temperature, from fake sysfs trees."""

from pathlib import Path

import pytest

from edgewise.device.power import (
    Power,
    read_low_power_mode,
    read_power,
    read_sysfs_power,
    read_temperature,
)

BATTERY = {"type": "Battery", "capacity": "50", "status": "Discharging"}
MAINS = {"type": "Mains", "online": "1"}
USB = {"type": "USB", "online": "1"}
MOUSE = {"type": "Battery", "scope": "Device", "capacity": "5", "status": "Charging"}


@pytest.fixture
def power_of(tmp_path):
    """Reads the power from supplies, each a dictionary of its files."""

    def read(**supplies: dict[str, str]) -> Power:
        for name, files in supplies.items():
            (tmp_path / name).mkdir()
            for file, text in files.items():
                (tmp_path / name / file).write_text(text + "\n")
        return read_sysfs_power(tmp_path)

    return read


@pytest.mark.parametrize(
    ("status", "charging"), [("Discharging", False), ("Charging", True), ("Full", True)]
)
def test_laptop_battery(power_of, status, charging):
    """The battery's own status says whether it charges."""
    assert power_of(BAT0=BATTERY | {"status": status}) == Power(battery=0.5, charging=charging)


@pytest.mark.parametrize("charger", [MAINS, USB], ids=["mains", "usb"])
@pytest.mark.parametrize(("online", "charging"), [("1", True), ("0", False)])
def test_charger(power_of, charger, online, charging):
    """A charger that is online counts as charging; an unplugged one does not."""
    power = power_of(AC=charger | {"online": online}, BAT0=BATTERY | {"status": "Not charging"})
    assert power == Power(battery=0.5, charging=charging)


def test_one_of_several_chargers_is_enough(power_of):
    """Any charger that is online counts."""
    power = power_of(AC=MAINS | {"online": "0"}, BAT0=BATTERY, USBC=USB)
    assert power.charging is True


def test_battery_of_a_mouse_is_ignored(power_of):
    """It says nothing about the system's charge."""
    assert power_of(A_MOUSE=MOUSE, BAT0=BATTERY) == Power(battery=0.5, charging=False)


def test_battery_of_a_mouse_alone_is_ignored(power_of):
    """A desktop with a wireless mouse has no battery."""
    assert power_of(MOUSE=MOUSE, AC=MAINS) == Power(battery=None, charging=None)


def test_battery_of_system_scope_counts(power_of):
    """Like one without a scope."""
    assert power_of(BAT0=BATTERY | {"scope": "System"}).battery == 0.5


def test_two_batteries(power_of):
    """The mean charge, and charging if either one is."""
    power = power_of(
        BAT0=BATTERY | {"capacity": "20"}, BAT1=BATTERY | {"capacity": "80", "status": "Charging"}
    )
    assert power == Power(battery=0.5, charging=True)


def test_charge_is_at_most_one(power_of):
    """A battery that reports more than its capacity is full."""
    assert power_of(BAT0=BATTERY | {"capacity": "104"}).battery == 1.0


def test_empty_battery_is_not_unknown(power_of):
    """A charge of 0 is a charge."""
    assert power_of(BAT0=BATTERY | {"capacity": "0"}).battery == 0.0


@pytest.mark.parametrize("capacity", ["", "full", "-1", "5 %", "0x32"])
def test_invalid_capacity_is_unknown(power_of, capacity):
    """A capacity that is not a number is like no battery."""
    assert power_of(BAT0=BATTERY | {"capacity": capacity}) == Power()


def test_one_invalid_capacity_of_two_is_ignored(power_of):
    """The other battery counts."""
    power = power_of(BAT0=BATTERY | {"capacity": "full"}, BAT1=BATTERY | {"capacity": "80"})
    assert power.battery == 0.8


@pytest.mark.parametrize("missing", ["type", "capacity"])
def test_battery_without_its_files_is_unknown(power_of, missing):
    """A supply without type or capacity is no battery."""
    files = {name: text for name, text in BATTERY.items() if name != missing}
    assert power_of(BAT0=files) == Power()


@pytest.mark.parametrize("folder", ["", "no such folder"], ids=["empty", "missing"])
def test_machine_without_supplies_has_no_battery(tmp_path, folder):
    """If there is no supply, or no folder for them."""
    assert read_power(tmp_path / folder) == Power(battery=None, charging=None)


@pytest.mark.parametrize(
    ("text", "low_power"),
    [("low-power\n", True), ("balanced\n", False), ("performance\n", False), ("", False)],
)
def test_low_power_mode_is_the_firmware_profile(tmp_path, text, low_power):
    """Only the low-power profile counts."""
    profile = tmp_path / "platform_profile"
    profile.write_text(text)
    assert read_low_power_mode(profile) is low_power


@pytest.mark.parametrize("name", ["", "missing"], ids=["unreadable", "missing"])
def test_without_a_profile_low_power_mode_is_unknown(tmp_path: Path, name):
    """A machine may have no profiles."""
    assert read_low_power_mode(tmp_path / name) is None


def test_temperature_of_this_machine_is_a_number_or_unknown():
    """Whatever sensors it has."""
    assert isinstance(read_temperature(), float | None)


def test_programmable_charger_counts(power_of):
    """USB-PD chargers report 2, 'Online Programmable'."""
    power = power_of(BAT0=BATTERY | {"status": "Not charging"}, PD=USB | {"online": "2"})
    assert power == Power(battery=0.5, charging=True)


def test_supply_of_a_peripheral_does_not_charge_the_system(power_of):
    """The USB port of a graphics card, say."""
    assert power_of(BAT0=BATTERY, UCSI=USB | {"scope": "Device"}).charging is False


def test_unknown_status_is_not_discharging(power_of):
    """Charging is unknown then."""
    assert power_of(BAT0=BATTERY | {"status": "Unknown"}).charging is None
