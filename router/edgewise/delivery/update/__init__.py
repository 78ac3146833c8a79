"""Updating a model: what a channel has for this device, and the steps from there to a staged revision."""

from edgewise.delivery.update.check import UpdateCheck
from edgewise.delivery.update.result import UpdateOutcome, UpdateResult
from edgewise.delivery.update.updater import Updater

__all__ = ["UpdateCheck", "UpdateOutcome", "UpdateResult", "Updater"]
