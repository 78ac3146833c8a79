"""Battery, charger and low-power profile, from fake sysfs trees."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from edgewise.device.power import (
    Power,
    read_low_power_mode,
    read_power,
    read_sysfs_power,
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
    [("low-power\n", True), ("balanced\n", False), ("performance\n", False), ("", None)],
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


def test_empty_bay_is_no_battery(power_of):
    """Though it has a folder, and a charge of 0."""
    bay = {"type": "Battery", "present": "0", "capacity": "0", "status": "Unknown"}
    assert power_of(BAT0=BATTERY | {"present": "1"}, BAT1=bay) == Power(battery=0.5, charging=False)


def test_only_an_empty_bay_is_no_battery(power_of):
    """A laptop on mains without its battery, say."""
    assert power_of(BAT0=BATTERY | {"present": "0"}, AC=MAINS) == Power()


@pytest.mark.parametrize("unit", ["energy", "charge"])
def test_batteries_count_by_their_capacities(power_of, unit):
    """A small full one next to a large empty one is not half of the charge."""
    power = power_of(
        BAT0=BATTERY | {"capacity": "100", f"{unit}_full": "10000000"},
        BAT1=BATTERY | {"capacity": "0", f"{unit}_full": "90000000"},
    )
    assert power.battery == pytest.approx(0.1)


def test_capacities_in_different_units_do_not_count(power_of):
    """Energy and charge cannot be compared."""
    power = power_of(
        BAT0=BATTERY | {"capacity": "100", "energy_full": "10000000"},
        BAT1=BATTERY | {"capacity": "0", "charge_full": "90000000"},
    )
    assert power.battery == 0.5


@pytest.mark.parametrize("unit", ["energy", "charge"])
@pytest.mark.parametrize("full", ["full", "full_design"])
@pytest.mark.parametrize("capacity", [{}, {"capacity": "255"}, {"capacity": "?"}], ids=str)
def test_charge_is_told_by_energy_or_charge_too(power_of, unit, full, capacity):
    """Where there is no capacity, or one that cannot be true."""
    files = {f"{unit}_now": "3000000", f"{unit}_{full}": "10000000", "status": "Discharging"}
    power = power_of(BAT0={"type": "Battery"} | files | capacity)
    assert power == Power(battery=0.3, charging=False)


@pytest.mark.parametrize("now", ["-1", "20000000", "nan", ""])
@pytest.mark.parametrize("full", ["10000000", "0", ""])
def test_impossible_energy_is_unknown(power_of, now, full):
    """Like a capacity that is not a number."""
    files = {"type": "Battery", "energy_now": now, "energy_full": full}
    assert power_of(BAT0=files) == Power()


@pytest.mark.parametrize(
    "kind", ["Mains", "USB", "USB_PD", "USB_PD_DRP", "USB_C", "USB_DCP", "Wireless", "BrickID"]
)
def test_every_kind_of_charger_counts(power_of, kind):
    """By cable or without."""
    files = {"type": kind, "online": "1"}
    assert power_of(BAT0=BATTERY, charger=files) == Power(battery=0.5, charging=True)


@pytest.mark.parametrize("online", ["", "yes", "-1", "3"])
def test_charger_of_an_odd_state_is_unknown(power_of, online):
    """It is neither online nor offline."""
    power = power_of(BAT0=BATTERY | {"status": "Unknown"}, AC=MAINS | {"online": online})
    assert power == Power(battery=0.5, charging=None)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("hidpp_battery_0", {}),
        ("hid-00_1f_20-battery", {}),
        ("wacom_battery_0", {}),
        ("sony_controller_battery_00", {}),
        ("battery", {"model_name": "Magic Mouse"}),
        ("battery", {"model_name": "Wireless Keyboard K360"}),
    ],
)
def test_battery_of_a_mouse_without_a_scope_is_ignored(power_of, name, files):
    """Older drivers do not say that it belongs to a device."""
    mouse = {"type": "Battery", "capacity": "5", "status": "Charging"} | files
    assert power_of(**{name: mouse, "BAT0": BATTERY}) == Power(battery=0.5, charging=False)


def test_battery_of_an_input_device_is_ignored_whatever_its_name(tmp_path, power_of):
    """The bus of its device says what it is."""
    bus = tmp_path.parent / "bus" / "hid"
    power_of(anything=BATTERY)
    (tmp_path / "anything" / "device").mkdir()
    (tmp_path / "anything" / "device" / "subsystem").symlink_to(bus)
    assert read_sysfs_power(tmp_path) == Power()


@pytest.mark.parametrize("name", ["BAT0", "CMB1", "battery", "max17042_battery", "axp20x-battery"])
def test_battery_without_a_scope_counts(power_of, name):
    """Most drivers of the system's batteries give none."""
    assert power_of(**{name: BATTERY}).battery == 0.5


@pytest.mark.parametrize(
    ("percent", "plugged", "expected"),
    [
        (50, True, Power(0.5, charging=True)),
        (50.0, None, Power(0.5)),
        (104, False, Power(1.0, charging=False)),
        (255, None, Power()),
        (-1, None, Power()),
        (float("nan"), None, Power()),
        (None, None, Power()),
        (50, 2, Power(0.5)),
    ],
)
def test_battery_by_psutil(monkeypatch, percent, plugged, expected):
    """On other platforms; what cannot be true is unknown."""
    battery = SimpleNamespace(percent=percent, power_plugged=plugged)
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert read_power() == expected
