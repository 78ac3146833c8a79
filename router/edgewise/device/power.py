"""Reads battery, charger and low-power mode where the platform offers them."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

_SUPPLIES = Path("/sys/class/power_supply")
_PROFILE = Path("/sys/firmware/acpi/platform_profile")
# As types begin: USB_PD, USB_C and others are USB (Documentation/ABI/testing/sysfs-class-power).
_CHARGERS = ("Mains", "USB", "Wireless", "BrickID")
_ONLINE = {"0": False, "1": True, "2": True}  # 1: fixed, 2: programmable
# Older drivers leave the scope out, so that names have to do.
_PERIPHERAL = re.compile(
    r"(?<![a-z])(hid(pp)?|pen|kbd)(?![a-z])|mouse|keyboard|trackball|stylus|wacom|headset|headphone"
    r"|earbuds|(touch|track|game)pad|controller|dualshock|dualsense|sixaxis|joystick|wiimote",
    re.IGNORECASE,
)


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

    With several batteries, the charge of all together: the mean weighted by their capacities, or
    the plain one unless all state them in the same unit.
    """
    batteries, online = [], []
    for supply in sorted(supplies.glob("*")):
        kind = _read(supply / "type")
        if _is_peripheral(supply):
            continue
        if kind.startswith(_CHARGERS):
            online.append(_ONLINE.get(_read(supply / "online")))
        elif kind == "Battery" and _read(supply / "present") != "0":  # 0: an empty bay
            batteries.append(supply)
    charges = {battery: charge for battery in batteries if (charge := _charge(battery)) is not None}
    if not charges:
        return Power()
    weights = _capacities(list(charges))
    total = sum(charge * weight for charge, weight in zip(charges.values(), weights, strict=True))
    statuses = [_read(battery / "status") for battery in batteries]
    return Power(battery=min(1.0, total / sum(weights)), charging=_charging(online, statuses))


def read_low_power_mode(profile: Path = _PROFILE) -> bool | None:
    """Whether the firmware's low-power profile is active; None without such profiles."""
    text = _read(profile)
    return text == "low-power" if text else None


def _is_peripheral(supply: Path) -> bool:
    """Whether it belongs to a mouse, say, and not to the system."""
    scope = _read(supply / "scope")
    if scope in ("System", "Device"):
        return scope == "Device"
    names = (supply.name, _read(supply / "model_name"))
    return _bus(supply) == "hid" or any(_PERIPHERAL.search(name) for name in names)


def _bus(supply: Path) -> str:
    try:
        return (supply / "device" / "subsystem").readlink().name
    except OSError:
        return ""


def _charge(battery: Path) -> float | None:
    """From 0 to 1, by the first of its files that say something possible."""
    if (charge := _share(_number(battery / "capacity"), 100)) is not None:
        return charge
    for unit in ("energy", "charge"):
        charge = _share(_number(battery / f"{unit}_now"), _full(battery, unit))
        if charge is not None:
            return charge
    return None


def _share(now: float | None, full: float | None) -> float | None:
    """A gauge may report a little more than full, which is full; anything else is no charge."""
    if now is None or not full or not 0 <= now / full <= 1.1:
        return None
    return min(1.0, now / full)


def _capacities(batteries: list[Path]) -> list[int]:
    """What they hold when full, in one unit; 1 for each unless all say so."""
    for unit in ("energy", "charge"):
        known = [full for battery in batteries if (full := _full(battery, unit))]
        if len(known) == len(batteries):
            return known
    return [1] * len(batteries)


def _full(battery: Path, unit: str) -> int | None:
    return _number(battery / f"{unit}_full") or _number(battery / f"{unit}_full_design")


def _charging(online: list[bool | None], statuses: list[str]) -> bool | None:
    if any(online) or any(status in ("Charging", "Full") for status in statuses):
        return True
    known = False in online or any(s in ("Discharging", "Not charging") for s in statuses)
    return False if known else None


def _from_psutil() -> Power:
    import psutil

    read = getattr(psutil, "sensors_battery", None)
    battery = read() if read else None
    if battery is None:
        return Power()
    plugged = battery.power_plugged
    return Power(_share(battery.percent, 100), plugged if isinstance(plugged, bool) else None)


def _number(path: Path) -> int | None:
    """The whole number that it states, in whatever unit; None for anything else."""
    text = _read(path)
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 20 else None


def _read(path: Path) -> str:
    """The file's text; "" if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
