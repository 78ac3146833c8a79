"""When a device may update by itself."""

from edgewise.delivery.conditions.policy import Conditions, UpdatePolicy, unmet

__all__ = ["Conditions", "UpdatePolicy", "unmet"]
