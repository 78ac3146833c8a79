"""What came of an update."""

from dataclasses import dataclass
from enum import StrEnum

from edgewise.delivery.update.check import UpdateCheck


class UpdateOutcome(StrEnum):
    """How an update ended, where nothing failed."""

    CURRENT = "current"  # nothing newer was published
    UNUSABLE = "unusable"  # something newer was, and this device may not use it
    AVAILABLE = "available"  # of a dry run: this revision would be fetched
    STAGED = "staged"  # the next load uses it
    REFUSED = "refused"  # it failed its trial or its agreement gate here
    ROLLED_BACK = "rolled_back"  # the one in use was revoked; the one before it is used again


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateResult:
    """What came of an update. `reason` says why, in words; empty where the outcome says it all."""

    outcome: UpdateOutcome
    revision: str | None  # that is staged, refused or in use
    reason: str = ""
    fetched: int = 0  # bytes; of a dry run those that would be
    size: int = 0  # bytes of the revision's files
    delta: bool = False  # whether only a difference is fetched
    check: UpdateCheck  # what was known when it began

    @property
    def staged(self) -> bool:
        """Whether the next load uses `revision`, and a load before may not."""
        return self.outcome is UpdateOutcome.STAGED


def nothing_to_do(first: UpdateCheck, check: UpdateCheck) -> UpdateResult:
    """Where there is no revision to update to. `first` was known before a revoked one was left."""
    if first.revoked and first.current != check.current:
        outcome, reason = UpdateOutcome.ROLLED_BACK, f"{first.current} was revoked: {first.revoked}"
    elif check.revoked:
        outcome = UpdateOutcome.UNUSABLE
        reason = f"{check.current} was revoked ({check.revoked}), and nothing can replace it"
    elif check.others:
        outcome, reason = UpdateOutcome.UNUSABLE, check.detail
    else:
        outcome, reason = UpdateOutcome.CURRENT, ""
    return UpdateResult(outcome=outcome, revision=check.current, reason=reason, check=check)
