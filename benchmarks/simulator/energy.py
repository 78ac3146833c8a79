"""What answers cost the phone's battery: a simple model, and assumed figures, none measured here.

On the device: joules for each token. Assumed are 4 W while a phone computes, which at 8 tokens a
second, the middle of the phones here, is 0.5 J for a token written. Reading runs ten times as fast
at the same power. A throttled phone takes less power for longer: the same joules.

In the cloud: what the phone's radio takes. That an LTE radio stays on for a long tail, which costs
most of it, is from Huang et al., "A Close Examination of Performance and Power Characteristics of
4G LTE Networks" (MobiSys 2012); the figures are of the size found there. On Wi-Fi the cloud would
cost the phone far less. The cloud's own energy is not the phone's, and not counted.
"""

JOULES_WRITTEN = 0.5  # for a token
JOULES_READ = 0.05  # for a token
RADIO_WATTS = 1.1
RADIO_TAIL = 11.6  # seconds
JOULES_SENT = 0.44e-6 * 8  # for a byte
BYTES_READ = 2  # that a token of the prompt takes on the wire (a varint)
BATTERY = 54_000  # joules: 15 Wh


class Radio:
    """How long the radio was on: answers close to each other share a tail."""

    def __init__(self) -> None:
        self.joules = 0.0
        self._on_until = 0.0

    def used(self, start: float, end: float) -> None:
        """It moved bytes from `start` to `end`; calls come about in the order of their ends."""
        off_from = end + RADIO_TAIL
        self.joules += RADIO_WATTS * max(0.0, off_from - max(start, self._on_until))
        self._on_until = max(self._on_until, off_from)

    def sent(self, tokens: int) -> None:
        """It sent a prompt."""
        self.joules += tokens * BYTES_READ * JOULES_SENT
