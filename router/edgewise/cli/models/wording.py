"""What came of a check or an update, in words and as JSON, and the next command to type."""

from dataclasses import dataclass
from typing import Any

from edgewise import EdgewiseError, UpdateCheck, UpdateOutcome, UpdateResult
from edgewise.cli.exit_codes import ExitCode, exit_code
from edgewise.cli.models.report import size
from edgewise.cli.wording import in_words_of_options
from edgewise.delivery.update.check import FAILED_BEFORE


@dataclass(frozen=True, slots=True)
class Said:
    """For people, for programs, what to type next, and the exit status."""

    words: str
    as_dict: dict[str, Any]
    then: str
    code: ExitCode = ExitCode.OK


def updated(name: str, result: UpdateResult) -> Said:
    """Of an update."""
    revision = f"{name} {result.revision}" if result.revision else name
    match result.outcome:
        case UpdateOutcome.CURRENT:
            words, then = f"{revision} is up to date", f"edgewise generate -m {name} 'Once upon'"
        case UpdateOutcome.STAGED:
            words = f"{revision} passed its trial; the next load uses it{_fetched(result)}"
            then = f"edgewise generate -m {name} 'Once upon'"
        case UpdateOutcome.AVAILABLE:
            words = f"{revision} would be fetched: {_size(result)}"
            then = f"edgewise models update {name}"
        case UpdateOutcome.REFUSED:
            words = f"{revision} is refused and will not be tried again: {result.reason}"
            then = f"edgewise models show {name}"
        case UpdateOutcome.ROLLED_BACK:
            words = f"{result.reason}; {result.revision or 'nothing'} is used again"
            then = f"edgewise models show {name}"
        case UpdateOutcome.UNUSABLE:
            stays = f"{revision} stays" if result.revision else f"{name} is not on this device"
            words = f"{stays}: {result.reason}{_way_on(result.check)}"
            then = f"edgewise models show {name}"
    fields = ("revision", "reason", "fetched", "size", "delta")
    as_dict = {
        "model": name,
        "outcome": result.outcome.value,
        **{field: getattr(result, field) for field in fields},
        "current": result.check.current,
        "next": then,
    }
    refused = (
        result.outcome is UpdateOutcome.REFUSED
        or (result.check.revoked and not result.staged)
        or (result.outcome is UpdateOutcome.UNUSABLE and not result.revision)
    )
    return Said(words, as_dict, then, ExitCode.REFUSED if refused else ExitCode.OK)


def failed(name: str, error: EdgewiseError) -> Said:
    """Of one of several models, whose others go on."""
    reason, then = in_words_of_options(str(error)), f"edgewise models update {name}"
    as_dict = {"model": name, "outcome": "failed", "reason": reason, "next": then}
    return Said(f"{name} was not updated: {reason}", as_dict, then, exit_code(error))


def checked(check: UpdateCheck) -> Said:
    """Of a check."""
    name, newest = check.model, check.newest
    then = f"edgewise models update {name}"
    if check.current is None:
        words = f"{name} is not on this device"
    else:
        words = f"{name} {check.current} is in use"
    if check.revoked:
        words += f", and was revoked: {check.revoked}"
    if newest and newest.revision == check.staged:
        words += f"; {newest.revision} is staged for the next load"
        then = f"edgewise generate -m {name} 'Once upon'"
    elif newest:
        words += f"; {newest.revision} can be fetched ({size(newest.size)} as a whole)"
    elif not check.others:
        words += "; nothing newer was published"
        then = f"edgewise generate -m {name} 'Once upon'"
    if check.others:
        words += f"; not used here: {check.detail}{_way_on(check)}"
    as_dict = {
        "model": name,
        "current": check.current,
        "staged": check.staged,
        "newest": newest.revision if newest else None,
        "size": newest.size if newest else None,
        "revoked": check.revoked,
        "others": dict(check.others),
        "next": then,
    }
    return Said(words, as_dict, then)


def _way_on(check: UpdateCheck) -> str:
    """Past what failed here before."""
    failed_ = any(reason.startswith(FAILED_BEFORE) for reason in check.others.values())
    return "; --force tries it again" if failed_ else ""


def _size(result: UpdateResult) -> str:
    kind = "a delta" if result.delta else "the files that are missing"
    return f"{size(result.fetched)} ({kind}) of {size(result.size)}"


def _fetched(result: UpdateResult) -> str:
    return f" ({size(result.fetched)} fetched)" if result.fetched else ""
