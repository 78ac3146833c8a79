"""Battery, charger and temperature, wherever the platform tells."""

import sys
from dataclasses import dataclass
from pathlib import Path

_SUPPLIES = Path("/sys/class/power_supply")
_PROFILE = Path("/sys/firmware/acpi/platform_profile")


@dataclass(frozen=True, slots=True)
class Power:
    """Charge from 0 to 1, None without a battery; whether it charges, None where unknown."""

    battery: float | None = None
    charging: bool | None = None


def read_power(supplies: Path = _SUPPLIES) -> Power:
    """The system's battery: from sysfs on Linux, through psutil elsewhere."""
    return _from_sysfs(supplies) if sys.platform == "linux" else _from_psutil()


def read_temperature() -> float | None:
    """The hottest sensor in degrees Celsius; None where there is none (macOS, Windows)."""
    import psutil  # 6 ms, which an import should not cost

    read = getattr(psutil, "sensors_temperatures", None)
    try:
        sensors = read() if read else {}
    except (OSError, RuntimeError, ValueError):
        return None
    readings = [entry.current for entries in sensors.values() for entry in entries]
    return max((float(reading) for reading in readings if reading is not None), default=None)


def read_low_power_mode(profile: Path = _PROFILE) -> bool | None:
    """Whether the firmware's low-power profile is chosen; None where there is no such choice."""
    text = _read(profile)
    return None if text is None else text == "low-power"


def _from_sysfs(supplies: Path) -> Power:
    """Linux's own files: psutil takes the first battery, which may be that of a mouse."""
    charges, online, statuses = [], [], []
    for supply in sorted(supplies.glob("*")):
        if _read(supply / "scope") == "Device":  # feeds or is fed by something plugged in
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
