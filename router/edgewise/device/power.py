"""Reads battery, charger, temperature and low-power mode where the platform offers them."""

import sys
from dataclasses import dataclass
from pathlib import Path

_SUPPLIES = Path("/sys/class/power_supply")
_PROFILE = Path("/sys/firmware/acpi/platform_profile")


@dataclass(frozen=True, slots=True)
class Power:
    """The state of the system's battery."""

    battery: float | None = None  # charge from 0 to 1; None without a battery
    charging: bool | None = None  # None: unknown


def read_power(supplies: Path = _SUPPLIES) -> Power:
    """The system's battery: from sysfs on Linux, from psutil elsewhere."""
    return read_sysfs_power(supplies) if sys.platform == "linux" else _from_psutil()


def read_sysfs_power(supplies: Path) -> Power:
    """The battery by Linux's own files: psutil reads the first one, which may be a mouse's.

    With several batteries, the mean charge.
    """
    charges, online, statuses = [], [], []
    for supply in sorted(supplies.glob("*")):
        if _read(supply / "scope") == "Device":  # belongs to a peripheral
            continue
        kind = _read(supply / "type")
        if kind in ("Mains", "USB"):
            # 1: fixed, 2: programmable (Documentation/ABI/testing/sysfs-class-power)
            online.append(_read(supply / "online") not in (None, "0"))
        elif kind == "Battery":
            if (capacity := _read(supply / "capacity")) and capacity.isdecimal():
                charges.append(min(int(capacity), 100) / 100)
            statuses.append(_read(supply / "status"))
    if not charges:
        return Power()
    return Power(battery=sum(charges) / len(charges), charging=_charging(online, statuses))


def read_temperature() -> float | None:
    """The hottest sensor in degrees Celsius; None without sensors (macOS, Windows)."""
    import psutil  # takes 6 ms, too much for an import of this package

    read = getattr(psutil, "sensors_temperatures", None)
    try:
        sensors = read() if read else {}
    except (OSError, RuntimeError, ValueError):
        return None
    readings = [entry.current for entries in sensors.values() for entry in entries]
    return max((float(reading) for reading in readings if reading is not None), default=None)


def read_low_power_mode(profile: Path = _PROFILE) -> bool | None:
    """Whether the firmware's low-power profile is active; None without such profiles."""
    text = _read(profile)
    return None if text is None else text == "low-power"


def _charging(online: list[bool], statuses: list[str | None]) -> bool | None:
    if any(online) or any(status in ("Charging", "Full") for status in statuses):
        return True
    known = bool(online) or any(status not in (None, "Unknown") for status in statuses)
    return False if known else None


def _from_psutil() -> Power:
    import psutil

    try:
        battery = psutil.sensors_battery()
    except (AttributeError, OSError, RuntimeError):
        return Power()
    if battery is None:
        return Power()
    return Power(battery=battery.percent / 100, charging=battery.power_plugged)


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
