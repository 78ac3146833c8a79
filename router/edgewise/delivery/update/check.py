"""Which revision of a channel this device should use, and why not the others. Pure."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from edgewise_edge.installed.channel_index import IndexedRevision
from edgewise_edge.installed.state import ModelState

FAILED_BEFORE = "failed on this device before"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateCheck:
    """What a channel has for this device.

    `newest` is the revision to update to; None: there is none. `others` says of each newer one why
    it is not used, newest first. `revoked` is why nobody may use the current one; empty if it is
    good.
    """

    model: str  # its name
    current: str | None  # the revision in use; None: the model is not on this device
    staged: str | None  # the revision that the next load uses
    newest: IndexedRevision | None
    others: Mapping[str, str] = field(default_factory=dict)
    revoked: str = ""

    @property
    def detail(self) -> str:
        """Why newer revisions are not used, in one line; empty if there are none."""
        return "; ".join(f"{revision}: {reason}" for revision, reason in self.others.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What decides whether a revision may be used here. None is unknown, and no constraint."""

    memory: int | None  # bytes, of the machine or of its control group's limit
    versions: Mapping[str, str]  # of what runs a model, by the names in `requires`
    device_id: Callable[[], str]  # random and anonymous; it is asked for only where it matters
    vocabulary: str | None  # of the model of that name that is here


def choose(
    model: str,
    revisions: Sequence[IndexedRevision],
    state: ModelState,
    current: str | None,
    device: Device,
    model_sha256: Callable[[IndexedRevision], str],
    *,
    force: bool = False,
) -> UpdateCheck:
    """The newest revision that this device may use, of those newer than `current`.

    Where `current` is revoked, or unknown to the channel, of all. `model_sha256` gives that of a
    revision's model file. `force`: also one that failed here before.
    """
    now = next((found for found in revisions if found.revision == current), None)
    revoked = now.revoked if now else ""
    least = now.number if now and not revoked else 0
    others, newest = {}, None
    for candidate in reversed(revisions):
        if candidate.revision == current or candidate.number < least:
            continue
        reason = unusable(model, candidate, state, device)
        if not reason and not force:
            reason = _failed(candidate, state, model_sha256)
        if not reason:
            newest = candidate
            break
        others[candidate.revision] = reason
    return UpdateCheck(
        model=model,
        current=current,
        staged=state.staged,
        newest=newest,
        others=others,
        revoked=revoked,
    )


def unusable(model: str, candidate: IndexedRevision, state: ModelState, device: Device) -> str:
    """Why this device does not use `candidate`, as far as the index tells; empty if it may."""
    if candidate.revoked:
        return f"revoked: {candidate.revoked}"
    if state.pinned:
        return f"the model is pinned to {state.pinned}"
    if device.vocabulary not in {None, candidate.vocabulary}:
        return (
            f"it has another vocabulary than the {model} on this device; a model with another "
            "vocabulary needs another name"
        )
    for needed, least in candidate.requires.items():
        have = device.versions.get(needed)
        if have is None or _version(have) < _version(least):
            return f"it needs {needed} {least}; here is {have or 'none that is known'}"
    if device.memory is not None and candidate.memory > device.memory:
        return (
            f"it needs {candidate.memory / 1e6:,.0f} MB of memory; this device has "
            f"{device.memory / 1e6:,.0f} MB"
        )
    if candidate.rollout < 100 and share(device.device_id(), candidate.revision) >= (
        candidate.rollout
    ):
        return f"it is rolled out to {candidate.rollout:g} % of devices, not to this one yet"
    return ""


def share(device_id: str, revision: str) -> float:
    """Where this device stands among all, from 0 to 100 percent, for that revision."""
    digest = hashlib.sha256(f"{device_id}:{revision}".encode()).digest()
    return int.from_bytes(digest[:8]) % 10_000 / 100


def _failed(
    candidate: IndexedRevision, state: ModelState, model_sha256: Callable[[IndexedRevision], str]
) -> str:
    if not state.failed:  # the usual case, in which nothing has to be fetched
        return ""
    reason = state.failed.get(model_sha256(candidate))
    return f"{FAILED_BEFORE}: {reason}" if reason is not None else ""


def _version(text: str) -> tuple[int, ...]:
    """Its leading numbers: (2, 3, 1) of "2.3.1rc1"."""
    found = re.match(r"\d+(\.\d+)*", text)
    numbers = [int(part) for part in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
