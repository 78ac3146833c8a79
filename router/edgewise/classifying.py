"""Whether a prompt may leave the device: what the request says, and what the app's hook says."""

import logging
from collections.abc import Callable

from edgewise.situation import Privacy

log = logging.getLogger("edgewise")

# Says of a prompt whether it is private; called on the device, before anything else.
Classify = Callable[[str], Privacy | str]


def classified(
    prompt: str, asked: Privacy | None, classify: Classify | None, default: Privacy
) -> Privacy:
    """The stricter of what the request asks for and what `classify` says; else the default.

    A hook that raises, or says nothing that is a Privacy, means private.
    """
    if asked is Privacy.PRIVATE:
        return Privacy.PRIVATE
    if classify is None:
        return asked or default
    try:
        return Privacy(classify(prompt))
    except Exception as error:  # noqa: BLE001  # whatever it is, the prompt stays here
        # By its kind alone: what it says may quote the prompt.
        log.warning("classify failed (%s): the prompt is private", type(error).__name__)
        return Privacy.PRIVATE
